"""Our gRPC against grpcio's and grpc-js's, as client and as server, over TCP, a Unix socket and mutual TLS.
Prints a table of what was tried; every cell of it must be ok."""
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time
import unittest

HERE = pathlib.Path(__file__).resolve().parent
CHECKOUT = HERE.parents[2]
PROTOS = CHECKOUT / "tests/unit/tools/proto"
sys.path.insert(0, str(CHECKOUT / "tests/testlib"))
from harness import Failure, Process, free_port, run, wait_for  # noqa: E402

BIN = pathlib.Path(os.environ["POSTERN_BIN"]) / "tests/integration/rpc"
PYTHON = os.environ.get("POSTERN_PYTHON")
NODE_ROOTS = [PROTOS, CHECKOUT / "proto"]
TRANSPORTS = ("tcp", "unix", "tls")
RUN_SECONDS = 120


def make_certificates(folder):
    """ca.pem; cert.pem and key.pem for 127.0.0.1, good for either side."""
    def openssl(*arguments):
        run(["openssl", *arguments], cwd=folder)

    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc")
    openssl("req", "-x509", *curve, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=test CA",
            "-days", "2", "-addext", "keyUsage=critical,keyCertSign")
    openssl("req", "-x509", *curve, "-keyout", "key.pem", "-out", "cert.pem", "-subj", "/CN=peer",
            "-days", "2", "-CA", "ca.pem", "-CAkey", "ca.key",
            "-addext", "basicConstraints=critical,CA:FALSE",
            "-addext", "keyUsage=critical,digitalSignature",
            "-addext", "extendedKeyUsage=serverAuth,clientAuth",
            "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost")
    (folder / "key.pem").chmod(0o600)


class Server:
    """A test server that is started anew whenever it ends, on the same addresses."""

    def __init__(self, name, folder, argv, environment, ports):
        self.ports = ports
        self.name = name
        self.process = Process(name, ["env", *[f"{k}={v}" for k, v in environment.items()], *argv],
                               folder)
        self.exits = []
        self.closing = threading.Event()

    def __enter__(self):
        self.process.start()
        wait_for(f"{self.name} to serve", lambda: self.check() and "serving" in self.process.output())
        self.guard = threading.Thread(target=self.restart)
        self.guard.start()
        return self

    def check(self):
        if not self.process.running():
            raise Failure(f"{self.name}: {self.process.output()}")
        return True

    def restart(self):
        while not self.closing.wait(0.05):
            if not self.process.running():
                self.exits.append(self.process.child.returncode)
                self.process.start()

    def __exit__(self, *_):
        self.closing.set()
        self.guard.join()
        self.code = self.process.end()


