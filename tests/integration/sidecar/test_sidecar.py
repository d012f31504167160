"""Ordinary gRPC clients of other makers against the real sidecar: the examples of docs/examples as they
stand, health and reflection by their own libraries' ways, and every kind of bad request.

The node agent is away in most of these: the sidecar must answer for itself."""
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "testlib"))
from harness import Client, Failure, Process, find_program, free_port, run, wait_for  # noqa: E402


class Stage:
    """A sidecar alone, outside any world of TPMs."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.port = free_port()
        self.target = f"127.0.0.1:{self.port}"
        self.socket = self.folder / "app.sock"
        self.config = self.folder / "postern.yaml"
        self.config.write_text(f"node_socket: {self.folder}/pod.sock\napp_socket: {self.socket}\n"
                               f"app_listen: {self.target}\n")
        self.process = Process("postern", [find_program("postern"), "--config", self.config],
                               self.folder)

    def start(self):
        self.process.start()
        wait_for("the sidecar to listen",
                 lambda: socket.create_connection(("127.0.0.1", self.port), 1).close() is None)


class Clients(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.holder = tempfile.TemporaryDirectory()
        cls.stage = Stage(cls.holder.name)
        cls.client = Client(cls.stage)
        cls.stage.start()

    @classmethod
    def tearDownClass(cls):
        cls.stage.process.end()
        cls.holder.cleanup()

    def targets(self):
        return self.stage.target, f"unix:{self.stage.socket}"

    def test_python_reads_status(self):
        for target in self.targets():
            answer = json.loads(self.client.run_python("read_status.py", target).stdout)
            self.assertEqual(answer["version"], "0.1.0")
            self.assertIn("degradedSince", answer)
            self.assertIn("postern_secrets_read_total", answer["counters"])

    def test_node_reads_status(self):
        for target in self.targets():
            answer = json.loads(self.client.run_node("read_status.js", target).stdout)
            self.assertEqual(answer["version"], "0.1.0")
            self.assertNotIn("node", answer)

    def test_secret_is_unavailable_without_a_node_agent(self):
        done = self.client.run_python("read_secret.py", self.stage.target, "a", check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("StatusCode.UNAVAILABLE", done.stderr)

    def test_draining_ends_in_time_and_exits_0(self):
        with tempfile.TemporaryDirectory() as folder:
            stage = Stage(folder)
            stage.start()
            self.assertEqual(stage.process.end(seconds=5), 0)
            self.assertFalse(stage.socket.exists())


class Frames(unittest.TestCase):
    """Requests as no stub would make them, by grpcio's generic calls."""

    @classmethod
    def setUpClass(cls):
        cls.holder = tempfile.TemporaryDirectory()
        cls.stage = Stage(cls.holder.name)
        cls.stage.start()

    @classmethod
    def tearDownClass(cls):
        cls.stage.process.end()
        cls.holder.cleanup()

    def call(self, method, request):
        """(status name, details) of a unary call with these bytes."""
        script = (
            "import sys, grpc\n"
            "with grpc.insecure_channel(sys.argv[1]) as channel:\n"
            "    call = channel.unary_unary(sys.argv[2])\n"
            "    try:\n"
            "        call(bytes.fromhex(sys.argv[3]), timeout=10)\n"
            "        print('OK')\n"
            "    except grpc.RpcError as error:\n"
            "        print(error.code().name)\n"
            "        print(error.details())\n"
            "        for key, value in error.trailing_metadata() or ():\n"
            "            if key == 'grpc-status-details-bin' and b'BadRequest' in value:\n"
            "                print('field', 'name' if b'\\x0a\\x04name' in value else value)\n")
        lines = run([os.environ["POSTERN_PYTHON"], "-c", script, self.stage.target, method,
                     request.hex()]).stdout.splitlines()
        return lines[0], "\n".join(lines[1:])

    def test_bad_fields(self):
        get = "/postern.v1.SecretService/Get"
        for name, request, status, text in (
                ("not UTF-8", b"\x0a\x02\xff\xfe", "INVALID_ARGUMENT", "UTF-8"),
                ("NUL", b"\x0a\x03a\x00b", "INVALID_ARGUMENT", "NUL"),
                ("truncated", b"\x0a\x05ab", "INVALID_ARGUMENT", ""),
                ("a group", b"\x0b" * 1000, "INVALID_ARGUMENT", "group"),
                ("too large", b"\x0a" + b"\x80\x80\x80\x02" + b"a" * (4 << 20),
                 "RESOURCE_EXHAUSTED", ""),
        ):
            if len(request) > 100_000:
                continue  # beyond what a command line holds: tests/unit/rpc has it
            with self.subTest(name):
                found, details = self.call(get, request)
                self.assertEqual(found, status, details)
                self.assertIn(text, details)

    def test_names(self):
        """1 to 253 of a-z 0-9 - . _ /, judged by the sidecar itself: the node agent is away."""
        get = "/postern.v1.SecretService/Get"
        for name in (b"", b"A", b"a b", b"a:b", "\u00e4".encode(), b"a" * 254, b"a\n", b"a\\b"):
            with self.subTest(name):
                request = b"\x0a" + self.varint(len(name)) + name if name else b""
                found, details = self.call(get, request)
                self.assertEqual(found, "INVALID_ARGUMENT", details)
                self.assertIn("field name", details)
        for name in (b"a", b"a" * 253, b"billing/db-1.user_2"):
            with self.subTest(name):
                found, details = self.call(get, b"\x0a" + self.varint(len(name)) + name)
                self.assertEqual(found, "UNAVAILABLE", details)

    @staticmethod
    def varint(number):
        return bytes([number]) if number < 128 else bytes([number & 127 | 128, number >> 7])

    def test_unknown_fields_are_ignored(self):
        found, details = self.call("/postern.v1.StatusService/Get", b"\xf8\x3f\x01")
        self.assertEqual(found, "OK", details)

    def test_unknown_methods(self):
        for method in ("/postern.v1.SecretService/Nothing", "/nobody.Knows/This"):
            self.assertEqual(self.call(method, b"")[0], "UNIMPLEMENTED")


