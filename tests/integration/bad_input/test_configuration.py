"""Configuration: every kind of mistake in each of the four files, SIGHUP with a bad file and with a good
one, and policies. Every error is one line with file, line, column, field and what was expected."""
import pathlib
import tempfile
import unittest

from expect import DENIED, EXHAUSTED, INVALID, NOT_FOUND, refusal
from harness import find_program, run

NODE = """\
authority:
  address: authority.example:15550
  trust_anchor: trust.pem
state_dir: /var/lib/postern-node
tpm:
  tcti: device:/dev/tpmrm0
pods:
  - cgroup: /pods/billing
    spiffe_id: spiffe://a.example/billing
"""
AUTHORITY = """\
data_dir: data
trust_domain: a.example
policies: policies
"""
OPERATOR = """\
authority:
  address: authority.example:15550
  trust_anchor: trust.pem
certificate: operator.pem
key: operator.key
"""
SIDECAR = """\
node_socket: /run/pod.sock
"""

# Of every file: what is no YAML, or not as we read it.
OF_ALL = (
    ("no_such: 1\n", "1:1: no_such", "expected"),
    ("- a\n", "1:1", "mapping"),
    ("just text\n", "1:1", "mapping"),
    ("log: {level: info\n", "2:1", "flow mapping"),
    ("\tlog: {}\n", "1:1", ""),
    ("log: {format: &a text}\n", "1:", "anchor"),
    ("log: !!map {}\n", "1:", "tag"),
    ("log:\n  level: info\n---\nlog: {}\n", "3:1", "document"),
    ("log:\n  level: info\n  level: debug\n", "3:3: log.level", "twice"),
    ("log:\n  level: 7\n", "2:10: log.level", "error, warning, info"),
    ("log:\n  format: xml\n", "2:11: log.format", "text"),
    ("log:\n", "1:5: log", "leave the key out"),
    ("log: text\n", "1:6: log", "mapping"),
    ("log: [text]\n", "1:6: log", "mapping"),
    ("log:\n  colour: red\n", "2:3: log.colour", "format"),
    ("drain: {}\n", "1:8: drain", "text"),
    ("drain: soon\n", "1:8: drain", "duration"),
    ("drain: 5\n", "1:8: drain", "duration"),
    ("drain: -5s\n", "1:8: drain", "duration"),
    ("drain: 2h\n", "1:8: drain", "1h"),
    ("drain: null\n", "1:8: drain", "leave the key out"),
)

OF_SIDECAR = (
    ("node_socket: here\n", "1:14: node_socket", "absolute path"),
    ("node_socket: ''\n", "1:14: node_socket", "absolute path"),
    ("node_socket: [/a]\n", "1:14: node_socket", "text"),
    (f"node_socket: /{'a' * 101}\n", "1:14: node_socket", "at most 100 bytes"),
    ("app_socket: app.sock\n", "1:13: app_socket", "absolute path"),
    ("app_listen: 0.0.0.0:15551\n", "1:13: app_listen", "loopback"),
    ("app_listen: 10.0.0.1:15551\n", "1:13: app_listen", "loopback"),
    ("app_listen: localhost:15551\n", "1:13: app_listen", "loopback"),
    ("app_listen: '[::]:15551'\n", "1:13: app_listen", "loopback"),
    ("app_listen: unix:/run/app.sock\n", "1:13: app_listen", "loopback"),
    ("app_listen: 127.0.0.1\n", "1:13: app_listen", "127.0.0.1:15551"),
    ("app_listen: 127.0.0.1:99999\n", "1:13: app_listen", "127.0.0.1:15551"),
)


def node(*lines, without=None):
    """NODE with other lines: (old, new) pairs."""
    text = NODE
    for old, new in lines:
        assert old in text, old
        text = text.replace(old, new)
    if without:
        text = text.replace(without, "")
    return text


