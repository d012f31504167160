"""Makes gRPC calls as no stub would, by grpcio's generic calls: run by POSTERN_PYTHON, one JSON object a
line on standard input, one answer a line on standard output. A process of its own, so that it can be in
a pod's cgroup, and because grpcio and forking don't go together."""
import base64
import json
import sys

import grpc

channels = {}


def channel(to):
    key = json.dumps(to, sort_keys=True)
    if key not in channels:
        options = [("grpc.max_send_message_length", -1)]
        if "roots" not in to:
            channels[key] = grpc.insecure_channel(to["target"], options)
        else:
            read = lambda name: open(to[name], "rb").read() if to.get(name) else None  # noqa: E731
            options.append(("grpc.ssl_target_name_override", "postern-authority"))
            channels[key] = grpc.secure_channel(
                to["target"], grpc.ssl_channel_credentials(read("roots"), read("key"),
                                                           read("certificate")), options)
    return channels[key]


def requests_of(requests, held_open):
    yield from requests
    if held_open:  # the peer must end it: there is nothing more to say, nor an end of it
        import threading
        threading.Event().wait(20)


def call(case):
    requests = [base64.b64decode(request) for request in case["requests"]]
    to, kind = channel(case["to"]), case["kind"]
    try:
        if kind == "unary":
            return "OK", "", b"", [to.unary_unary(case["method"])(requests[0], timeout=15)]
        if kind == "stream":  # its first answer is all that is asked
            stream = to.unary_stream(case["method"])(requests[0], timeout=15)
            first = next(stream)
            stream.cancel()
            return "OK", "", b"", [first]
        both = to.stream_stream(case["method"])(requests_of(requests, case.get("open")), timeout=15)
        return "OK", "", b"", list(both)
    except grpc.RpcError as error:
        details = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin", b"")
        return error.code().name, error.details(), details, []


for line in sys.stdin:
    code, message, details, answers = call(json.loads(line))
    print(json.dumps({"code": code, "message": message,
                      "details": base64.b64encode(details).decode(),
                      "answers": [base64.b64encode(answer).decode() for answer in answers]}),
          flush=True)
