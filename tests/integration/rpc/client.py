"""The test client on grpcio: client.py FOLDER TARGET plain|tls [CASE...]. The cases are those of cases.c,
and what only our server has: health and reflection. `*_pb2` are found by PYTHONPATH."""
import os
import pathlib
import signal
import sys
import time

import grpc
from google.protobuf import descriptor_pb2
from google.rpc import error_details_pb2, status_pb2
from peer import v2_pb2, v2_pb2_grpc

# The services' own packages are called like grpcio's.
for place in os.environ["PYTHONPATH"].split(":"):
    grpc.__path__.append(place + "/grpc")
from grpc.health.v1 import health_pb2, health_pb2_grpc  # noqa: E402
from grpc.reflection.v1 import reflection_pb2, reflection_pb2_grpc  # noqa: E402
from grpc.reflection.v1alpha import reflection_pb2 as alpha_pb2  # noqa: E402
from grpc.reflection.v1alpha import reflection_pb2_grpc as alpha_pb2_grpc  # noqa: E402

Ask = v2_pb2.Ask
CODES = {code.value[0]: code for code in grpc.StatusCode}
MESSAGE_LIMIT = 4 << 20
OVERHEAD = 5
TIMEOUT = 20
SERVICE = "postern.test_peer.v2.Peer"


class Wrong(Exception):
    pass


def expect(condition, *found):
    if not condition:
        raise Wrong(f"line {sys._getframe(1).f_lineno}: {found}")


def fails(code, call):
    try:
        call()
    except grpc.RpcError as error:
        expect(error.code() == code, error.code(), error.details())
        return error
    raise Wrong(f"no error where {code} was due")


