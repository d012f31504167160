"""A whole Postern on one machine, from the programs as built: TPMs by swtpm, an authority, node agents,
sidecars in real cgroups, clients of other makers. The demo and the integration tests drive it.

Everything lives in one folder; every process is ours, is known by its pid, and ends with the world.
"""
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time

CHECKOUT = pathlib.Path(__file__).resolve().parents[2]
TRUST_DOMAIN = "demo.postern"
BOOT_PCRS = range(10)


class Failure(Exception):
    """Something did not do what it should; the text says what, for a person."""


def find_program(name):
    folder = pathlib.Path(os.environ["POSTERN_BIN"])
    for place in ("sidecar", "node", "authority", "cli"):
        path = folder / place / name
        if path.exists():
            return path
    raise Failure(f"{name} is not built under {folder}")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(what, condition, seconds=20):
    """Polls until condition() gives something true, and returns it. Exceptions count as no."""
    deadline = time.monotonic() + seconds
    pause = 0.002
    last = None
    while time.monotonic() < deadline:
        try:
            result = condition()
            if result:
                return result
        except (Failure, OSError) as error:
            last = error
        time.sleep(pause)
        pause = min(0.05, pause * 1.3)
    raise Failure(f"{what}: not within {seconds} s" + (f" ({last})" if last else ""))


def run(argv, check=True, **options):
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, timeout=60,
                          stdin=options.pop("stdin", subprocess.DEVNULL), **options)
    if check and done.returncode != 0:
        raise Failure(f"{argv[0]} exited {done.returncode}: {(done.stderr or done.stdout).strip()}")
    return done


# ── cgroups ─────────────────────────────────────────────────────────────────────────────────────


def cgroup_mount():
    for line in pathlib.Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if kind == "cgroup2":
            return pathlib.Path(place)
    raise Failure("no cgroup v2 is mounted here")


class Cgroups:
    """A tree of real cgroups for one world; pods are its children."""

    def __init__(self, name):
        self.root = cgroup_mount() / name
        self.root.mkdir()

    def make(self, pod):
        folder = self.root / pod
        folder.mkdir(exist_ok=True)
        return folder

    def path_of(self, pod):
        """As /proc/PID/cgroup shows it."""
        return f"/{self.root.name}/{pod}"

    def close(self):
        for folder in sorted(self.root.glob("**/"), reverse=True):
            wait_for(f"{folder} to be empty", lambda f=folder: f.rmdir() is None, 5)


# ── processes ───────────────────────────────────────────────────────────────────────────────────


class Process:
    """One program of ours, its log, and how it ends."""

    def __init__(self, name, argv, folder, cgroup=None):
        self.name = name
        self.argv = [str(a) for a in argv]
        self.log = folder / f"{name}.log"
        self.cgroup = cgroup
        self.child = None

    def start(self):
        def enter():
            (self.cgroup / "cgroup.procs").write_text("0")

        self.began = self.log.stat().st_size if self.log.exists() else 0
        with open(self.log, "ab") as log:
            self.child = subprocess.Popen(self.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                          start_new_session=True,
                                          preexec_fn=enter if self.cgroup else None)
        return self

    @property
    def pid(self):
        return self.child.pid

    def running(self):
        return self.child is not None and self.child.poll() is None

    def end(self, number=signal.SIGTERM, seconds=15):
        """Sends the signal and waits; returns the exit code."""
        if not self.running():
            return None
        self.child.send_signal(number)
        try:
            return self.child.wait(seconds)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
            raise Failure(f"{self.name} did not end on signal {number} within {seconds} s")

    def kill(self):
        return self.end(signal.SIGKILL)

    def output(self):
        """What it wrote since it was last started."""
        with open(self.log, encoding="utf-8", errors="replace") as log:
            log.seek(self.began)
            return log.read()

    def wait_output(self, text, seconds=20):
        """Waits for a line that contains the text, and returns it."""

        def look():
            for line in self.output().splitlines():
                if text in line:
                    return line
            if not self.running():
                raise Failure(f"{self.name} has ended: {self.output().strip()[-800:]}")
            return None

        return wait_for(f'{self.name} to say "{text}"', look, seconds)


# ── TPM ─────────────────────────────────────────────────────────────────────────────────────────


