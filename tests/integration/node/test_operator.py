"""A pending node comes in as soon as its operator has acted, long before it would ask again by itself."""
import pathlib
import signal
import sys
import tempfile
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "testlib"))
from harness import World  # noqa: E402
from stage import join, record_policy, started_node  # noqa: E402

SOON = 8  # seconds; a pending node is asked to wait for 15, and an attestation takes one


class Operator(unittest.TestCase):
    def pending(self, folder):
        world = World(pathlib.Path(folder) / "w", {"app": "demo/app"})
        self.enterContext(world)
        stage = started_node(world)
        record_policy(stage)
        return stage

    def setUp(self):
        self.folder = self.enterContext(tempfile.TemporaryDirectory(prefix="operator-"))

    def test_a_token_file_is_enough(self):
        stage = self.pending(self.folder)
        began = time.monotonic()
        join(stage)
        self.assertLess(time.monotonic() - began, SOON)

    def test_approval_and_sighup(self):
        stage = self.pending(self.folder)
        began = time.monotonic()
        stage.authority.ctl("node", "approve", stage.agent_id, "--policy", "demo")
        stage.agent.process.child.send_signal(signal.SIGHUP)
        stage.wait_verdict("AFFIRMING")
        self.assertLess(time.monotonic() - began, SOON)


if __name__ == "__main__":
    unittest.main(verbosity=2)
