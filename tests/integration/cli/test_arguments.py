"""posternctl as a person meets it first: help, mistakes on the command line and in the configuration,
and an authority that is not there. Every refusal is one line on standard error, says what to do, and
has the exit code of its class."""
import os
import pathlib
import socket
import subprocess
import tempfile
import unittest

POSTERNCTL = pathlib.Path(os.environ["POSTERN_BIN"]) / "cli" / "posternctl"
COMMANDS = {
    "node": ["list", "approve", "deny", "token", "accept-clear"],
    "attest": ["record", "explain", "status", "now"],
    "secret": ["put", "list"],
}
AGENT = "0123456789abcdef0123456789abcdef"
INVALID, DENIED, NOT_FOUND, UNAVAILABLE, EXHAUSTED = 2, 3, 4, 6, 7


def run(*arguments, stdin=b"", **environment):
    clean = {name: value for name, value in os.environ.items()
             if name not in ("HOME", "POSTERNCTL_CONFIG")}
    return subprocess.run([POSTERNCTL, *map(str, arguments)], input=stdin, capture_output=True,
                          timeout=60, check=False, env=clean | environment)


class Case(unittest.TestCase):
    def refused(self, code, *arguments, says, **options):
        """Exits with the code, prints nothing but one line, and that line has each of `says`."""
        done = run(*arguments, **options)
        text = done.stderr.decode()
        self.assertEqual((done.returncode, done.stdout), (code, b""), (arguments, text))
        self.assertEqual(text.count("\n"), 1, text)
        self.assertTrue(text.startswith("posternctl"), text)
        for part in [says] if isinstance(says, str) else says:
            self.assertIn(part, text, arguments)


class Arguments(Case):
    def test_help_at_each_level(self):
        whole = run("--help")
        self.assertEqual((whole.returncode, whole.stderr), (0, b""))
        for group, verbs in COMMANDS.items():
            of_group = run(group, "-h")
            self.assertEqual((of_group.returncode, of_group.stderr), (0, b""))
            for verb in verbs:
                self.assertIn(f"\n  {group} {verb}", whole.stdout.decode())
                self.assertIn(f"\n  posternctl {group} {verb}", of_group.stdout.decode())
                of_verb = run(group, verb, "--help")
                self.assertEqual((of_verb.returncode, of_verb.stderr), (0, b""))
                self.assertIn(f"\nusage: posternctl {group} {verb}", of_verb.stdout.decode())
                self.assertLess(max(map(len, of_verb.stdout.decode().splitlines())), 100)

    def test_output_that_is_lost_is_an_error(self):
        with open("/dev/full", "wb") as full:
            done = subprocess.run([POSTERNCTL, "--help"], stdout=full, stderr=subprocess.PIPE,
                                  timeout=60, check=False)
        self.assertEqual(done.returncode, EXHAUSTED)
        self.assertIn(b"write to standard output: ", done.stderr)

    def test_version(self):
        self.assertRegex(run("--version").stdout.decode(), r"^posternctl \d+\.\d+\.\d+\n$")

    def test_mistakes_are_named_before_anything_is_opened(self):
        for arguments, says in [
                ([], "which command?"),
                (["node"], "posternctl node --help"),
                (["nodes"], 'no command "nodes"'),
                (["node", "lst"], 'no command "lst" here: posternctl node --help'),
                (["node", "list", "all"], 'one word too many: "all"'),
                (["node", "list", "--al"], "no option --al here: posternctl node list --help"),
                (["node", "list", "-x"], "no option -x"),
                (["--policy", "p", "node", "token"], "no option --policy"),
                (["node", "approve"], "AGENT is missing"),
                (["node", "approve", AGENT], "--policy NAME is missing"),
                (["node", "approve", AGENT, "--policy"], "--policy needs a value"),
                (["node", "approve", AGENT, "--policy", "a", "--policy=b"], "--policy is there twice"),
                (["node", "approve", "xyz", "--policy", "a"], '"xyz" is no agent_id'),
                (["node", "deny", ""], "is no agent_id"),
                (["node", "deny", AGENT + "0"], "is no agent_id"),
                (["node", "token"], "--policy NAME is missing"),
                (["node", "token", "--policy", "a", "--lifetime", "10"], "--lifetime: expected"),
                (["node", "token", "--policy", "a", "--lifetime", "0s"], "--lifetime: expected"),
                (["attest", "record", AGENT], "--name NAME is missing"),
                (["attest", "status", "--", "-x"], '"-x" is no agent_id'),
                (["secret", "put"], "NAME is missing"),
                (["secret", "put", "a"], "nothing to put"),
                (["secret", "put", "a", "value"], "one word too many"),
                (["secret", "put", "a", "--allow", "b", "--allow-nobody"], "contradict"),
                (["secret", "put", "a", "--allow-nobody=1"], "--allow-nobody takes no value"),
                (["-o", "yaml", "node", "list"], "expected text or json"),
                (["node", "list", "--output"], "--output needs a value"),
                (["node", "l\x1b[31m\nist"], r'"l\x1b[31m\nist"'),
        ]:
            with self.subTest(arguments):
                self.refused(INVALID, *arguments, says=says)


