"""The test server on grpcio: server.py FOLDER TCP TLS; what it does is said in server.c. `*_pb2` are found
by PYTHONPATH."""
import concurrent.futures
import os
import pathlib
import signal
import sys
import threading

import grpc
from google.rpc import error_details_pb2, status_pb2
from peer import v2_pb2

CODES = {code.value[0]: code for code in grpc.StatusCode}
lock = threading.Lock()
cancelled = 0


def watch(context):
    """An event that comes when the call ends; counts it if that is before its answer."""
    gone = threading.Event()
    context.answered = False

    def end():
        global cancelled
        gone.set()
        with lock:
            if not context.answered:
                cancelled += 1

    context.add_callback(end)
    return gone


def echo_metadata(context):
    given = context.invocation_metadata()
    context.send_initial_metadata([("x-head", value) for key, value in given if key == "x-ask"])
    return [("x-tail-bin", value) for key, value in given if key == "x-ask-bin"]


def fail(ask, context):
    status = status_pb2.Status(code=ask.status, message=ask.text)
    if ask.reason:
        status.details.add().Pack(error_details_pb2.ErrorInfo(reason=ask.reason, domain="postern"))
    if ask.field:
        bad = error_details_pb2.BadRequest()
        bad.field_violations.add(field=ask.field, description=ask.text)
        status.details.add().Pack(bad)
    context.answered = True
    if status.details:
        context.set_trailing_metadata([("grpc-status-details-bin", status.SerializeToString())])
    context.abort(CODES[ask.status], ask.text)


def answer(ask, context, count=0, total=0):
    remaining = context.time_remaining()
    return v2_pb2.Answer(
        text=ask.text, payload=bytes(ask.size) if ask.size else ask.payload, count=count, bytes=total,
        remaining_ms=int(remaining * 1000) if remaining and remaining < 1e6 else 0,
        process=os.getpid(), cancelled=cancelled)


class Peer:
    def Unary(self, ask, context):
        gone = watch(context)
        trailers = echo_metadata(context)
        if ask.hold:
            gone.wait()
            return v2_pb2.Answer()
        if ask.delay_ms:
            gone.wait(ask.delay_ms / 1000)
        if ask.status:
            fail(ask, context)
        context.answered = True
        context.set_trailing_metadata(trailers)
        return answer(ask, context)

    def Down(self, ask, context):
        gone = watch(context)
        for i in range(ask.count):
            if ask.delay_ms:
                gone.wait(ask.delay_ms / 1000)
            yield answer(ask, context, i)
        if ask.hold:
            gone.wait()
            return
        if ask.status:
            fail(ask, context)
        context.answered = True

    def Up(self, asks, context):
        count = total = 0
        watch(context)
        for ask in asks:
            count += 1
            total += len(ask.payload)
            if ask.status and count >= ask.after:
                fail(ask, context)
        context.answered = True
        return answer(v2_pb2.Ask(), context, count, total)

    def Both(self, asks, context):
        count = 0
        watch(context)
        for ask in asks:
            count += 1
            if ask.status and count >= ask.after:
                fail(ask, context)
            yield answer(ask, context, count - 1)
        context.answered = True


def main():
    folder, tcp, tls = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(256),
                         options=[("grpc.so_reuseport", 0)])
    peer = Peer()
    # By hand, so that the methods that nobody handles are not there at all.
    handlers = {name: getattr(grpc, kind)(getattr(peer, name), v2_pb2.Ask.FromString,
                                          v2_pb2.Answer.SerializeToString)
                for name, kind in (("Unary", "unary_unary_rpc_method_handler"),
                                   ("Down", "unary_stream_rpc_method_handler"),
                                   ("Up", "stream_unary_rpc_method_handler"),
                                   ("Both", "stream_stream_rpc_method_handler"))}
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("postern.test_peer.v2.Peer", handlers),))
    credentials = grpc.ssl_server_credentials(
        [((folder / "key.pem").read_bytes(), (folder / "cert.pem").read_bytes())],
        (folder / "ca.pem").read_bytes(), require_client_auth=True)
    server.add_insecure_port(tcp)
    server.add_insecure_port(f"unix:{folder}/peer.sock")
    server.add_secure_port(tls, credentials)
    server.start()
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    print("serving", flush=True)
    stopped.wait()
    server.stop(10).wait()


main()