OF_NODE = (
    ("", "1:1", "authority"),
    ("authority: {address: 'a:1'}\n", "1:12: authority.trust_anchor", "missing"),
    ("authority: {trust_anchor: a}\n", "1:12: authority.address", "missing"),
    (node(("address: authority.example:15550", "address: authority.example")),
     "2:12: authority.address", "HOST:PORT"),
    (node(("address: authority.example:15550", "address: unix:/run/a")),
     "2:12: authority.address", "HOST:PORT"),
    (node(("example:15550", "example:0")), "2:12: authority.address", "HOST:PORT"),
    (node(("example:15550", "example:70000")), "2:12: authority.address", "65535"),
    (node(("authority.example:15550", "'a b:1'")), "2:12: authority.address", "HOST:PORT"),
    (node(("trust.pem", "''")), "3:17: authority.trust_anchor", "PEM"),
    (node(("trust.pem\n", "trust.pem\n  server_name: ''\n")), "4:16: authority.server_name",
     "certificate"),
    (node(("/var/lib/postern-node", "state")), "4:12: state_dir", "absolute"),
    (node(("/var/lib/postern-node", "/var/lib/")), "4:12: state_dir", "/"),
    (node(("device:/dev/tpmrm0", "usb:0")), "6:9: tpm.tcti", "device:"),
    (node(("device:/dev/tpmrm0", "device:tpm")), "6:9: tpm.tcti", "absolute"),
    (node(("tcti: device:/dev/tpmrm0", "counter_index: 5")), "6:18: tpm.counter_index", "0x01800000"),
    (node(("tcti: device:/dev/tpmrm0", "counter_index: 0x01c00000")), "6:18: tpm.counter_index",
     "0x01bfffff"),
    (node(("tcti: device:/dev/tpmrm0", "busy_timeout: 1ms")), "6:17: tpm.busy_timeout", "1000ms"),
    (node(("tcti: device:/dev/tpmrm0", "owner_auth_file: ''")), "6:20: tpm.owner_auth_file", "path"),
    (node(("/pods/billing", "pods/billing")), "8:13: pods[0].cgroup", "/pods/billing"),
    (node(("/pods/billing", "/")), "8:13: pods[0].cgroup", "below the root"),
    (node(("/pods/billing", "/pods/../a")), "8:13: pods[0].cgroup", "\"..\""),
    (node(("/pods/billing", "/pods//a")), "8:13: pods[0].cgroup", "empty segment"),
    (node(("/pods/billing", "\"/pods/\\ta\"")), "8:13: pods[0].cgroup", "control"),
    (node(without="  - cgroup: /pods/billing\n  ").replace("  spiffe_id", "  - spiffe_id"),
     "8:5: pods[0].cgroup", "missing"),
    (node(without="    spiffe_id: spiffe://a.example/billing\n"), "8:5: pods[0].spiffe_id", "missing"),
    (node(("spiffe://a.example/billing", "billing")), "9:16: pods[0].spiffe_id", "spiffe://"),
    (node(("spiffe://a.example/billing", "https://a.example/billing")), "9:16: pods[0].spiffe_id",
     "spiffe://"),
    (node(("spiffe://a.example/billing", "spiffe://A.example/billing")), "9:16: pods[0].spiffe_id",
     "trust domain"),
    (node(("spiffe://a.example/billing", "spiffe://a.example")), "9:16: pods[0].spiffe_id",
     "workload"),
    (node(("spiffe://a.example/billing", "spiffe://a.example/a/")), "9:16: pods[0].spiffe_id",
     "empty segment"),
    (node(("spiffe://a.example/billing", "spiffe://a.example/postern/node/x")),
     "9:16: pods[0].spiffe_id", "/postern/"),
    (node(("spiffe://a.example/billing", "spiffe://a.example/postern")),
     "9:16: pods[0].spiffe_id", "/postern/"),
    (NODE + "  - cgroup: /pods/billing\n    spiffe_id: spiffe://a.example/web\n",
     "10:13: pods[1].cgroup", "already"),
    (NODE + "  - cgroup: /pods\n    spiffe_id: spiffe://a.example/web\n",
     "10:13: pods[1].cgroup", "overlaps"),
    (NODE + "  - cgroup: /pods/billing/a\n    spiffe_id: spiffe://a.example/web\n",
     "10:13: pods[1].cgroup", "overlaps"),
    (NODE + "pods: []\n", "10:1: pods", "twice"),
    (NODE + "pod_socket: pod.sock\n", "10:13: pod_socket", "absolute"),
    (NODE + "max_offline: 1s\n", "10:14: max_offline", "60000ms"),
    (NODE + "max_offline: 9000h\n", "10:14: max_offline", "8784h"),
    (NODE + "join_token_file: ''\n", "10:18: join_token_file", "path"),
    (NODE + "pod: []\n", "10:1: pod", "pods"),
)