class Configuration(Case):
    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory()
        cls.folder = pathlib.Path(cls.temporary.name)
        # Its own trust anchor, its own operator: as long as nobody is reached that is enough.
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384",
             "-nodes", "-subj", "/CN=operator", "-days", "1", "-keyout", cls.folder / "operator.key",
             "-out", cls.folder / "operator.pem"], check=True, capture_output=True)
        for name in ("operator.key", "operator.pem"):
            (cls.folder / name).chmod(0o600)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            cls.address = f"127.0.0.1:{probe.getsockname()[1]}"

    @classmethod
    def tearDownClass(cls):
        cls.temporary.cleanup()

    def config(self, name="operator.yaml", **changes):
        values = {"address": self.address, "trust_anchor": "operator.pem",
                  "certificate": "operator.pem", "key": "operator.key"} | changes
        path = self.folder / name
        path.write_text(f"authority:\n  address: {values['address']}\n"
                        f"  trust_anchor: {values['trust_anchor']}\n"
                        f"certificate: {values['certificate']}\nkey: {values['key']}\n"
                        + values.get("more", ""))
        return path

    def test_without_any(self):
        self.refused(INVALID, "node", "list", says=["HOME is not set", "--config"])
        home = self.folder / "nobody"
        self.refused(NOT_FOUND, "node", "list", HOME=str(home),
                     says=[f"no {home}/.config/postern/operator.yaml", "postern-authority init"])
        self.refused(NOT_FOUND, "node", "list", POSTERNCTL_CONFIG=str(self.folder / "none.yaml"),
                     says="none.yaml")
        self.refused(INVALID, "--config", "", "node", "list", says="path is empty")

    def test_order_of_places(self):
        good, bad = self.config(), self.config("bad.yaml", address="nowhere")
        home = self.folder / "somebody"
        own = home / ".config" / "postern" / "operator.yaml"
        own.parent.mkdir(parents=True)
        own.write_bytes(bad.read_bytes())
        self.refused(INVALID, "node", "list", HOME=str(home), says=str(own))
        self.refused(INVALID, "node", "list", POSTERNCTL_CONFIG=str(bad), HOME=str(home),
                     says="bad.yaml")
        self.refused(UNAVAILABLE, "node", "list", "--config", good, POSTERNCTL_CONFIG=str(bad),
                     says=str(good))

    def test_what_is_wrong_in_it(self):
        for code, changes, says in [
                (INVALID, {"address": "nowhere"}, "wrong.yaml:2:12: authority.address"),
                (INVALID, {"address": "unix:/run/a"}, "authority.address: expected HOST:PORT"),
                (INVALID, {"address": "127.0.0.1:0"}, "authority.address: expected HOST:PORT"),
                (INVALID, {"certificate": '""'}, "wrong.yaml:4:14: certificate: expected"),
                (INVALID, {"more": "colour: red\n"}, "wrong.yaml:6:1: colour"),
                (NOT_FOUND, {"certificate": "none.pem"}, ["wrong.yaml: certificate", "none.pem"]),
                (NOT_FOUND, {"trust_anchor": "none.pem"}, ["authority.trust_anchor", "none.pem"]),
                (NOT_FOUND, {"key": "none.key"}, ["wrong.yaml: key", "none.key"]),
                (INVALID, {"key": "operator.pem"}, "wrong.yaml: key"),
                (INVALID, {"certificate": "wrong.yaml"}, "wrong.yaml"),
        ]:
            with self.subTest(changes):
                self.refused(code, "node", "list", "--config", self.config("wrong.yaml", **changes),
                             says=says)

    def test_a_key_that_others_can_read(self):
        key = self.folder / "open.key"
        key.write_bytes((self.folder / "operator.key").read_bytes())
        key.chmod(0o644)
        self.refused(DENIED, "node", "list", "--config", self.config("o.yaml", key="open.key"),
                     says=["o.yaml: key", "open.key"])

    def test_nobody_listens(self):
        config = self.config()
        for arguments in (["node", "list"], ["attest", "status", AGENT], ["node", "deny", "0"],
                          ["secret", "list", "-o", "json"]):
            self.refused(UNAVAILABLE, *arguments, "--config", config,
                         says=["is postern-authority running", str(config)])

    def test_somebody_else_listens(self):
        with socket.create_server(("127.0.0.1", 0)) as server:
            config = self.config("else.yaml", address=f"127.0.0.1:{server.getsockname()[1]}")
            child = subprocess.Popen([POSTERNCTL, "--config", config, "node", "list"],
                                     stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            connection, _ = server.accept()
            connection.recv(4096)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            connection.close()
            out, err = child.communicate(timeout=60)
        self.assertEqual(out, b"")
        self.assertNotEqual(child.returncode, 0)
        self.assertEqual(err.count(b"\n"), 1, err)

    def test_values(self):
        config = self.config()
        value = self.folder / "value"
        put = ["secret", "put", "a", "--config", config, "--value-file"]
        self.refused(NOT_FOUND, *put, self.folder / "none", says=["--value-file", "none"])
        self.refused(INVALID, *put, "-", says=["--value-file", "empty"])
        value.write_bytes(b"x" * 65536)
        self.refused(UNAVAILABLE, *put, value, says="is postern-authority running")
        self.refused(UNAVAILABLE, *put, "-", stdin=b"x" * 65536, says="is postern-authority running")
        value.write_bytes(b"x" * 65537)
        self.refused(EXHAUSTED, *put, value, says=["65537", "65536"])
        self.refused(EXHAUSTED, *put, "-", stdin=b"x" * 70000, says="limit")


if __name__ == "__main__":
    unittest.main(verbosity=2)
