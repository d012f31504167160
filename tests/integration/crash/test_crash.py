"""kill -9 of each program while secrets change.

A writer puts numbered values one after another; a killer ends one program at an instant drawn from a
printed seed (POSTERN_SEED repeats a run), spread over how long a change takes from the put to the
node's confirmation. After each kill the program starts again, and what the pod reads must be exactly
one value: the last that was acknowledged, or one that was put after it and whose acknowledgement the
kill took away. Kills that hit inside a write are counted, and there must be some.

POSTERN_KILLS: how many for each program (50)."""
import os
import pathlib
import random
import sys
import tempfile
import threading
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "testlib"))
from harness import Failure, World, wait_for  # noqa: E402
from stage import admitted_node  # noqa: E402

KILLS = int(os.environ.get("POSTERN_KILLS", "50"))
SEED = int(os.environ.get("POSTERN_SEED", str(random.randrange(1 << 32))))
NAME = "crash/value"


class Writer(threading.Thread):
    """Puts value after value until it is stopped; knows which were acknowledged."""

    def __init__(self, stage, allow, first):
        super().__init__(daemon=True)
        self.stage, self.allow = stage, allow
        self.next = first
        self.acknowledged = None
        self.putting = None  # the value on its way
        self.stopped = False

    def run(self):
        while not self.stopped:
            self.putting = self.next
            self.next += 1
            try:
                self.stage.authority.put_secret(NAME, f"value {self.putting}", self.allow)
                self.acknowledged = self.putting
            except Failure:
                time.sleep(0.02)
            self.putting = None

    def stop(self):
        self.stopped = True
        self.join(60)


class Crash(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        print(f"seed {SEED}, {KILLS} kills of each program", flush=True)
        cls.holder = tempfile.TemporaryDirectory(prefix="crash-")
        cls.world = World(pathlib.Path(cls.holder.name) / "w", {"app": "demo/app"})
        cls.world.__enter__()
        cls.stage = admitted_node(cls.world, "app")
        cls.allow = cls.world.pods["app"]
        cls.stage.authority.put_secret(NAME, "value 0", cls.allow)
        cls.next = 1

    @classmethod
    def tearDownClass(cls):
        cls.world.__exit__(None, None, None)
        cls.holder.cleanup()

    def read(self):
        return int(self.stage.clients.read(self.stage.sidecar, NAME).removeprefix("value "))

    def version(self):
        """(version, whether every node that may have it has confirmed it)"""
        for secret in self.stage.authority.ctl_json("secret", "list")["secrets"]:
            if secret["name"] == NAME:
                return int(secret["version"]), \
                    secret["nodesConfirmed"] == secret["nodesEntitled"]
        raise Failure("the secret is not listed")

    def settle(self):
        """Waits until the node holds the newest version, and returns the value that is read."""
        try:
            wait_for("the node to confirm the newest version", lambda: self.version()[1], 60)
            return self.read()
        except Failure:
            for thing in (self.stage.authority, self.stage.agent):
                print(f"── {thing.process.name}", *thing.process.output().splitlines()[-25:],
                      sep="\n   ", flush=True)
            raise

    def kill_many(self, thing, hit):
        """`hit` says, right after the kill, whether it came inside a write."""
        generator = random.Random(f"{SEED} {thing.process.name}")
        inside = unacknowledged = 0
        duration = 1.0  # seconds from a put until the node has confirmed it: measured below
        for number in range(KILLS):
            writer = Writer(self.stage, self.allow, self.next)
            began = time.monotonic()
            writer.start()
            time.sleep(generator.random() * duration)
            thing.process.kill()
            inside += hit(writer)
            writer.stop()
            thing.start()
            self.assertIsNone(writer.putting)
            value = self.settle()
            least = writer.acknowledged if writer.acknowledged is not None else self.next - 1
            self.assertGreaterEqual(value, min(least, writer.next - 1),
                                    f"kill {number}: an acknowledged value is lost")
            self.assertLess(value, writer.next, f"kill {number}: a value that nobody put")
            # Whatever was decided stays decided.
            self.assertEqual(self.read(), value)
            # In force, though nobody was told: the kill came between commit and acknowledgement.
            unacknowledged += writer.acknowledged is None or value > writer.acknowledged
            self.next = writer.next
            # The floor of the next round: what is read now was either acknowledged or is in force.
            self.stage.authority.put_secret(NAME, f"value {self.next}", self.allow)
            self.assertEqual(self.settle(), self.next)
            self.next += 1
            duration = max(0.3, min(3.0, (time.monotonic() - began) / 3))
        print(f"{thing.process.name}: {KILLS} kills, {inside} inside a write, {unacknowledged} of them "
              "between commit and acknowledgement", flush=True)
        self.assertGreater(inside, 0)

    def test_authority(self):
        self.kill_many(self.stage.authority, lambda writer: writer.putting is not None)

    def test_node(self):
        """Inside: the killed agent had not yet confirmed what the authority had."""
        self.kill_many(self.stage.agent, lambda writer: not self.version()[1])

    def test_sidecar(self):
        """It writes nothing; a kill inside is one while a value was on its way."""
        self.kill_many(self.stage.sidecar, lambda writer: writer.putting is not None)


if __name__ == "__main__":
    unittest.main(verbosity=2)
