"""What the machine can do to a node agent and to a sidecar: a TPM that is absent or busy, a disk that is
full, sockets and ports that are taken, files that are missing, damaged or another's, an authority that
is not the right one. What can't pass ends the program with one line and its code; what may pass is said
in the log and waited for. Nothing is left half-written."""
import contextlib
import pathlib
import shutil
import socket
import tempfile
import unittest

from expect import (CONFLICT, DENIED, EXHAUSTED, INVALID, NOBODY, NOT_FOUND, fill, refusal,
                    small_disk, tree)
from harness import Authority, NodeAgent, Tpm, World, find_program, run, wait_for
from stage import admitted_node

SECRET = "node/secret"


@contextlib.contextmanager
def listening(path):
    """A live server at a socket file."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        yield
    path.unlink()


class Case(unittest.TestCase):
    """A machine that is admitted, once for all tests of a class; each may start its own agents."""

    @classmethod
    def setUpClass(cls):
        cls.holder = tempfile.TemporaryDirectory(prefix="node-")
        cls.world = World(pathlib.Path(cls.holder.name) / "w", {"app": "demo/app"})
        cls.world.__enter__()
        try:
            cls.set_stage()
        except BaseException:
            cls.tearDownClass()
            raise

    @classmethod
    def tearDownClass(cls):
        cls.world.__exit__(None, None, None)
        cls.holder.cleanup()

    def setUp(self):
        self.scratch = tempfile.TemporaryDirectory(prefix="case-")
        self.addCleanup(self.scratch.cleanup)
        self.folder = pathlib.Path(self.scratch.name)


class Start(Case):
    """An agent that must not start. It needs no TPM for that: none is asked before the socket is there."""

    @classmethod
    def set_stage(cls):
        cls.authority = cls.world.add(Authority(cls.world.folder / "authority"))
        run([find_program("postern-authority"), "init", cls.authority.folder, "--trust-domain",
             "demo.postern", "--listen", cls.authority.address])

    def config(self, *changes, **settings):
        """A configuration in which every path is in our folder; (old, new) pairs change its text."""
        values = {"trust": self.authority.trust, "state": self.folder / "state",
                  "tcti": f"swtpm:path={self.folder}/tpm", "socket": self.folder / "pod.sock"}
        values |= settings
        path = self.folder / "node.yaml"
        text = (f"authority:\n  address: {self.authority.address}\n"
                f"  trust_anchor: {values['trust']}\nstate_dir: {values['state']}\n"
                f"tpm:\n  tcti: {values['tcti']}\npod_socket: {values['socket']}\n")
        for old, new in changes:
            text = text.replace(old, new)
        path.write_text(text)
        return path

    def not_started(self, code, config, **options):
        before = tree(self.folder)
        line = refusal(self, code, "postern-node", "--config", config, **options)
        self.assertTrue(line.startswith("cannot start: "), line)
        after = {path: entry for path, entry in tree(self.folder).items()
                 if path not in ("state", "state/counter.auth")}  # whole, if they are there
        self.assertEqual({p: e for p, e in before.items() if p in after}, after)
        self.assertLessEqual(set(before) - {"state", "state/counter.auth"}, set(after))
        return line

    def test_trust_anchor(self):
        self.assertIn("missing.pem", self.not_started(NOT_FOUND, self.config(
            trust=self.folder / "missing.pem")))
        junk = self.folder / "junk.pem"
        pem = self.authority.trust.read_text()
        first = pem[:pem.index("-----END CERTIFICATE-----\n") + 26]
        for what, text in (
                ("empty", ""), ("no PEM", "junk\n"),
                ("cut short", first[:400]),
                ("not base64", first.replace("M", "?")),
                ("the classical certificate alone", first),
                ("the post-quantum one alone", pem[len(first):]),
                ("a key", (self.authority.folder / "operator.key").read_text()),
                ("no CA", (self.authority.folder / "operator.pem").read_text()),
        ):
            with self.subTest(what):
                junk.write_text(text)
                line = self.not_started(INVALID, self.config(trust=junk))
                self.assertIn("junk.pem", line)

    def test_state_dir(self):
        self.assertIn("no/state", self.not_started(NOT_FOUND, self.config(
            state=self.folder / "no/state")))
        (self.folder / "state").write_text("mine\n")
        self.assertIn("no folder", self.not_started(CONFLICT, self.config()))
        self.assertEqual((self.folder / "state").read_text(), "mine\n")
        (self.folder / "state").unlink()
        # As a user who may read the trust anchor and write nothing.
        self.folder.chmod(0o755)
        trust = self.folder / "trust.pem"
        shutil.copy(self.authority.trust, trust)
        line = self.not_started(DENIED, self.config(trust=trust), user=NOBODY, group=NOBODY)
        self.assertIn("state", line)
        (self.folder / "state").mkdir(mode=0o755)
        line = self.not_started(DENIED, self.config(trust=trust), user=NOBODY, group=NOBODY)
        self.assertIn("state", line)
        self.assertEqual(list((self.folder / "state").iterdir()), [])

    def test_state_dir_read_only(self):
        with small_disk(self, self.folder / "disk", 1 << 20) as disk:
            run(["mount", "-o", "remount,ro", disk])
            line = self.not_started(DENIED, self.config(state=disk / "state"))
            self.assertIn("ead-only", line)

    def test_state_dir_full(self):
        with small_disk(self, self.folder / "disk", 64 << 10) as disk:
            (disk / "state").mkdir()
            fill(disk)
            line = self.not_started(EXHAUSTED, self.config(state=disk / "state"))
            self.assertIn("No space left", line)
            self.assertEqual(tree(disk / "state"), {})

    def test_counter_password(self):
        (self.folder / "state").mkdir()
        (self.folder / "state/counter.auth").write_bytes(b"short")
        (self.folder / "state/counter.auth").chmod(0o600)
        self.assertIn("damaged", self.not_started(INVALID, self.config()))
        (self.folder / "state/counter.auth").write_bytes(b"")
        self.assertIn("counter.auth", self.not_started(INVALID, self.config()))
        (self.folder / "state/counter.auth").write_bytes(b"x" * 32)
        (self.folder / "state/counter.auth").chmod(0o640)
        self.assertIn("chmod 600", self.not_started(DENIED, self.config()))

    def test_passwords_of_hierarchies(self):
        for field in ("owner_auth_file", "endorsement_auth_file"):
            line = self.not_started(NOT_FOUND, self.config(
                ("tpm:\n", f"tpm:\n  {field}: {self.folder}/missing\n")))
            self.assertIn("missing", line)

    def test_socket(self):
        path = self.folder / "pod.sock"
        with listening(path):
            line = self.not_started(CONFLICT, self.config())
            self.assertIn(str(path), line)
            self.assertIn("in use", line)
        path.write_text("mine\n")
        self.assertIn("no socket", self.not_started(CONFLICT, self.config()))
        path.unlink()
        self.assertIn("no/such", self.not_started(NOT_FOUND, self.config(
            socket=self.folder / "no/such/pod.sock")))
        (self.folder / "file").write_text("mine\n")
        self.assertIn("file", self.not_started(CONFLICT, self.config(
            socket=self.folder / "file/pod.sock")))

    def test_stale_socket(self):
        """What a killed agent left does not stop the next."""
        agent = NodeAgent(self.world, "stale", Tpm(self.folder / "none"), self.authority)
        agent.start()
        self.addCleanup(lambda: agent.process.end())
        agent.process.kill()
        self.assertTrue(agent.socket.is_socket())
        left = agent.socket.lstat().st_ino
        agent.process.start()
        wait_for("a new socket", lambda: agent.socket.lstat().st_ino != left)
        # And a second one beside it does not take its place.
        line = refusal(self, CONFLICT, "postern-node", "--config", agent.config)
        self.assertIn("in use", line)
        agent.process.end()
        self.assertFalse(agent.socket.exists())


class Away(Case):
    """What may pass: it is said, and waited for."""

    @classmethod
    def set_stage(cls):
        cls.tpm = cls.world.add(Tpm(cls.world.folder / "machine"))
        cls.tpm.make()
        cls.authority = cls.world.add(Authority(cls.world.folder / "authority")).init(cls.tpm.vendor)
        cls.authority.start()
        cls.world.cgroups.make("app")

    def agent(self, name, *changes):
        # One state for all: the TPM's counter has its password there.
        agent = self.world.add(NodeAgent(self.world, name, self.tpm, self.authority,
                                         state=self.world.folder / "state"))
        text = agent.config.read_text()
        for old, new in changes:
            text = text.replace(old, new)
        agent.config.write_text(text)
        self.addCleanup(lambda: agent.process.end())
        return agent

    def power(self):
        if not (self.tpm.process and self.tpm.process.running()):
            self.tpm.power_on()

    def said_once(self, agent, text, lines=1):
        """Said, and not again and again within the same second."""
        said = [line for line in agent.process.output().splitlines() if text in line]
        self.assertGreaterEqual(len(said), lines)
        times = [line.split(" ", 1)[0] for line in said]
        self.assertEqual(len(times), len(set(times)), said)

    def pending(self):
        return wait_for("a node to be pending", lambda: [
            n for n in self.authority.nodes() if n["admission"] == "ADMISSION_PENDING"])

    def test_tpm_absent_then_busy(self):
        self.tpm.power_off()
        agent = self.agent("tpm", (f"tcti: {self.tpm.tcti}",
                                   f"tcti: {self.tpm.tcti}\n  busy_timeout: 1s")).start()
        line = agent.process.wait_output("is swtpm running?")
        self.assertIn(str(self.tpm.socket), line)
        self.assertTrue(agent.process.running())
        self.said_once(agent, "is swtpm running?")
        self.tpm.power_on()
        self.pending()
        agent.process.end()
        # swtpm serves one connection: this is somebody who does not let go.
        with socket.socket(socket.AF_UNIX) as other:
            wait_for("the TPM", lambda: other.connect(str(self.tpm.socket)) is None)
            agent.start()
            agent.process.wait_output("busy, or used by another program")
            self.assertTrue(agent.process.running())
            before = self.authority.nodes()[0]["lastSeenAt"]
        wait_for("it to be seen again", lambda: self.authority.nodes()[0]["lastSeenAt"] > before, 30)
        # And the TPM goes away in the middle: it is said, and it comes back by itself.
        agent.process.end()
        self.tpm.power_off()
        agent.start()
        agent.process.wait_output("is swtpm running?")

    def test_no_device(self):
        agent = self.agent("device", (f"tcti: {self.tpm.tcti}", "tcti: device:/dev/no-such-tpm"))
        agent.start()
        line = agent.process.wait_output("this machine shows no TPM")
        self.assertIn("/dev/no-such-tpm", line)
        self.assertTrue(agent.process.running())

    def test_another_authority(self):
        """The trust anchor is another's: the line names the file and what to do."""
        other = Authority(self.world.folder / "other")
        run([find_program("postern-authority"), "init", other.folder, "--trust-domain",
             "demo.postern", "--listen", other.address])
        self.power()
        agent = self.agent("foreign", (str(self.authority.trust), str(other.trust))).start()
        line = agent.process.wait_output("trust anchor")
        self.assertIn(str(other.trust), line)
        self.assertIn("copy", line)
        self.assertTrue(agent.process.running())
        agent.process.end()
        agent = self.agent("misnamed", ("authority:\n", "authority:\n  server_name: elsewhere\n")).start()
        line = agent.process.wait_output("elsewhere")

    def test_no_authority(self):
        self.power()
        agent = self.agent("lonely", (self.authority.address, "127.0.0.1:9")).start()
        line = agent.process.wait_output("127.0.0.1:9")
        self.assertIn("refused", line)
        self.assertTrue(agent.process.running())
        agent.process.end()
        agent = self.agent("lost", (self.authority.address, "no-such-host.invalid:15550")).start()
        agent.process.wait_output("no-such-host.invalid")

    def test_join_token(self):
        self.power()
        agent = self.agent("tokens")
        agent.start()
        line = agent.process.wait_output("no join token")
        self.assertIn(str(agent.token), line)
        agent.process.end()
        for what, token, says in (("not ours", "join-of-no-one\n", "join token"),
                                  ("no text", "\udcff\udcfe", "no join token in it")):
            with self.subTest(what):
                agent.token.write_bytes(token.encode("utf-8", "surrogateescape"))
                agent.start()
                agent.process.wait_output(says)
                self.assertTrue(agent.process.running())
                agent.process.end()