class Rpc(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if not PYTHON:
            print("skipped: no POSTERN_PYTHON")
            sys.exit(77)
        cls.holder = tempfile.TemporaryDirectory()
        cls.folder = pathlib.Path(cls.holder.name)
        make_certificates(cls.folder)
        stubs = cls.folder / "stubs"
        stubs.mkdir()
        run([PYTHON, "-m", "grpc_tools.protoc", "-I", PROTOS, "-I", CHECKOUT / "proto",
             f"--python_out={stubs}", f"--grpc_python_out={stubs}", "peer/v2.proto",
             "google/rpc/status.proto", "google/rpc/error_details.proto",
             "grpc/health/v1/health.proto", "grpc/reflection/v1/reflection.proto",
             "grpc/reflection/v1alpha/reflection.proto"])
        cls.environment = {"PYTHONPATH": stubs, "PYTHONUNBUFFERED": "1"}
        cls.results = {}
        cls.notes = []

    @classmethod
    def tearDownClass(cls):
        cls.holder.cleanup()
        cls.print_table()

    @classmethod
    def print_table(cls):
        columns = list(cls.results)
        names = list(dict.fromkeys(name for column in cls.results.values() for name in column))
        print()
        for part in range(3):
            print(" " * 18 + "".join(f"{column[part]:>9}" for column in columns))
        for name in names:
            cells = (cls.results[column].get(name) for column in columns)
            print(f"{name:18}" + "".join(
                f"{'–' if cell is None else 'ok' if cell == 'ok' else 'FAILED':>9}" for cell in cells))
        for note in cls.notes:
            print(note)

    def folder_for(self, name):
        folder = self.folder / name
        folder.mkdir()
        for file in ("ca.pem", "cert.pem", "key.pem"):
            (folder / file).write_bytes((self.folder / file).read_bytes())
            (folder / file).chmod(0o600)
        return folder

    def server(self, kind):
        """A running server of ours ("postern") or of another maker, to be entered."""
        folder = self.folder_for(f"{kind}-{time.monotonic_ns()}")
        ports = [f"127.0.0.1:{free_port()}" for _ in range(4)]
        argv = {"postern": [BIN / "rpc-peer-server", folder, *ports],
                "grpcio": [PYTHON, HERE / "server.py", folder, *ports[:2]],
                "grpc-js": ["node", HERE / "server.js", folder, *ports[:2], *NODE_ROOTS]}[kind]
        return Server(kind, folder, argv, self.environment, [folder, *ports])

    def client(self, kind, server, transport, *cases, groups="default"):
        """Runs a client against a server; {case: "ok" or what was wrong}."""
        folder, tcp, tls, strict, classical = server.ports
        target = {"tcp": tcp, "unix": f"unix:{folder}/peer.sock", "tls": tls, "strict": strict,
                  "classical": classical}[transport]
        plain = transport in ("tcp", "unix")
        argv = {"postern": [BIN / "rpc-peer-client", folder, target, "plain" if plain else groups],
                "grpcio": [PYTHON, HERE / "client.py", folder, target, "plain" if plain else "tls"],
                "grpc-js": ["node", HERE / "client.js", folder, target, "plain" if plain else "tls",
                            *NODE_ROOTS]}[kind]
        done = subprocess.run([str(a) for a in (*argv, *cases)], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=RUN_SECONDS, check=False,
                              env={**os.environ, **{k: str(v) for k, v in self.environment.items()}})
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        results = {}
        for line in done.stdout.splitlines():
            name, _, result = line.partition(": ")
            results[name] = result
        return results

    def compare(self, client, server_kind, expected):
        with self.server(server_kind) as server:
            for transport in TRANSPORTS:
                results = self.client(client, server, transport)
                self.results[client, server_kind, transport] = results
                with self.subTest(client=client, server=server_kind, transport=transport):
                    self.assertEqual({k: v for k, v in results.items() if v != "ok"}, {})
                    self.assertEqual(len(results), expected, results)
        if server_kind == "postern":
            # Drained servers end well; the others were killed. A sanitizer's finding is another code.
            self.assertEqual(server.exits, [0, -9] * len(TRANSPORTS), server.process.output())
            self.assertEqual(server.code, 0, server.process.output())

    def test_grpcio_calls_us(self):
        self.compare("grpcio", "postern", 25)

    def test_grpc_js_calls_us(self):
        self.compare("grpc-js", "postern", 23)

    def test_we_call_grpcio(self):
        self.compare("postern", "grpcio", 22)

    def test_we_call_grpc_js(self):
        self.compare("postern", "grpc-js", 22)

    def test_we_call_ourselves(self):
        self.compare("postern", "postern", 22)

    def test_key_exchange(self):
        """Which groups each peer has: with classical ones alone everyone connects; with post-quantum
        ones alone only who has them, and then the default negotiates those, as ours prefers them."""
        def works(client, server, transport, **options):
            return self.client(client, server, transport, "unary", **options)["unary"] == "ok"

        with self.server("postern") as ours:
            for client in ("grpcio", "grpc-js", "postern"):
                self.assertTrue(works(client, ours, "classical"), client)
                post_quantum = works(client, ours, "strict")
                self.notes.append(f"TLS, {client} calls postern: "
                                  f"{'post-quantum' if post_quantum else 'classical only'}")
            self.assertTrue(post_quantum, "postern with itself")
        for kind in ("grpcio", "grpc-js"):
            with self.server(kind) as theirs:
                self.assertTrue(works("postern", theirs, "tls", groups="classical"), kind)
                post_quantum = works("postern", theirs, "tls", groups="strict")
                self.notes.append(f"TLS, postern calls {kind}: "
                                  f"{'post-quantum' if post_quantum else 'classical only'}")


if __name__ == "__main__":
    unittest.main(verbosity=2)
