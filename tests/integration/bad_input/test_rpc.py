"""Every method of every service with fields that are missing, oversized, malformed, deeply nested, not
UTF-8 or with a NUL in it, and by callers that may not: each gets the status of its class with
google.rpc.BadRequest or ErrorInfo, and what is unknown is ignored. By grpcio, whose TLS is BoringSSL."""
import base64
import json
import os
import pathlib
import subprocess
import tempfile
import unittest

import expect  # noqa: F401: it says where the harness is
from harness import TRUST_DOMAIN, World, run, wait_for
from stage import admitted_node
from wire import details, fields, length, nested, number

HERE = pathlib.Path(__file__).resolve().parent
SECRET = "rpc/secret"
NOBODY = "0" * 32
ADMIN, NODE = "/postern.v1.AdminService/", "/postern.v1.NodeService/"
BAD, DENIED, UNAUTHENTICATED = "INVALID_ARGUMENT", "PERMISSION_DENIED", "UNAUTHENTICATED"
LARGE, UNREADABLE = "RESOURCE_EXHAUSTED", "INTERNAL"


class Caller:
    """caller.py in a cgroup, or where we are."""

    def __init__(self, cgroup=None):
        def enter():
            (cgroup / "cgroup.procs").write_text("0")
        self.process = subprocess.Popen([os.environ["POSTERN_PYTHON"], HERE / "caller.py"], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        preexec_fn=enter if cgroup else None)

    def call(self, to, method, *requests, kind="unary", **more):
        case = {"to": to, "method": method, "kind": kind, **more,
                "requests": [base64.b64encode(r).decode() for r in requests]}
        self.process.stdin.write(json.dumps(case) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        answer["details"] = base64.b64decode(answer["details"])
        answer["answers"] = [base64.b64decode(a) for a in answer["answers"]]
        return answer

    def close(self):
        self.process.stdin.close()
        self.process.wait(20)
        self.process.stdout.close()


class Methods(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.callers = []
        cls.holder = tempfile.TemporaryDirectory(prefix="rpc-")
        cls.world = World(pathlib.Path(cls.holder.name) / "w", {"app": "demo/app"})
        cls.world.__enter__()
        try:
            cls.set_stage()
        except BaseException:
            cls.tearDownClass()
            raise

    @classmethod
    def set_stage(cls):
        cls.stage = admitted_node(cls.world, "app")
        authority = cls.stage.authority
        authority.put_secret(SECRET, "value", cls.world.pods["app"])
        wait_for("the secret", lambda: cls.stage.clients.read(cls.stage.sidecar, SECRET) == "value", 60)
        cls.outside = Caller()
        cls.in_pod = Caller(cls.world.cgroups.make("app"))
        cls.callers = [cls.outside, cls.in_pod]
        cls.app = {"target": cls.stage.sidecar.target}
        cls.pod = {"target": f"unix:{cls.stage.agent.socket}"}
        folder = authority.folder
        cls.stranger = {"target": authority.address, "roots": str(folder / "data/ca.pem")}
        cls.operator = cls.stranger | {"key": str(folder / "operator.key"),
                                       "certificate": str(folder / "operator.pem")}
        cls.node = cls.stranger | cls.issue("node", f"postern/node/{NOBODY}")
        cls.own_node = cls.stranger | cls.issue("own", f"postern/node/{cls.stage.agent_id}")

    @classmethod
    def issue(cls, name, path):
        """A certificate of the authority's own CA, as Attest would give it."""
        data = cls.stage.authority.folder / "data"
        key, request, pem, extensions = (cls.world.folder / f"{name}.{end}"
                                         for end in ("key", "csr", "pem", "ext"))
        extensions.write_text("basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n"
                              f"subjectAltName=URI:spiffe://{TRUST_DOMAIN}/{path}\n")
        run(["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384", "-out",
             key])
        run(["openssl", "req", "-new", "-key", key, "-subj", f"/CN={name}", "-out", request])
        run(["openssl", "x509", "-req", "-in", request, "-CA", data / "ca.pem", "-CAkey",
             data / "ca.key", "-sha384", "-days", "1", "-extfile", extensions, "-out", pem])
        return {"key": str(key), "certificate": str(pem)}

    @classmethod
    def tearDownClass(cls):
        for caller in cls.callers:
            caller.close()
        cls.world.__exit__(None, None, None)
        cls.holder.cleanup()

    def check(self, answer, code, *, field=None, reason=None, says=""):
        self.assertEqual(answer["code"], code, answer)
        self.assertIn(says, answer["message"])
        found_reason, domain, violations = details(answer["details"])
        if answer["details"]:
            status = fields(answer["details"])
            self.assertEqual(status[2][0].decode(), answer["message"])
        if field is not None:
            self.assertEqual(violations, [field], answer)
        if reason is not None:
            self.assertEqual((found_reason, domain), (reason, "postern"), answer)
        if field is not None or reason is not None:
            self.assertTrue(answer["message"])

    def try_text(self, call, tag, field, code=BAD):
        """What goes wrong with any field of text, whatever the method."""
        for what, data in (("not UTF-8", length(tag, b"a\xff\xfe")),
                           ("half a character", length(tag, b"a\xc3")),
                           ("a surrogate", length(tag, b"\xed\xa0\x80")),
                           ("a NUL", length(tag, b"a\0b")),
                           ("a number", number(tag, 5)),
                           ("a fixed number", bytes([tag << 3 | 5]) + b"abcd"),
                           ("longer than the message", bytes([tag << 3 | 2, 100]) + b"abc"),
                           ("an endless length", bytes([tag << 3 | 2]) + b"\xff" * 11),
                           ("a group", bytes([tag << 3 | 3, tag << 3 | 4]))):
            with self.subTest(field, what=what):
                self.check(call(data), code, field=field)

    def try_message(self, call, good, code="OK"):
        """What goes wrong with any message; `good` is one that gets `code`."""
        for what, data in (("cut short", good + b"\xfa\x3f"), ("no tag", good + b"\xff" * 6),
                           ("field 0", good + b"\0\0"), ("wire type 7", good + b"\xff\x3f"),
                           ("groups in groups", good + b"\xfb\x3f" * 5000)):
            with self.subTest(what):
                self.check(call(data), UNREADABLE, says="cannot read the message")
        with self.subTest("oversized"):
            self.check(call(good + length(2000, b"x" * (4 << 20))), LARGE, reason="MESSAGE_TOO_LARGE")
        with self.subTest("too many"):
            self.check(call(good + number(2000, 1) * 200_000), LARGE, reason="MESSAGE_TOO_LARGE")
        for what, data in (("unknown numbers", number(2000, 1) + number(2001, 1 << 63)),
                           ("unknown bytes", length(2000, b"\xff\0\xfe")),
                           ("unknown, deeply nested", nested(2000, 3000)),
                           ("an unknown fixed64", b"\xf9\x3f12345678")):
            with self.subTest(what):
                self.assertEqual(call(data + good)["code"], code)

    # ── the sidecar: SecretService, StatusService ───────────────────────────────────────────────

    def test_secret_get(self):
        call = lambda data: self.outside.call(self.app, "/postern.v1.SecretService/Get",  # noqa: E731
                                              data)
        self.try_text(call, 1, "name")
        for what, name in (("missing", b""), ("empty", length(1, "")), ("too long", length(1, "a" * 254)),
                           ("very long", length(1, "a" * 1_000_000)), ("upper", length(1, "Upper")),
                           ("space", length(1, "a b")), ("other letters", length(1, "ä"))):
            with self.subTest(what):
                self.check(call(name), BAD, field="name")
        self.check(call(length(1, "a" * 253)), "NOT_FOUND")
        self.check(call(length(1, "no/such")), "NOT_FOUND")
        self.try_message(call, length(1, SECRET))
        self.assertEqual(fields(call(length(1, SECRET))["answers"][0])[2], [b"value"])

    def test_status_get(self):
        call = lambda data: self.outside.call(self.app, "/postern.v1.StatusService/Get",  # noqa: E731
                                              data)
        self.try_message(call, b"")

    # ── the node agent: PodService ──────────────────────────────────────────────────────────────

    def test_pod_service(self):
        for method, kind, good in (("Attach", "stream", length(1, "0.1.0")),
                                   ("FetchSecret", "unary", length(1, SECRET))):
            def call(data, caller=self.in_pod, method=method, kind=kind):
                return caller.call(self.pod, f"/postern.v1.PodService/{method}", data, kind=kind)
            with self.subTest(method):
                self.try_text(call, 1, {"Attach": "version"}.get(method, "name"))
                self.try_message(call, good)
                # Who is in no pod is told nothing, and not before it has said something readable.
                self.check(call(good, self.outside), DENIED, reason="POD_UNKNOWN")
        fetch = lambda data, caller=self.in_pod: caller.call(  # noqa: E731
            self.pod, "/postern.v1.PodService/FetchSecret", data)
        for what, name in (("missing", b""), ("too long", length(1, "a" * 254)),
                           ("upper", length(1, "Upper"))):
            with self.subTest(what):
                self.check(fetch(name), BAD, field="name")
        self.check(fetch(length(1, "no/such")), "NOT_FOUND")
        self.assertEqual(fields(fetch(length(1, SECRET))["answers"][0])[2], [b"value"])

    # ── the authority: AdminService ─────────────────────────────────────────────────────────────

    def admin(self, method, data, to=None):
        return self.outside.call(to or self.operator, ADMIN + method, data)

    def test_admin(self):
        agent, nobody = length(1, self.stage.agent_id), length(1, NOBODY)
        app = self.world.pods["app"]
        missing = (("missing", b"", "agent_id"), ("short", length(1, "ab"), "agent_id"),
                   ("upper", length(1, "A" * 32), "agent_id"),
                   ("long", length(1, "a" * 100_000), "agent_id"))
        methods = {
            # method: (a request that succeeds or its status, {text field: tag}, [(what, data, field)])
            "ListNodes": (b"", "OK", {}, ()),
            "ListSecrets": (b"", "OK", {}, ()),
            "ApproveNode": (agent + length(2, "demo"), "OK", {"agent_id": 1, "policy": 2}, missing),
            "DenyNode": (nobody, "NOT_FOUND", {"agent_id": 1}, missing),
            "AcceptClear": (agent, "OK", {"agent_id": 1}, missing),
            "AttestNow": (nobody, "UNAVAILABLE", {"agent_id": 1}, missing),
            "CreateJoinToken": (length(1, "demo"), "OK", {"policy": 1}, (
                ("lifetime", length(1, "demo") + number(2, 86_400_001), "lifetime_ms"),
                ("endless", length(1, "demo") + number(2, (1 << 64) - 1), "lifetime_ms"))),
            "RecordPolicy": (agent + length(2, "x"), "OK",
                             {"agent_id": 1, "name": 2, "pcrs": 3, "seal": 4}, (
                *missing,
                ("no name", agent, "name"),
                ("name", agent + length(2, "Big"), "name"),
                ("long name", agent + length(2, "a" * 70_000), "name"),
                ("pcrs", agent + length(2, "x") + length(3, "sha256:99"), "pcrs"),
                ("long pcrs", agent + length(2, "x") + length(3, "sha256:" + "1," * 50_000), "pcrs"),
                ("seal", agent + length(2, "x") + length(4, "sha256:10"), "seal"),
                ("bank", agent + length(2, "x") + length(4, "md5:1"), "seal"))),
            "ExplainNode": (agent, "OK", {"agent_id": 1, "policy": 2}, missing),
            "PutSecret": (length(1, "rpc/put") + length(2, b"\0\xff"), "OK", {"name": 1}, (
                ("no name", length(2, b"x"), "name"),
                ("name", length(1, "Big") + length(2, b"x"), "name"),
                ("long name", length(1, "a" * 254) + length(2, b"x"), "name"),
                ("nothing", length(1, "rpc/put"), "value"),
                ("an ID", length(1, "rpc/put") + length(3, length(1, app) + length(1, "app")),
                 "allow.spiffe_ids[1]"),
                ("no UTF-8", length(1, "rpc/put") + length(3, length(1, app) + length(1, b"\xff")),
                 "allow.spiffe_ids[1]"),
                ("a NUL", length(1, "rpc/put") + length(3, length(1, app.encode() + b"\0")),
                 "allow.spiffe_ids[0]"),
                ("reserved", length(1, "rpc/put") + length(
                    3, length(1, f"spiffe://{TRUST_DOMAIN}/postern/node/x")), "allow.spiffe_ids[0]"),
                ("another domain", length(1, "rpc/put") + length(3, length(1, "spiffe://other/app")),
                 "allow.spiffe_ids[0]"),
                ("twice", length(1, "rpc/put") + length(3, b"") + length(3, b""), "allow"),
                ("broken", length(1, "rpc/put") + length(3, b"\x0a\x7f"), "allow.spiffe_ids[0]"))),
        }
        for method, (good, code, texts, bad) in methods.items():
            call = lambda data, method=method: self.admin(method, data)  # noqa: E731
            with self.subTest(method):
                self.assertEqual(call(good)["code"], code, call(good))
                self.try_message(call, good, code)
                for field, tag in texts.items():
                    self.try_text(call, tag, field)
                for what, data, field in bad:
                    with self.subTest(method, what=what):
                        self.check(call(data), BAD, field=field)
        for what, data, code, reason in (
                ("a value too large", length(1, "rpc/put") + length(2, b"x" * 65_537), LARGE,
                 "VALUE_TOO_LARGE"),
                ("a list too long", length(1, "rpc/put") + length(3, length(1, app) * 5000), LARGE,
                 "ALLOW_LIST_TOO_LONG"),
                ("no value yet", length(1, "rpc/none") + length(3, b""), "NOT_FOUND",
                 "SECRET_UNKNOWN")):
            with self.subTest(what):
                self.check(self.admin("PutSecret", data), code, reason=reason)
        for method, data in (("ApproveNode", agent + length(2, "none")),
                             ("CreateJoinToken", length(1, "none")),
                             ("ExplainNode", agent + length(2, "none"))):
            with self.subTest(method):
                self.check(self.admin(method, data), "NOT_FOUND", reason="POLICY_UNKNOWN")
        # What was refused left nothing.
        names = [s["name"] for s in self.stage.authority.ctl_json("secret", "list")["secrets"]]
        self.assertEqual(sorted(names), ["rpc/put", SECRET])
        self.assertEqual([n["agentId"] for n in self.stage.authority.nodes()], [self.stage.agent_id])

    # ── the authority: NodeService ──────────────────────────────────────────────────────────────

    def attest(self, *messages, **more):
        return self.outside.call(self.stranger, NODE + "Attest", *messages, kind="both", **more)

    def test_attest(self):
        hello = lambda data: length(1, data)  # noqa: E731
        some = number(1, 1) + length(2, "host")
        for what, message, code, field in (
                ("no part", b"", BAD, "part"),
                ("evidence first", length(2, b"x"), BAD, "part"),
                ("an empty hello", hello(b""), BAD, "protocol"),
                ("protocol 0", hello(number(1, 0)), BAD, "protocol"),
                ("no keys", hello(some), BAD, None),
                ("a host that is no text", hello(number(1, 1) + length(2, b"\xff")), BAD, "host_name"),
                ("a NUL", hello(number(1, 1) + length(2, b"a\0b")), BAD, "host_name"),
                ("a token too long", hello(some + length(11, "a" * 4000)), BAD, "join_token"),
                ("junk for a hello", hello(b"\xff" * 50), BAD, None),
                ("junk for keys", hello(some + b"".join(length(i, b"\xff" * 40)
                                                        for i in range(5, 10))), BAD, None),
                ("another wire type", number(1, 5), BAD, "hello"),
                ("a hello too large", hello(b"x" * 1_000_000), LARGE, None),
                ("a message too large", hello(b"x" * (5 << 20)), LARGE, None),
                ("too deep", hello(some + length(10, nested(1, 200))), BAD, None),
        ):
            with self.subTest(what):
                self.check(self.attest(message, open=True), code, field=field)
        self.check(self.attest(), BAD, says="ended before")
        # Both parts of the oneof: the last counts, and it is out of turn.
        self.check(self.attest(hello(some) + length(2, b"x"), open=True), BAD, field="part")

    def test_watch(self):
        call = lambda data: self.outside.call(self.node, NODE + "Watch", data, kind="stream")  # noqa: E731
        held = length(1, "a/b") + number(2, 1) + number(3, 1) + number(4, 1)
        for what, data, field in (
                ("a name that is no text", length(2, length(1, b"\xff")), "held[0].name"),
                ("a NUL", length(2, held) + length(2, length(1, b"a\0")), "held[1].name"),
                ("held is a number", number(2, 1), "held[0]"),
                ("generation is text", length(1, b"x"), "generation")):
            with self.subTest(what):
                self.check(call(data), BAD, field=field)
        for what, data in (("no name", length(2, b"")), ("no such name", length(2, length(1, "Big"))),
                           ("twice", length(2, held) + length(2, held))):
            with self.subTest(what):
                answer = call(data)
                self.assertEqual(answer["code"], BAD, answer)
                self.assertTrue(details(answer["details"])[2], answer)

    def test_fetch_and_confirm(self):
        agent = self.stage.agent_id
        header = length(1, agent) + number(2, 1) + length(3, b"n" * 16) + number(4, 1)
        for method in ("Fetch", "Confirm"):
            def call(body, signature=b"s", to=self.own_node, method=method):
                data = (length(1, body) if body is not None else b"") + (
                    length(2, signature) if signature else b"")
                return self.outside.call(to, NODE + method, data)
            tail = length(2, "a/b") if method == "Fetch" else number(3, 1)
            for what, body, field in (
                    ("no body", None, "body"),
                    ("an empty body", b"", "body"),
                    ("no header", tail, "body.header"),
                    ("an empty header", length(1, b"") + tail, "body.header.agent_id"),
                    ("a short nonce", length(1, length(1, agent) + length(3, b"n")) + tail,
                     "body.header.nonce"),
                    ("a generation beyond all", length(1, header + number(2, (1 << 64) - 1)) + tail,
                     "body.header.generation")):
                with self.subTest(method, what=what):
                    self.check(call(body), BAD, field=field)
            with self.subTest(method, what="junk"):
                self.check(call(b"\xff" * 60), BAD, says="tag")
            for what, body in (("no text", length(1, length(1, b"\xff")) + tail),
                               ("a NUL", length(1, length(1, b"a\0")) + tail),
                               ("a string for the header", number(1, 1) + tail)):
                with self.subTest(method, what=what):
                    answer = call(body)
                    self.assertEqual(answer["code"], BAD, answer)
                    self.assertTrue(details(answer["details"])[2], answer)
            with self.subTest(method, what="no signature"):
                self.check(call(length(1, header) + tail, b""), BAD, field="signature")
            with self.subTest(method, what="a long signature"):
                self.check(call(length(1, header) + tail, b"s" * 100_000), BAD, field="signature")
            with self.subTest(method, what="a long body"):
                self.check(call(b"x" * 3_000_000), BAD, field="body")
            with self.subTest(method, what="too deep"):
                self.check(call(length(1, header) + tail + length(2000, nested(1, 500))),
                           UNAUTHENTICATED, reason="REQUEST_NOT_AUTHENTIC")
            with self.subTest(method, what="signed by nobody"):
                self.check(call(length(1, header) + tail), UNAUTHENTICATED,
                           reason="REQUEST_NOT_AUTHENTIC")
            with self.subTest(method, what="of another node"):
                self.check(call(length(1, header) + tail, to=self.node), DENIED, reason="WRONG_NODE")
            with self.subTest(method, what="of another node, in the body"):
                other = length(1, length(1, NOBODY) + header[34:]) + tail
                self.check(call(other), DENIED, reason="WRONG_NODE")
        confirm = lambda body: self.outside.call(  # noqa: E731
            self.own_node, NODE + "Confirm", length(1, body) + length(2, b"s"))
        for what, body, field in (
                ("neither", length(1, header), "body"),
                ("generation 0", length(1, header) + number(3, 0), "body.generation"),
                ("no commitment", length(1, header) + length(2, length(1, "a/b")),
                 "body.version.commitment")):
            with self.subTest(what):
                self.check(confirm(body), BAD, field=field)

    # ── who calls ───────────────────────────────────────────────────────────────────────────────

    def test_callers(self):
        admin = [ADMIN + m for m in (
            "ListNodes", "ApproveNode", "DenyNode", "CreateJoinToken", "AcceptClear", "AttestNow",
            "RecordPolicy", "ExplainNode", "PutSecret", "ListSecrets")]
        node = [NODE + m for m in ("Watch", "Fetch", "Confirm")]
        plain = {"target": self.stranger["target"]}
        for method in admin + node:
            kind = "stream" if method.endswith("Watch") else "unary"
            with self.subTest(method, by="nobody"):
                self.check(self.outside.call(self.stranger, method, b"", kind=kind), UNAUTHENTICATED,
                           reason="NO_IDENTITY")
            wrong = self.node if method in admin else self.operator
            with self.subTest(method, by="the other kind"):
                self.check(self.outside.call(wrong, method, b"", kind=kind), DENIED,
                           reason="NOT_ALLOWED")
        with self.subTest("Attest by an operator"):
            self.check(self.outside.call(self.operator, NODE + "Attest", b"", kind="both", open=True),
                       DENIED, reason="NOT_ALLOWED")
        with self.subTest("without TLS"):
            self.assertEqual(self.outside.call(plain, ADMIN + "ListNodes", b"")["code"], "UNAVAILABLE")
        for method in ("/postern.v1.SecretService/Get", ADMIN + "Nothing", "/no.Service/Method"):
            with self.subTest(method):
                self.assertIn(self.outside.call(self.stranger, method, b"")["code"],
                              (UNAUTHENTICATED, "UNIMPLEMENTED"))
                self.assertIn(self.outside.call(self.operator, method, b"")["code"],
                              (DENIED, "UNIMPLEMENTED"))
        # And of another authority's CA: the handshake ends it.
        self.assertEqual(self.outside.call(self.operator, ADMIN + "ListNodes", b"")["code"], "OK")


if __name__ == "__main__":
    unittest.main(verbosity=2)