class Disk(Case):
    """The node's state on a disk that fills up, and files on it that are damaged."""

    @classmethod
    def set_stage(cls):
        cls.stage = admitted_node(cls.world, "app")

    def holds(self, value):
        return self.stage.clients.read(self.stage.sidecar, SECRET) == value

    def put(self, value):
        self.stage.authority.put_secret(SECRET, value, self.world.pods["app"])

    def confirmed(self):
        secret = next(s for s in self.stage.authority.ctl_json("secret", "list")["secrets"]
                      if s["name"] == SECRET)
        return int(secret.get("nodesConfirmed", 0)) == 1

    def test_full(self):
        agent = self.stage.agent
        self.put("first")
        wait_for("the first value", lambda: self.holds("first") and self.confirmed(), 60)
        agent.process.end()
        aside = agent.state.with_name("aside")
        agent.state.rename(aside)
        with small_disk(self, agent.state, 1 << 20) as disk:
            shutil.copytree(aside, disk, dirs_exist_ok=True)
            agent.start()
            wait_for("the first value", lambda: self.holds("first"), 60)
            self.stage.wait_verdict("AFFIRMING")
            wait_for("the node to be connected", lambda: self.stage.node()["connected"], 30)
            ballast = fill(disk)
            names = sorted(tree(disk))
            self.put("second")
            line = agent.process.wait_output("nothing new is kept")
            self.assertIn("No space left", line)
            self.assertIn("slot-", line)
            # Served from memory, and not called durable.
            wait_for("the second value", lambda: self.holds("second"))
            self.assertFalse(self.confirmed())
            self.assertEqual(sorted(tree(disk)), names)
            self.assertTrue(agent.process.running())
            # What is on the disk is still whole.
            agent.process.kill()
            agent.start()
            agent.process.wait_output("unsealed generation")
            ballast.unlink()
            wait_for("it to be kept", self.confirmed, 60)
            self.assertTrue(self.holds("second"))
            agent.process.end()
            shutil.rmtree(aside)
            shutil.copytree(disk, aside)
        aside.rename(agent.state)
        agent.start()
        wait_for("the value", lambda: self.holds("second"), 60)

    def test_damaged_slots(self):
        agent = self.stage.agent
        self.put("third")
        wait_for("the value to be kept", lambda: self.holds("third") and self.confirmed(), 60)
        slots = [agent.state / name for name in ("slot-a", "slot-b")]
        wait_for("both slots", lambda: all(slot.exists() for slot in slots), 60)
        agent.process.end()
        # One: the other has it.
        newest = max(slots, key=lambda slot: slot.stat().st_mtime_ns)
        whole = newest.read_bytes()
        for what, data in (("cut short", whole[:len(whole) // 2]), ("empty", b""),
                           ("changed", whole[:-1] + bytes([whole[-1] ^ 1]))):
            with self.subTest(what):
                newest.write_bytes(data)
                agent.start()
                line = agent.process.wait_output(newest.name)
                self.assertNotIn("INFO", line)
                wait_for("the value", lambda: self.holds("third"), 60)
                wait_for("the node to be synced", lambda: self.stage.node()["connected"], 30)
                agent.process.end()
                newest.write_bytes(whole)
        # Both: all is fetched anew.
        for slot in slots:
            slot.write_bytes(b"damaged")
        agent.start()
        for slot in slots:
            agent.process.wait_output(f"{slot}: ")
        wait_for("the value", lambda: self.holds("third"), 60)


class SidecarStart(unittest.TestCase):
    """A sidecar needs neither TPM nor node to say what is wrong."""

    def setUp(self):
        self.holder = tempfile.TemporaryDirectory(prefix="side-")
        self.addCleanup(self.holder.cleanup)
        self.folder = pathlib.Path(self.holder.name)

    def not_started(self, code, *, app_socket=None, app_listen="", **options):
        config = self.folder / "postern.yaml"
        config.write_text(f"node_socket: {self.folder}/pod.sock\n"
                          f"app_socket: {app_socket or self.folder / 'app.sock'}\n"
                          f"app_listen: '{app_listen}'\n")
        before = tree(self.folder)
        line = refusal(self, code, "postern", "--config", config, **options)
        self.assertTrue(line.startswith("cannot start: "), line)
        self.assertEqual(before, tree(self.folder))
        return line

    def test_port_in_use(self):
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            target = f"127.0.0.1:{other.getsockname()[1]}"
            line = self.not_started(CONFLICT, app_listen=target)
        self.assertIn(target, line)
        self.assertIn("in use", line)

    def test_socket(self):
        path = self.folder / "app.sock"
        with listening(path):
            self.assertIn("in use", self.not_started(CONFLICT))
        path.write_text("mine\n")
        self.assertIn("no socket", self.not_started(CONFLICT))
        path.unlink()
        self.assertIn("no/such", self.not_started(NOT_FOUND,
                                                  app_socket=self.folder / "no/such/app.sock"))
        self.folder.chmod(0o755)
        line = self.not_started(DENIED, user=NOBODY, group=NOBODY)
        self.assertIn("app.sock", line)


if __name__ == "__main__":
    unittest.main(verbosity=2)