class Cases:
    def __init__(self, channel):
        self.channel = channel
        self.peer = v2_pb2_grpc.PeerStub(channel)

    def unary(self, **fields):
        return self.peer.Unary(Ask(**fields), timeout=TIMEOUT, wait_for_ready=True)

    def case_unary(self):
        payload = bytes(range(256)) * 4
        answer = self.unary(text="grüß dich", payload=payload)
        expect(answer.text == "grüß dich" and answer.payload == payload)

    def case_down(self):
        answers = list(self.peer.Down(Ask(text="down", count=500), timeout=TIMEOUT))
        expect([a.count for a in answers] == list(range(500)))

    def case_up(self):
        answer = self.peer.Up((Ask(payload=bytes(1000)) for _ in range(500)), timeout=TIMEOUT)
        expect(answer.count == 500 and answer.bytes == 500_000)

    def case_both(self):
        heard = []

        def questions():
            for i in range(100):
                while len(heard) < i:
                    time.sleep(0.0005)
                yield Ask(text=str(i))

        for answer in self.peer.Both(questions(), timeout=TIMEOUT):
            heard.append(answer.text)
        expect(heard == [str(i) for i in range(100)])

    def case_empty(self):
        expect(self.unary().payload == b"")
        expect(list(self.peer.Down(Ask(), timeout=TIMEOUT)) == [])
        expect(self.peer.Up(iter([]), timeout=TIMEOUT).count == 0)
        expect(list(self.peer.Both(iter([]), timeout=TIMEOUT)) == [])

    def case_unimplemented(self):
        unimplemented = grpc.StatusCode.UNIMPLEMENTED
        fails(unimplemented, lambda: self.peer.Missing(Ask(), timeout=TIMEOUT))
        fails(unimplemented, lambda: list(self.peer.MissingDown(Ask(), timeout=TIMEOUT)))
        fails(unimplemented, lambda: self.peer.MissingUp(iter([Ask()]), timeout=TIMEOUT))
        fails(unimplemented, lambda: list(self.peer.MissingBoth(iter([Ask()]), timeout=TIMEOUT)))
        fails(unimplemented, lambda: self.channel.unary_unary("/no.Such/Thing")(b"", timeout=TIMEOUT))

    def case_metadata(self):
        _, call = self.peer.Unary.with_call(Ask(text="m"), timeout=TIMEOUT,
                                            metadata=[("x-ask", "one"), ("x-ask", "two, 2; =")])
        heads = [value for key, value in call.initial_metadata() if key == "x-head"]
        expect(heads == ["one", "two, 2; ="], heads)

    def case_metadata_bin(self):
        values = [bytes(range(256)), b"\0", bytes(range(255))]
        _, call = self.peer.Unary.with_call(Ask(text="m"), timeout=TIMEOUT,
                                            metadata=[("x-ask-bin", value) for value in values])
        tails = [value for key, value in call.trailing_metadata() if key == "x-tail-bin"]
        expect(tails == values, tails)

    def server_saw(self, count):
        end = time.monotonic() + 5
        while (seen := self.unary().cancelled) < count:
            expect(time.monotonic() < end, seen, count)
            time.sleep(0.01)

    def case_deadline(self):
        before = self.unary().cancelled
        start = time.monotonic()
        fails(grpc.StatusCode.DEADLINE_EXCEEDED, lambda: self.peer.Unary(Ask(hold=True), timeout=0.3))
        expect(0.25 < time.monotonic() - start < 5, time.monotonic() - start)
        self.server_saw(before + 1)

    def case_deadline_seen(self):
        remaining = self.peer.Unary(Ask(), timeout=5).remaining_ms
        expect(3000 < remaining <= 5100, remaining)  # grpcio sends it rounded up
        expect(self.peer.Unary(Ask()).remaining_ms == 0)

    def case_cancel_by_client(self):
        before = self.unary().cancelled
        call = self.peer.Down(Ask(count=1, hold=True), timeout=TIMEOUT)
        next(call)
        call.cancel()
        fails(grpc.StatusCode.CANCELLED, lambda: next(call))
        self.server_saw(before + 1)

    def case_cancel_by_server(self):
        def endless():
            for _ in range(3):
                yield Ask(status=1, after=3, text="enough")
            time.sleep(1)

        heard = []
        call = self.peer.Both(endless(), timeout=TIMEOUT)
        fails(grpc.StatusCode.CANCELLED, lambda: [heard.append(a) for a in call])
        expect(len(heard) == 2, heard)
        fails(grpc.StatusCode.CANCELLED, lambda: self.peer.Up(endless(), timeout=TIMEOUT))

    def case_status(self):
        message = " 100 % “müde”, 😀 %41 "
        # Our errors have no class of their own for UNKNOWN, ABORTED, OUT_OF_RANGE and DATA_LOSS.
        for number in (1, 3, 4, 5, 6, 7, 8, 9, 12, 13, 14, 16):
            error = fails(CODES[number], lambda n=number: self.unary(status=n, text=message))
            expect(error.details() == message, error.details())

    def case_details(self):
        def details(error):
            status = status_pb2.Status.FromString(
                dict(error.trailing_metadata())["grpc-status-details-bin"])
            expect(status.code == error.code().value[0], status)
            expect(status.message == error.details(), status)
            found = {}
            for any_ in status.details:
                for kind in (error_details_pb2.ErrorInfo, error_details_pb2.BadRequest):
                    if any_.Is(kind.DESCRIPTOR):
                        found[kind] = kind()
                        any_.Unpack(found[kind])
            return found

        found = details(fails(grpc.StatusCode.FAILED_PRECONDITION,
                              lambda: self.unary(status=9, text="not so", reason="NODE_CONTRAINDICATED")))
        info = found[error_details_pb2.ErrorInfo]
        expect(info.reason == "NODE_CONTRAINDICATED" and info.domain == "postern", info)
        expect(error_details_pb2.BadRequest not in found)
        call = self.peer.Down(Ask(status=3, text="not so", field="secrets[3].name", count=2),
                              timeout=TIMEOUT)
        next(call), next(call)
        found = details(fails(grpc.StatusCode.INVALID_ARGUMENT, lambda: next(call)))
        violation = found[error_details_pb2.BadRequest].field_violations[0]
        expect(violation.field == "secrets[3].name" and violation.description, violation)

    def case_sizes(self):
        for size in (1, 16_383, 16_384, 16_385, 65_530, 65_535, 65_536, 65_537, 1 << 20,
                     MESSAGE_LIMIT - OVERHEAD - 100, MESSAGE_LIMIT - OVERHEAD):
            expect(self.peer.Up(iter([Ask(payload=bytes(size))]), timeout=TIMEOUT).bytes == size, size)
            size = min(size, MESSAGE_LIMIT - 100)
            answers = list(self.peer.Down(Ask(size=size, count=1), timeout=TIMEOUT))
            expect(len(answers[0].payload) == size, size)

    def case_limit_up(self):
        over = MESSAGE_LIMIT - OVERHEAD + 1
        fails(grpc.StatusCode.RESOURCE_EXHAUSTED, lambda: self.unary(payload=bytes(over)))
        expect(self.unary(text="on").text == "on")

    def case_limit_down(self):
        fails(grpc.StatusCode.RESOURCE_EXHAUSTED, lambda: self.unary(size=MESSAGE_LIMIT + 1))
        expect(self.unary(text="on").text == "on")

    def case_flood_down(self):
        call = self.peer.Down(Ask(size=65_536, count=512), timeout=TIMEOUT)
        answers = [next(call)]
        time.sleep(0.3)
        answers += call
        expect([a.count for a in answers] == list(range(512)))
        expect(sum(len(a.payload) for a in answers) == 32 << 20)

    def case_flood_up(self):
        answer = self.peer.Up((Ask(payload=bytes(65_536)) for _ in range(512)), timeout=TIMEOUT)
        expect(answer.count == 512 and answer.bytes == 32 << 20, answer.count)

    def case_concurrent_200(self):
        start = time.monotonic()
        calls = [self.peer.Unary.future(Ask(text=str(i), delay_ms=200), timeout=TIMEOUT)
                 for i in range(200)]
        expect([c.result().text for c in calls] == [str(i) for i in range(200)])
        expect(time.monotonic() - start < 20)  # one after the other: 40

    def reconnects(self, before):
        """grpcio may send a call into the connection that is just being lost."""
        for _ in range(10):
            try:
                expect(self.unary().process != before)
                return
            except grpc.RpcError as error:
                expect(error.code() == grpc.StatusCode.UNAVAILABLE, error)
                time.sleep(0.2)
        raise Wrong("no connection again")

    def case_drain(self):
        process = self.unary().process
        call = self.peer.Down(Ask(count=10, delay_ms=100), timeout=TIMEOUT)
        answers = [next(call), next(call)]
        os.kill(process, signal.SIGTERM)
        answers += call
        expect(len(answers) == 10, len(answers))
        self.reconnects(process)

    def case_lost(self):
        process = self.unary().process
        call = self.peer.Down(Ask(count=1, hold=True), timeout=TIMEOUT)
        next(call)
        os.kill(process, signal.SIGKILL)
        fails(grpc.StatusCode.UNAVAILABLE, lambda: next(call))
        self.reconnects(process)

    # What only our server has.

    def case_health(self):
        health = health_pb2_grpc.HealthStub(self.channel)
        serving = health_pb2.HealthCheckResponse.SERVING
        not_serving = health_pb2.HealthCheckResponse.NOT_SERVING

        def check(name):
            return health.Check(health_pb2.HealthCheckRequest(service=name), timeout=TIMEOUT).status

        self.unary(text="health on")
        expect(check("") == serving and check("toggled") == serving)
        fails(grpc.StatusCode.NOT_FOUND, lambda: check("nobody"))
        watch = health.Watch(health_pb2.HealthCheckRequest(service="toggled"), timeout=TIMEOUT)
        expect(next(watch).status == serving)
        self.unary(text="health off")
        expect(next(watch).status == not_serving)
        expect(check("toggled") == not_serving)
        self.unary(text="health on")
        expect(next(watch).status == serving)
        watch.cancel()
        unknown = health.Watch(health_pb2.HealthCheckRequest(service="nobody"), timeout=TIMEOUT)
        expect(next(unknown).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN)
        unknown.cancel()
        listed = health.List(health_pb2.HealthListRequest(), timeout=TIMEOUT).statuses
        expect({name: s.status for name, s in listed.items()} == {"": serving, "toggled": serving}, listed)

    def reflect(self, stub, kind):
        def ask(**fields):
            return next(stub.ServerReflectionInfo(
                iter([kind.ServerReflectionRequest(**fields)]), timeout=TIMEOUT))

        names = {s.name for s in ask(list_services="").list_services_response.service}
        expect(names == {SERVICE, "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection",
                         "grpc.reflection.v1alpha.ServerReflection"}, names)
        for question in ({"file_containing_symbol": SERVICE},
                         {"file_containing_symbol": SERVICE + ".Unary"},
                         {"file_containing_symbol": "postern.test_peer.v2.Odd.Inner2Deep.XML_v3"},
                         {"file_by_filename": "peer/v2.proto"}):
            files = [descriptor_pb2.FileDescriptorProto.FromString(bytes_) for bytes_ in
                     ask(**question).file_descriptor_response.file_descriptor_proto]
            names = [f.name for f in files]
            expect("peer/v2.proto" in names, question, names)
            [peer] = [f for f in files if f.name == "peer/v2.proto"]
            expect([m.name for m in peer.service[0].method][:4] == ["Unary", "Down", "Up", "Both"])
        error = ask(file_containing_symbol="no.Such").error_response
        expect(error.error_code == grpc.StatusCode.NOT_FOUND.value[0], error)
        # Several questions in one stream.
        answers = list(stub.ServerReflectionInfo(
            iter([kind.ServerReflectionRequest(list_services="")] * 3), timeout=TIMEOUT))
        expect(len(answers) == 3)

    def case_reflection_v1(self):
        self.reflect(reflection_pb2_grpc.ServerReflectionStub(self.channel), reflection_pb2)

    def case_reflection_v1alpha(self):
        self.reflect(alpha_pb2_grpc.ServerReflectionStub(self.channel), alpha_pb2)


def main():
    folder, target, kind, *wanted = sys.argv[1:]
    folder = pathlib.Path(folder)
    options = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.min_reconnect_backoff_ms", 100),
               ("grpc.max_reconnect_backoff_ms", 300)]
    if kind == "plain":
        channel = grpc.insecure_channel(target, options)
    else:
        channel = grpc.secure_channel(target, grpc.ssl_channel_credentials(
            (folder / "ca.pem").read_bytes(), (folder / "key.pem").read_bytes(),
            (folder / "cert.pem").read_bytes()), options)
    cases = Cases(channel)
    for name in [name for name in vars(Cases) if name.startswith("case_")]:
        title = name.removeprefix("case_").replace("_", "-")
        if wanted and title not in wanted:
            continue
        try:
            getattr(cases, name)()
            print(f"{title}: ok", flush=True)
        except (Wrong, grpc.RpcError, StopIteration) as error:
            print(f"{title}: {error!r}".replace("\n", " "), flush=True)
    channel.close()


main()