OF_AUTHORITY = (
    ("", "1:1", "data_dir"),
    ("data_dir: data\ntrust_domain: a\n", "1:1: policies", "missing"),
    (AUTHORITY.replace("data_dir: data", "data_dir: ''"), "1:11: data_dir", "path"),
    (AUTHORITY.replace("a.example", "A.example"), "2:15: trust_domain", "a-z"),
    (AUTHORITY.replace("a.example", "''"), "2:15: trust_domain", "empty"),
    (AUTHORITY.replace("a.example", "a" * 256), "2:15: trust_domain", "255"),
    (AUTHORITY.replace("policies: policies", "policies: ''"), "3:11: policies", "path"),
    (AUTHORITY + "listen: here\n", "4:9: listen", "HOST:PORT"),
    (AUTHORITY + "listen: unix:/run/a\n", "4:9: listen", "IP address"),
    (AUTHORITY + "listen: localhost:15550\n", "4:9: listen", "IP address"),
    (AUTHORITY + "listen: 127.0.0.1:65536\n", "4:9: listen", "65535"),
    (AUTHORITY + "svid_lifetime: 1s\n", "4:16: svid_lifetime", "10000ms"),
    (AUTHORITY + "svid_lifetime: 200h\n", "4:16: svid_lifetime", "168h"),
    (AUTHORITY + "ek_roots: ''\n", "4:11: ek_roots", "path"),
    (AUTHORITY + "ek_pinned: abc\n", "4:12: ek_pinned", "sequence"),
    (AUTHORITY + f"ek_pinned:\n  - {'0' * 64}\n  - {'0' * 63}g\n", "6:5: ek_pinned[1]", "64 hex"),
)


def operator(old, new):
    assert old in OPERATOR
    return OPERATOR.replace(old, new)


OF_OPERATOR = (
    ("", "1:1", "authority"),
    ("no_such: 1\n", "1:1: no_such", "expected"),
    ("- a\n", "1:1", "mapping"),
    ("authority: [\n", "1:12: authority", "mapping"),
    ("authority: {\n", "2:1", "not YAML"),
    (OPERATOR + "key: again\n", "6:1: key", "twice"),
    (operator("key: operator.key\n", ""), "1:1: key", "missing"),
    (operator("certificate: operator.pem\n", ""), "1:1: certificate", "missing"),
    (operator("  trust_anchor: trust.pem\n", ""), "2:3: authority.trust_anchor", "missing"),
    (operator("authority.example:15550", "authority"), "2:12: authority.address", "HOST:PORT"),
    (operator("authority.example:15550", "unix:/a"), "2:12: authority.address", "HOST:PORT"),
    (operator("operator.pem", "''"), "4:14: certificate", "value"),
    (operator("operator.key", "[a]"), "5:6: key", "text"),
)

# name → arguments before and after the file, a good file, its mistakes
PROGRAMS = {
    "postern": (SIDECAR, OF_SIDECAR + OF_ALL),
    "postern-node": (NODE, OF_NODE),
    "postern-authority": (AUTHORITY, OF_AUTHORITY),
    "posternctl": (OPERATOR, OF_OPERATOR),
}


def arguments(name, path):
    return ["--config", path, *(["node", "list"] if name == "posternctl" else ["--check-config"])]