class Rights(unittest.TestCase):
    """What a sidecar can't do, as the kernel sees it."""

    def setUp(self):
        self.stage = Stage(self.enterContext(tempfile.TemporaryDirectory()))
        self.stage.start()
        self.addCleanup(self.stage.process.end)
        # It listens a moment before it gives up the last of its rights.
        self.stage.process.wait_output("the app's API is on")

    def test_it_gives_up_its_rights(self):
        lines = pathlib.Path(f"/proc/{self.stage.process.pid}/status").read_text().splitlines()
        status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
        self.assertEqual(status["NoNewPrivs"], "1")
        for kind in ("CapEff", "CapPrm", "CapInh", "CapAmb"):
            self.assertEqual(int(status[kind], 16), 0, kind)

    def test_it_links_nothing_privileged(self):
        libraries = run(["ldd", find_program("postern")]).stdout
        self.assertIn("libnghttp2", libraries)
        for name in ("tss2", "sqlite", "libpq", "bpf"):
            self.assertNotIn(name, libraries)

    def reload(self, text, expected):
        self.stage.config.write_text(text)
        self.stage.process.child.send_signal(signal.SIGHUP)
        return self.stage.process.wait_output(expected)

    def test_sighup(self):
        text = self.stage.config.read_text()
        for field, other in (("node_socket", f"{self.stage.folder}/other.sock"),
                             ("app_socket", f"{self.stage.folder}/other.sock"),
                             ("app_listen", "127.0.0.1:1")):
            with self.subTest(field):
                lines = [f"{field}: {other}" if line.startswith(field) else line
                         for line in text.splitlines()]
                line = self.reload("\n".join(lines) + "\n", f"{field}: a change needs a restart")
                self.assertIn("stays as it was", line)
        self.reload(text, "was read anew")

    def test_sighup_sets_the_log_level(self):
        text = self.stage.config.read_text()
        self.reload(text + "log:\n  level: error\n", "")
        time.sleep(0.5)  # it says nothing that could be waited for: that is the point
        self.reload("wrong\n", "stays as it was")
        self.assertNotIn("was read anew", self.stage.process.output())
        self.reload(text + "log:\n  level: info\n", "was read anew")


class Configuration(unittest.TestCase):
    """Every error names file, line, column and field, and what was expected."""

    def refused(self, text):
        with tempfile.TemporaryDirectory() as folder:
            config = pathlib.Path(folder) / "postern.yaml"
            config.write_text(text)
            done = subprocess.run([find_program("postern"), "--config", config, "--check-config"],
                                  capture_output=True, text=True, timeout=10, check=False)
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
            return done.stderr.replace(str(config), "FILE").strip()

    def test_refusals(self):
        for text, place, expected in (
                ("app_listen: 0.0.0.0:15551\n", "FILE:1:13: app_listen", "loopback"),
                ("app_listen: nowhere\n", "FILE:1:13: app_listen", "expected"),
                ("\nnode_socket: here\n", "FILE:2:14: node_socket", "absolute"),
                ("drain: soon\n", "FILE:1:8: drain", "duration"),
                ("drian: 5s\n", "FILE:1:1: drian", "drain"),
                ("log:\n  level: loud\n", "FILE:2:10: log.level", "error"),
        ):
            with self.subTest(text):
                message = self.refused(text)
                self.assertIn(place, message)
                self.assertIn(expected, message)

    def test_missing_file_and_bad_option(self):
        for arguments, code in ((["--config", "/nonexistent"], 4), (["--wrong"], 2), (["x"], 2),
                                (["--config"], 2)):
            with self.subTest(arguments):
                done = subprocess.run([find_program("postern"), *arguments], capture_output=True,
                                      text=True, timeout=10, check=False)
                self.assertEqual(done.returncode, code, done.stderr)
                self.assertEqual(len(done.stderr.splitlines()), 1)

    def test_version_and_help(self):
        self.assertEqual(run([find_program("postern"), "--version"]).stdout, "postern 0.1.0\n")
        self.assertIn("--check-config", run([find_program("postern"), "--help"]).stdout)


if __name__ == "__main__":
    unittest.main(verbosity=2)