class Tpm:
    """A machine's TPM 2.0. Power on is a boot: firmware measures ten distinct things."""

    def __init__(self, folder):
        self.folder = folder
        self.state = folder / "state"
        self.socket = folder / "tpm"
        self.tcti = f"swtpm:path={self.socket}"
        self.vendor = folder / "vendor.pem"  # the maker's root and the intermediate below it
        self.process = None

    def make(self):
        self.state.mkdir(parents=True)
        ca = self.folder / "ca"
        ca.mkdir()
        (self.folder / "localca.conf").write_text(
            f"statedir = {ca}\nsigningkey = {ca}/signkey.pem\nissuercert = {ca}/issuercert.pem\n"
            f"certserial = {ca}/certserial\n")
        (self.folder / "localca.options").write_text(
            "--platform-manufacturer Postern\n--platform-version 1\n--platform-model Demo\n")
        (self.folder / "setup.conf").write_text(
            "create_certs_tool = swtpm_localca\n"
            f"create_certs_tool_config = {self.folder}/localca.conf\n"
            f"create_certs_tool_options = {self.folder}/localca.options\n")
        run(["swtpm_setup", "--tpm2", "--tpm-state", self.state, "--create-ek-cert", "--overwrite",
             "--config", self.folder / "setup.conf", "--logfile", self.folder / "setup.log"])
        self.vendor.write_text("".join((ca / name).read_text() for name in (
            "swtpm-localca-rootca-cert.pem", "issuercert.pem")))
        return self

    def power_on(self):
        self.process = Process(
            "swtpm",
            ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={self.state}", "--server",
             f"type=unixio,path={self.socket}", "--ctrl", f"type=unixio,path={self.socket}.ctrl",
             "--flags", "not-need-init,startup-clear"],
            self.folder).start()
        wait_for("the TPM to answer", lambda: self.tool("tpm2_getcap", "properties-fixed"))
        for pcr in BOOT_PCRS:
            self.extend(pcr, f"boot component {pcr}")
        return self

    def tool(self, name, *arguments):
        """Runs one of tpm2-tools on it. A TPM without a resource manager serves one at a time."""
        return wait_for(name, lambda: run([name, *arguments, "-T", self.tcti]), 20).stdout

    def extend(self, pcr, text):
        import hashlib
        digest = hashlib.sha256(text.encode()).hexdigest()
        self.tool("tpm2_pcrextend", f"{pcr}:sha256={digest}")

    def power_off(self):
        if self.process and self.process.running():
            self.process.end()

    def reboot(self):
        self.power_off()
        return self.power_on()


# ── the programs ────────────────────────────────────────────────────────────────────────────────


class Authority:
    def __init__(self, folder):
        self.folder = folder
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.process = None

    def init(self, ek_roots):
        run([find_program("postern-authority"), "init", self.folder, "--trust-domain", TRUST_DOMAIN,
             "--listen", self.address])
        config = self.folder / "authority.yaml"
        config.write_text(config.read_text() + f"ek_roots: {ek_roots}\n")
        return self

    @property
    def trust(self):
        return self.folder / "trust.pem"

    def start(self):
        self.process = Process("authority", [find_program("postern-authority"), "--config",
                                             self.folder / "authority.yaml"],
                               self.folder.parent).start()
        wait_for("the authority to listen",
                 lambda: socket.create_connection(("127.0.0.1", self.port), 1).close() is None)
        return self

    def reload(self):
        self.process.child.send_signal(signal.SIGHUP)

    def write_policy(self, kind, name, text):
        (self.folder / "policies" / kind / f"{name}.yaml").write_text(text)

    def ctl(self, *arguments, check=True, **options):
        """posternctl as the first operator."""
        return run([find_program("posternctl"), "--config", self.folder / "operator.yaml",
                    *arguments], check=check, **options)

    def ctl_json(self, *arguments):
        return json.loads(self.ctl(*arguments, "-o", "json").stdout)

    def nodes(self):
        return self.ctl_json("node", "list")["nodes"]

    def node(self, agent_id):
        for node in self.nodes():
            if node["agentId"] == agent_id:
                return node
        raise Failure(f"the authority knows no node {agent_id}")

    def put_secret(self, name, value, *allow):
        flags = [flag for identity in allow for flag in ("--allow", identity)]
        return run([find_program("posternctl"), "--config", self.folder / "operator.yaml", "secret",
                    "put", name, *flags, "--value-file", "/dev/stdin"], stdin=None, input=value)


class NodeAgent:
    def __init__(self, world, name, tpm, authority, state=None, address=None):
        self.folder = world.folder / name
        self.folder.mkdir(exist_ok=True)
        self.state = state or self.folder / "state"
        self.socket = self.folder / "pod.sock"
        self.token = self.folder / "join-token"
        self.tpm = tpm
        pods = "".join(f"  - cgroup: {world.cgroups.path_of(pod)}\n    spiffe_id: {identity}\n"
                       for pod, identity in world.pods.items())
        self.config = self.folder / "node.yaml"
        self.config.write_text(
            f"authority:\n  address: {address or authority.address}\n"
            f"  trust_anchor: {authority.trust}\n"
            f"state_dir: {self.state}\n"
            f"tpm:\n  tcti: {tpm.tcti}\n"
            f"pod_socket: {self.socket}\n"
            f"join_token_file: {self.token}\n"
            f"pods:\n{pods}")
        self.process = Process(name, [find_program("postern-node"), "--config", self.config],
                               self.folder)

    def start(self):
        self.process.start()
        wait_for("the node agent's socket", self.socket.exists)
        return self

    def restart(self):
        if self.process.running():
            self.process.end()
        return self.start()