class Mistakes(unittest.TestCase):
    def setUp(self):
        self.holder = tempfile.TemporaryDirectory(prefix="bad-")
        self.addCleanup(self.holder.cleanup)
        self.file = pathlib.Path(self.holder.name) / "program.yaml"

    def refused(self, code, name, path=None):
        path = path or self.file
        return refusal(self, code, name, *arguments(name, path)).removeprefix(
            " node list: ").replace(str(path), "FILE")

    def test_each(self):
        for name, (good, mistakes) in PROGRAMS.items():
            # What is wrong with every file, in a file that is otherwise good.
            late = [(good + text, f"{good.count(chr(10)) + int(line)}:{rest}", expected)
                    for text, place, expected in OF_ALL if name not in ("postern", "posternctl")
                    and not text.startswith(("- ", "just", "\t"))
                    for line, rest in [place.split(":", 1)]]
            for text, place, expected in [*mistakes, *late]:
                with self.subTest(name, text=text):
                    self.file.write_text(text)
                    line = self.refused(INVALID, name)
                    self.assertTrue(line.startswith(f"FILE:{place}"), f"{place}: {line}")
                    self.assertRegex(line, r"^FILE:\d+:\d+: \S")
                    self.assertIn(expected, line)

    def test_bytes(self):
        """What is not even text, or too much of it."""
        for name, (good, _) in PROGRAMS.items():
            for what, data, code in (
                    ("a NUL", good.encode() + b"log: \0\n", INVALID),
                    ("no UTF-8", good.encode() + b"# \xff\xfe\n", INVALID),
                    ("a binary", find_program(name).read_bytes()[:4096], INVALID),
                    ("an escaped NUL", good.encode() + b'drain: "a\\0b"\n', INVALID),
                    ("too long", b"#" * (2 << 20), EXHAUSTED),
                    ("too long a line", good.encode() + b"drain: " + b"a" * 100_000, INVALID),
                    ("too deep", b"[" * 2000 + b"\n", INVALID),
            ):
                with self.subTest(name, what=what):
                    self.file.write_bytes(data)
                    line = self.refused(code, name)
                    self.assertIn("FILE", line)

    def test_files(self):
        for name in PROGRAMS:
            with self.subTest(name):
                missing = self.file.with_name("missing.yaml")
                line = self.refused(NOT_FOUND, name, missing)
                self.assertIn("FILE", line)
                folder = self.file.with_name("folder")
                folder.mkdir(exist_ok=True)
                self.assertIn("FILE", self.refused(INVALID, name, folder))

    def test_unreadable(self):
        """As a user who may not read it: root may read everything."""
        pathlib.Path(self.holder.name).chmod(0o755)
        for name, (good, _) in PROGRAMS.items():
            self.file.write_text(good)
            self.file.chmod(0)
            with self.subTest(name):
                line = refusal(self, DENIED, name, *arguments(name, self.file), user=65534,
                               group=65534)
                self.assertIn(str(self.file), line)

    def test_options(self):
        for name in PROGRAMS:
            for wrong in (["--no-such"], ["--config"], ["no-such-verb"], ["--config", "a", "b", "c"]):
                with self.subTest(name, wrong=wrong):
                    self.assertIn("--help", refusal(self, INVALID, name, *wrong))

    def test_effective(self):
        """--check-config prints all that is in force, and that again is a valid file that says the
        same."""
        for name, (good, _) in PROGRAMS.items():
            if name == "posternctl":
                continue
            with self.subTest(name):
                self.file.write_text(good)
                first = run([find_program(name), *arguments(name, self.file)]).stdout
                self.assertIn("drain: ", first)  # a default that the file does not mention
                for line in good.splitlines():
                    value = line.split(": ", 1)[-1].removeprefix("- ")
                    self.assertIn(value, first.replace('"', ""))
                self.file.write_text(first)
                self.assertEqual(run([find_program(name), *arguments(name, self.file)]).stdout, first)


if __name__ == "__main__":
    unittest.main(verbosity=2)
