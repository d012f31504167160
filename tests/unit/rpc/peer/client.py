"""grpcio's client against our server: python3 client.py SERVER ECHO_PROTO

No generated code: messages and stubs come from the .proto at run time.
"""

import os
import subprocess
import sys

import grpc

server = subprocess.Popen([sys.argv[1]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
sys.path.insert(0, os.path.dirname(sys.argv[2]))
protos, services = grpc.protos_and_services(os.path.basename(sys.argv[2]))
Note = protos.Note
channel = grpc.insecure_channel(
    "127.0.0.1:" + server.stdout.readline().strip(),
    options=[("grpc.max_receive_message_length", 16 << 20)],
)
echo = services.EchoStub(channel)
checks = 0


def check(what, condition):
    global checks
    checks += 1
    if not condition:
        sys.exit(f"failed: {what}")


def fails(code, call):
    try:
        call()
    except grpc.RpcError as error:
        check(f"{error.code()} is {code}: {error.details()}", error.code() == code)
        return error
    sys.exit(f"no error where {code} was due")


check("unary", echo.Unary(Note(text="hi", count=7), timeout=10).count == 7)
check("an empty message", echo.Unary(Note(), timeout=10) == Note())
check("large both ways", echo.Unary(Note(payload=b"x" * 3_000_000), timeout=30).payload == b"x" * 3_000_000)
check("large down", len(echo.Unary(Note(text="big", count=4_000_000), timeout=30).payload) == 4_000_000)
check("server stream", len(list(echo.Down(Note(text="n", count=500), timeout=30))) == 500)
check("an empty stream", list(echo.Down(Note(), timeout=10)) == [])
check("client stream", echo.Up((Note(payload=b"y" * 10_000) for _ in range(200)), timeout=30).count == 200)
check("both", [n.text for n in echo.Both((Note(text=str(i)) for i in range(100)), timeout=30)] == [str(i) for i in range(100)])

error = fails(grpc.StatusCode.FAILED_PRECONDITION, lambda: echo.Unary(Note(text="fail"), timeout=10))
check("the message", error.details() == "gesperrt: müde, 100 %")
details = dict(error.trailing_metadata())["grpc-status-details-bin"]
check("the reason", b"NODE_CONTRAINDICATED" in details and b"postern" in details)
fails(grpc.StatusCode.UNIMPLEMENTED, lambda: echo.Missing(Note(), timeout=10))
fails(grpc.StatusCode.UNIMPLEMENTED, lambda: channel.unary_unary("/no.Such/Thing")(b"", timeout=10))
fails(grpc.StatusCode.RESOURCE_EXHAUSTED, lambda: echo.Unary(Note(payload=b"x" * 5_000_000), timeout=30))
fails(grpc.StatusCode.DEADLINE_EXCEEDED, lambda: echo.Unary(Note(text="hold"), timeout=0.1))
raw = channel.unary_unary("/postern.test.Echo/Unary")
fails(grpc.StatusCode.INTERNAL, lambda: raw(b"\xff", timeout=10))
fails(grpc.StatusCode.INVALID_ARGUMENT, lambda: raw(b"\x0a\x01\xff", timeout=10))
fails(grpc.StatusCode.UNIMPLEMENTED, lambda: echo.Unary(Note(), timeout=10, compression=grpc.Compression.Gzip))

response, call = echo.Unary.with_call(Note(text="meta"), timeout=10, metadata=[("x-test", "t"), ("x-b-bin", b"\0\xff")])
check("initial metadata", dict(call.initial_metadata())["x-head"] == "h")
check("trailing metadata", dict(call.trailing_metadata())["x-tail-bin"] == b"\0\xff")

stream = echo.Down(Note(text="hold"), timeout=10)
stream.cancel()
fails(grpc.StatusCode.CANCELLED, lambda: next(stream))
stream = echo.Down(Note(text="flood"), timeout=30)
check("a flood, read slowly", sum(len(n.payload) for n in stream) % 10_000 == 0)
futures = [echo.Unary.future(Note(text=str(i)), timeout=30) for i in range(1000)]
check("a thousand at once", [f.result().text for f in futures] == [str(i) for i in range(1000)])

service = channel.unary_unary("/grpc.health.v1.Health/Check")
check("health", service(b"", timeout=10) == b"\x08\x01")
reflect = channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
check("reflection", b"postern.test.Echo" in next(reflect(iter([b"\x3a\x00"]), timeout=10)))

channel.close()
server.stdin.close()
check("the server ends well", server.wait(10) == 0)
print(f"{checks} checks passed, grpcio {grpc.__version__}")