class Sidecar:
    def __init__(self, world, pod, agent):
        self.folder = world.folder / f"pod-{pod}"
        self.folder.mkdir()
        self.port = free_port()
        self.target = f"127.0.0.1:{self.port}"
        self.socket = self.folder / "app.sock"
        config = self.folder / "postern.yaml"
        config.write_text(f"node_socket: {agent.socket}\napp_socket: {self.socket}\n"
                          f"app_listen: {self.target}\n")
        self.cgroup = world.cgroups.make(pod)
        self.process = Process("postern", [find_program("postern"), "--config", config], self.folder,
                               self.cgroup)

    def start(self):
        self.process.start()
        wait_for("the sidecar to listen",
                 lambda: socket.create_connection(("127.0.0.1", self.port), 1).close() is None)
        return self


# ── clients of other makers ─────────────────────────────────────────────────────────────────────


class Client:
    """The examples of docs/examples, run as a person would: an ordinary gRPC library, none of our
    code."""

    def __init__(self, world):
        self.stubs = world.folder / "python-stubs"
        self.stubs.mkdir()
        self.python = os.environ["POSTERN_PYTHON"]
        run([self.python, "-m", "grpc_tools.protoc", "-I", CHECKOUT / "proto",
             f"--python_out={self.stubs}", f"--grpc_python_out={self.stubs}",
             *[f"postern/v1/{name}.proto" for name in ("secret", "status")],
             *[f"google/rpc/{name}.proto" for name in ("status", "error_details")]])
        self.environment = dict(os.environ, PYTHONPATH=str(self.stubs))

    def run_python(self, script, *arguments, check=True):
        return run([self.python, CHECKOUT / "docs/examples/python" / script, *arguments],
                   check=check, env=self.environment)

    def run_node(self, script, *arguments, check=True):
        return run(["node", CHECKOUT / "docs/examples/node" / script, *arguments], check=check,
                   cwd=CHECKOUT)

    def status(self, sidecar):
        return json.loads(self.run_python("read_status.py", sidecar.target).stdout)

    def read(self, sidecar, name):
        """The value, or raises Failure with the gRPC status and its details."""
        return self.run_python("read_secret.py", sidecar.target, name).stdout.rstrip("\n")

    def refusal(self, sidecar, name):
        """How a read is refused: (status, reason, message); raises Failure if it is not."""
        script = (
            "import sys, grpc\n"
            "from google.rpc import error_details_pb2, status_pb2\n"
            "from postern.v1 import secret_pb2, secret_pb2_grpc\n"
            "with grpc.insecure_channel(sys.argv[1]) as channel:\n"
            "    try:\n"
            "        secret_pb2_grpc.SecretServiceStub(channel).Get(\n"
            "            secret_pb2.GetSecretRequest(name=sys.argv[2]), timeout=20)\n"
            "        sys.exit('was read')\n"
            "    except grpc.RpcError as error:\n"
            "        status, info = status_pb2.Status(), error_details_pb2.ErrorInfo()\n"
            "        trailers = dict(error.trailing_metadata() or ())\n"
            "        status.ParseFromString(trailers.get('grpc-status-details-bin', b''))\n"
            "        for detail in status.details:\n"
            "            if detail.type_url.endswith('google.rpc.ErrorInfo'):\n"
            "                info.ParseFromString(detail.value)\n"
            "        print(error.code().name, info.reason, error.details(), sep='\\n')\n")
        done = run([self.python, "-c", script, sidecar.target, name], env=self.environment)
        return tuple(done.stdout.splitlines()[:3])


# ── all of it ───────────────────────────────────────────────────────────────────────────────────


class World:
    """One folder with everything in it. Use as a context; `keep` leaves it running."""

    def __init__(self, folder, pods, keep=False):
        self.folder = pathlib.Path(folder)
        self.keep = keep
        self.pods = {pod: f"spiffe://{TRUST_DOMAIN}/{path}" for pod, path in pods.items()}
        self.things = []

    def __enter__(self):
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.cgroups = Cgroups(f"postern-{os.getpid()}")
        return self

    def add(self, thing):
        """Something whose process ends with the world."""
        self.things.append(thing)
        return thing

    def processes(self):
        return [thing.process for thing in self.things if thing.process]

    def __exit__(self, *_):
        if self.keep and _[0] is None:
            return
        for process in reversed(self.processes()):
            try:
                process.end()
            except Failure as failure:
                print(failure, file=sys.stderr)
        self.cgroups.close()
