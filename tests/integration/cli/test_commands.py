"""posternctl against a running authority and a node with a software TPM: what each command prints as
text and as JSON, and how it is refused."""
import json
import pathlib
import re
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "testlib"))
from harness import TRUST_DOMAIN, World, run, wait_for  # noqa: E402
from stage import join, record_policy, started_node  # noqa: E402

INVALID, DENIED, NOT_FOUND, UNAVAILABLE = 2, 3, 4, 6
APP = f"spiffe://{TRUST_DOMAIN}/demo/app"
NOBODY = "0" * 32


class Commands(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.holder = tempfile.TemporaryDirectory(prefix="cli-")
        cls.world = World(pathlib.Path(cls.holder.name) / "w", {"app": "demo/app"})
        cls.world.__enter__()
        try:
            cls.stage = started_node(cls.world)
            record_policy(cls.stage)
            join(cls.stage)
        except BaseException:
            cls.tearDownClass()
            raise
        cls.agent = cls.stage.agent_id

    @classmethod
    def tearDownClass(cls):
        cls.world.__exit__(None, None, None)
        cls.holder.cleanup()

    def ctl(self, *arguments, **options):
        return self.stage.authority.ctl(*arguments, **options).stdout

    def ctl_json(self, *arguments):
        return self.stage.authority.ctl_json(*arguments)

    def put(self, name, value, *more, check=True):
        path = self.world.folder / "value"
        path.write_bytes(value)
        return self.stage.authority.ctl("secret", "put", name, "--value-file", path, *more,
                                        check=check)

    def refused(self, code, *arguments, says):
        done = self.stage.authority.ctl(*arguments, check=False)
        self.assertEqual((done.returncode, done.stdout), (code, ""), done.stderr)
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        self.assertIn(says, done.stderr)

    def column(self, table, row, title):
        """The text under a title, in the row that begins so."""
        lines = table.splitlines()
        start = lines[0].index(title)
        line = next(line for line in lines if line.startswith(row))
        return re.split(r" {2,}", line[start:])[0]

    def test_nodes(self):
        listed = self.ctl("node", "list")
        self.assertEqual(self.column(listed, self.agent, "ADMISSION"), "admitted")
        self.assertEqual(self.column(listed, self.agent, "POLICY"), "demo")
        self.assertEqual(self.column(listed, self.agent, "VERDICT"), "affirming")
        nodes = self.ctl_json("node", "list")["nodes"]
        self.assertEqual([(n["agentId"], n["admission"]) for n in nodes],
                         [(self.agent, "ADMISSION_ADMITTED")])

    def test_check_config(self):
        printed = self.ctl("--check-config")
        self.assertIn("authority:", printed)
        self.assertIn("server_name: postern-authority", printed)

    def test_prefixes(self):
        for digits in (1, 8, 31):
            prefix = self.agent[:digits]
            self.assertEqual(self.ctl_json("attest", "status", prefix)["agentId"], self.agent)
        none = "0" if self.agent[0] != "0" else "1"
        self.refused(NOT_FOUND, "attest", "status", none, says=f"no node begins with {none}")
        self.refused(NOT_FOUND, "attest", "status", NOBODY, says=NOBODY)

    def test_approve_and_accept_clear(self):
        self.assertEqual(self.ctl("node", "approve", self.agent[:6], "--policy", "demo"),
                         f"{self.agent} is admitted under demo\n")
        self.refused(NOT_FOUND, "node", "approve", self.agent, "--policy", "none", says="none")
        self.refused(NOT_FOUND, "node", "approve", NOBODY, "--policy", "demo", says=NOBODY)
        self.assertIn(self.agent, self.ctl("node", "accept-clear", self.agent))
        self.refused(NOT_FOUND, "node", "deny", NOBODY, says=NOBODY)

    def test_token(self):
        done = self.stage.authority.ctl("node", "token", "--policy", "demo", "--lifetime", "1h")
        self.assertRegex(done.stdout, r"^join-[\w-]+\n$")
        self.assertRegex(done.stderr, r"^good for one node until 20\S+Z\n$")
        again = self.ctl_json("node", "token", "--policy", "demo")
        self.assertEqual(sorted(again), ["expiresAt", "token"])
        self.refused(NOT_FOUND, "node", "token", "--policy", "none", says="none")
        self.refused(INVALID, "node", "token", "--policy", "demo", "--lifetime", "2d", says="a day")

    def test_record(self):
        recorded = self.ctl("attest", "record", self.agent, "--name", "again")
        self.assertIn("name: again\n", recorded)
        self.assertIn("index: 7\n", recorded)
        less = self.ctl("attest", "record", self.agent, "--name", "less", "--pcrs", "sha256:0,7",
                        "--seal", "sha256:7")
        self.assertIn("seal: sha256:7\n", less)
        self.assertEqual(less.count("index: "), 2)
        self.assertEqual(self.ctl_json("attest", "record", self.agent, "--name", "again")["yaml"],
                         recorded)
        self.refused(INVALID, "attest", "record", self.agent, "--name", "x", "--pcrs", "sha256:99",
                     says="pcrs")

    def test_explain_and_status(self):
        explained = self.ctl("attest", "explain", self.agent)
        self.assertIn("no PCR differs from the policy\n", explained)
        self.assertRegex(explained, r"\n14 +nonce +holds\n")
        self.assertIn("checks", self.ctl_json("attest", "explain", self.agent))
        self.assertEqual(self.column(self.ctl("attest", "status"), self.agent, "VERDICT"),
                         "affirming")
        self.assertRegex(self.ctl("attest", "status", self.agent), r"\nverdict +affirming\n")

    def test_now(self):
        wait_for("the node's stream", lambda: self.stage.node()["connected"])
        before = self.stage.node()["appraisedAt"]
        after = self.ctl_json("attest", "now", self.agent)["node"]
        self.assertGreater(after["appraisedAt"], before)
        self.assertEqual(after["verdict"], "VERDICT_AFFIRMING")
        self.refused(UNAVAILABLE, "attest", "now", NOBODY, says="not connected")

    def test_secrets(self):
        self.assertEqual(self.put("cli/a", b"one").stdout, "cli/a is at version 1.1\n")
        self.assertEqual(self.column(self.ctl("secret", "list"), "cli/a", "ALLOWED"), "nobody")
        self.assertEqual(self.put("cli/a", b"two", "--allow", APP).stdout,
                         "cli/a is at version 1.2\n")
        listed = wait_for("the node to hold it", lambda: [
            line for line in self.ctl("secret", "list").splitlines()
            if line.startswith("cli/a") and " 1/1 " in line])
        self.assertIn(APP, listed[0])
        put = json.loads(self.put("cli/a", b"three", "-o", "json").stdout)
        self.assertEqual(put, {"epoch": 1, "version": "3"})
        self.assertEqual(self.ctl("secret", "put", "cli/a", "--allow", APP, "--allow", APP + "2"),
                         "cli/a is at version 1.3\n")
        text = self.ctl("secret", "list").splitlines()
        row = next(i for i, line in enumerate(text) if line.startswith("cli/a"))
        self.assertEqual(text[row].rstrip().split(" ")[-1], APP)
        self.assertEqual(text[row + 1].strip(), APP + "2")
        self.ctl("secret", "put", "cli/a", "--allow-nobody")
        self.assertEqual(self.column(self.ctl("secret", "list"), "cli/a", "ALLOWED"), "nobody")

    def test_secrets_refused(self):
        self.refused(NOT_FOUND, "secret", "put", "cli/none", "--allow", APP, says="needs a value")
        for name, allow, says in [
                ("Upper", APP, "name: expected"),
                ("cli/b", "app", "spiffe"),
                ("cli/b", f"spiffe://{TRUST_DOMAIN}/postern/node/x", "postern"),
                ("cli/b", "spiffe://elsewhere/app", "trust domain"),
        ]:
            done = self.put(name, b"x", "--allow", allow, check=False)
            self.assertEqual((done.returncode, done.stdout), (INVALID, ""), done.stderr)
            self.assertIn(says, done.stderr)

    def config(self, **changes):
        """operator.yaml with other files."""
        folder = self.stage.authority.folder
        values = {"trust_anchor": folder / "trust.pem", "certificate": folder / "operator.pem",
                  "key": folder / "operator.key"} | changes
        path = self.world.folder / "changed.yaml"
        path.write_text(f"authority:\n  address: {self.stage.authority.address}\n"
                        f"  trust_anchor: {values['trust_anchor']}\n"
                        f"certificate: {values['certificate']}\nkey: {values['key']}\n")
        return path

    def test_strangers(self):
        """Neither does it talk to an authority that it can't check, nor the authority to it."""
        stranger = self.world.folder / "stranger.pem"
        run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384",
             "-nodes", "-subj", "/CN=stranger", "-days", "1", "-keyout",
             self.world.folder / "stranger.key", "-out", stranger])
        (self.world.folder / "stranger.key").chmod(0o600)
        self.refused(DENIED, "--config", self.config(trust_anchor=stranger), "node", "list",
                     says="changed.yaml")
        self.refused(DENIED, "--config",
                     self.config(certificate=stranger, key=self.world.folder / "stranger.key"),
                     "node", "list", says="changed.yaml")


if __name__ == "__main__":
    unittest.main(verbosity=2)
