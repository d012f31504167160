"""SIGHUP on a running machine. With a bad file the old configuration stays in force, which behaviour
shows, and the log says why; with a good one it is the new one. Policies come into force together or
not at all."""
import pathlib
import signal
import socket
import tempfile
import unittest

from expect import INVALID, NOT_FOUND, refusal
from harness import TRUST_DOMAIN, Failure, Sidecar, World, free_port, wait_for
from stage import admitted_node

SECRET = "reload/secret"


class Reload(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.holder = tempfile.TemporaryDirectory(prefix="reload-")
        cls.world = World(pathlib.Path(cls.holder.name) / "w", {"app": "demo/app", "web": "demo/web"})
        cls.world.__enter__()
        try:
            cls.stage = admitted_node(cls.world, "app")
            cls.app = cls.stage.sidecar
            cls.web = cls.world.add(Sidecar(cls.world, "web", cls.stage.agent)).start()
            cls.stage.authority.put_secret(SECRET, "value", cls.world.pods["app"])
            wait_for("the secret", lambda: cls.stage.clients.read(cls.app, SECRET) == "value", 60)
        except BaseException:
            cls.tearDownClass()
            raise

    @classmethod
    def tearDownClass(cls):
        cls.world.__exit__(None, None, None)
        cls.holder.cleanup()

    def hang_up(self, process, text):
        """SIGHUP; returns what was logged since, once `text` is in it."""
        before = len(process.output())
        process.child.send_signal(signal.SIGHUP)
        return wait_for(f'{process.name} to log "{text}"', lambda: [
            line for line in process.output()[before:].splitlines() if text in line], 10)[0]

    def refused(self, process, config, text, place, expected):
        """The file says `text`, which is refused; the file is as it was again afterwards, so that the
        next SIGHUP is a good one."""
        good = config.read_text()
        config.write_text(text)
        try:
            line = self.hang_up(process, "stays as it was")
            self.assertIn(f"{config}:{place}", line)
            self.assertIn(expected, line)
            self.assertTrue(process.running())
        finally:
            config.write_text(good)

    def may(self, sidecar):
        try:
            return self.stage.clients.read(sidecar, SECRET) == "value"
        except Failure:
            return False

    # ── the node agent ──────────────────────────────────────────────────────────────────────────

    def test_node(self):
        agent = self.stage.agent
        good = agent.config.read_text()
        web, app = self.world.pods["web"], self.world.pods["app"]
        swapped = good.replace(web, "?").replace(app, web).replace("?", app)
        # A mapping that would take the app's secret away, in a file with one mistake.
        self.refused(agent.process, agent.config, swapped + "no_such: 1\n",
                     f"{swapped.count(chr(10)) + 1}:1: no_such", "expected one of")
        self.refused(agent.process, agent.config, swapped.replace(app, f"spiffe://{TRUST_DOMAIN}"),
                     "", "workload")
        self.refused(agent.process, agent.config,
                     swapped.replace(f"state_dir: {agent.state}", "state_dir: /elsewhere"),
                     "4:12: state_dir", "restart")
        self.refused(agent.process, agent.config, swapped + "max_offline: 1h\n",
                     f"{swapped.count(chr(10)) + 1}:14: max_offline", "restart")
        self.refused(agent.process, agent.config, "", "1:1: authority", "missing")
        self.assertTrue(self.may(self.app))
        self.assertFalse(self.may(self.web))
        agent.config.write_text(swapped)
        try:
            self.hang_up(agent.process, "read anew")
            wait_for("web to be the app now", lambda: self.may(self.web))
            self.assertFalse(self.may(self.app))
            wait_for("the sidecar to know", lambda: self.stage.clients.status(
                self.web).get("spiffeId") == app)
        finally:
            agent.config.write_text(good)
        self.hang_up(agent.process, "read anew")
        wait_for("the app to be the app again", lambda: self.may(self.app))
        self.assertFalse(self.may(self.web))

    def test_node_file_gone(self):
        agent = self.stage.agent
        aside = agent.config.with_suffix(".aside")
        agent.config.rename(aside)
        try:
            line = self.hang_up(agent.process, "stays as it was")
            self.assertIn(str(agent.config), line)
        finally:
            aside.rename(agent.config)
        self.assertTrue(self.may(self.app))

    # ── the sidecar ─────────────────────────────────────────────────────────────────────────────

    def test_sidecar(self):
        process = self.web.process
        config = self.web.folder / "postern.yaml"
        good = config.read_text()
        lines = good.count("\n")
        other = free_port()
        self.refused(process, config, good + "log: {format: jsn}\n", f"{lines + 1}:15: log.format",
                     "json")
        self.refused(process, config, good.replace(self.web.target, "0.0.0.0:1"),
                     "3:13: app_listen", "loopback")
        self.refused(process, config, good.replace(self.web.target, f"127.0.0.1:{other}"),
                     "3:13: app_listen", "restart")
        with self.assertRaises(OSError):
            socket.create_connection(("127.0.0.1", other), 1)
        self.assertEqual(self.stage.clients.status(self.web)["version"], "0.1.0")
        # What may change, does: the old format was text until here.
        config.write_text(good + "log: {format: json}\n")
        try:
            line = self.hang_up(process, "read anew")
            self.assertTrue(line.startswith("{"), line)
        finally:
            config.write_text(good)
        line = self.hang_up(process, "read anew")
        self.assertFalse(line.startswith("{"), line)

    # ── the authority ───────────────────────────────────────────────────────────────────────────

    def policies(self):
        return self.stage.authority.folder / "policies"

    def knows(self, policy):
        done = self.stage.authority.ctl("node", "token", "--policy", policy, check=False)
        self.assertIn(done.returncode, (0, NOT_FOUND), done.stderr)
        return done.returncode == 0

    def test_authority(self):
        authority = self.stage.authority
        config = authority.folder / "authority.yaml"
        good = config.read_text()
        lines = good.count("\n")
        self.refused(authority.process, config, good + "no_such: 1\n", f"{lines + 1}:1: no_such",
                     "expected one of")
        self.refused(authority.process, config, good.replace("data_dir: data", "data_dir: other"),
                     "1:11: data_dir", "restart")
        self.refused(authority.process, config,
                     good.replace(f"127.0.0.1:{authority.port}", f"127.0.0.1:{free_port()}"),
                     "3:9: listen", "restart")
        # A path that does not exist is found when it is read.
        missing = good.replace(str(self.stage.tpm.vendor), "/nonexistent.pem")
        config.write_text(missing)
        try:
            self.assertIn("/nonexistent.pem", self.hang_up(authority.process, "stays as it was"))
        finally:
            config.write_text(good)
        self.assertTrue(self.knows("demo"))
        self.stage.authority.ctl("attest", "now", self.stage.agent_id)
        self.assertEqual(self.stage.node()["verdict"], "VERDICT_AFFIRMING")

    def test_policies(self):
        authority = self.stage.authority
        folder = self.policies()
        demo = (folder / "attestation/demo.yaml").read_text()
        second = folder / "attestation/second.yaml"
        release = folder / "release/demo.yaml"
        allowed = release.read_text()
        bad = folder / "attestation/zz-bad.yaml"
        named = lambda name: demo.replace("name: demo", f"name: {name}")  # noqa: E731
        for kind, text, place, expected in (
                ("attestation", named("zz").replace("seal:", "seals:"), ":1: seals", "seal"),
                ("attestation", demo, ":7: name", "already"),
                ("attestation", named("Big"), ":7: name", "a-z"),
                ("attestation", named("zz").replace("index: 0", "index: 24"), "index", "23"),
                ("attestation", "", ":1:1: name", "missing"),
                ("attestation", named("zz").replace('"15m"', "1"), ": appraisal_lifetime", "duration"),
                ("attestation", named("zz") + "firmware_floor: new\n", ": firmware_floor", "hex"),
                ("attestation", named("zz").replace("seal: ", "seal: \"sha256:10\" #"), ": seal", "10"),
                ("attestation", "{", ":2:1", "not YAML"),
                ("release", "vouch:\n  - nodes: [x]\n    spiffe_ids: []\n", ":2:13: vouch[0].nodes[0]",
                 "32"),
                ("release", f"vouch:\n  - nodes: ['*']\n    spiffe_ids: [demo]\n",
                 ":3:18: vouch[0].spiffe_ids[0]", "spiffe://"),
                ("release", "vouch:\n  - nodes: ['*']\n    spiffe_ids:\n"
                            f"      - spiffe://{TRUST_DOMAIN}/postern/*\n",
                 ":4:9: vouch[0].spiffe_ids[0]", "postern"),
                ("release", "vouch: all\n", ":1:8: vouch", "sequence"),
        ):
            with self.subTest(kind, text=text):
                # A good one comes, and what allows the app goes, beside the one that is bad.
                bad = folder / kind / "zz-bad.yaml"
                bad.write_text(text)
                second.write_text(named("second"))
                release.write_text("vouch: []\n")
                try:
                    line = self.hang_up(authority.process, "stays as it was")
                    self.assertIn(str(bad), line)
                    self.assertIn(place, line)
                    self.assertIn(expected, line)
                    self.assertFalse(self.knows("second"))
                    self.assertFalse(self.knows("zz"))
                finally:
                    bad.unlink()
                    second.unlink()
                    release.write_text(allowed)
        self.assertTrue(self.may(self.app))
        # And at the start: it does not run on half of its policies.
        bad = folder / "attestation/zz-bad.yaml"
        bad.write_text("name: zz\n")
        try:
            line = refusal(self, INVALID, "postern-authority", "--config",
                           authority.folder / "authority.yaml")
            self.assertIn(f"{bad}:1:1: seal", line)
        finally:
            bad.unlink()
        # Without the bad one: all of it.
        second.write_text(named("second"))
        self.hang_up(authority.process, "read anew")
        self.assertTrue(self.knows("second"))
        second.unlink()
        self.hang_up(authority.process, "read anew")
        self.assertFalse(self.knows("second"))

    def test_release_policy(self):
        """What no policy allows any more is taken from the node."""
        authority = self.stage.authority
        release = self.policies() / "release/demo.yaml"
        allowed = release.read_text()
        release.write_text("vouch: []\n")
        try:
            self.hang_up(authority.process, "read anew")
            wait_for("the app to have it no more", lambda: not self.may(self.app))
        finally:
            release.write_text(allowed)
        self.hang_up(authority.process, "read anew")
        wait_for("the app to have it again", lambda: self.may(self.app), 30)


if __name__ == "__main__":
    unittest.main(verbosity=2)
