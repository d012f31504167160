"""protoc-gen-postern run by protoc: what it refuses, in one line that says who is at fault, and what its
headers look like to people. That the stubs compile and work is test_stubs.c's."""
import os
import pathlib
import re
import subprocess
import tempfile
import unittest

PLUGIN = pathlib.Path(os.environ["POSTERN_BIN"]) / "tools/protoc-gen-postern/protoc-gen-postern"
PROTO = pathlib.Path(__file__).resolve().parent / "proto"


def protoc(root, name, out):
    return subprocess.run(["protoc", "-I", root, "-I", "/usr/include",
                           f"--plugin=protoc-gen-postern={PLUGIN}", f"--postern_out={out}", name],
                          capture_output=True, text=True, timeout=20, check=False)


def generate(text, name="a.proto"):
    """(what protoc says, {file: text}) for a proto3 file of these declarations."""
    with tempfile.TemporaryDirectory() as folder:
        root, out = pathlib.Path(folder) / "in", pathlib.Path(folder) / "out"
        root.mkdir()
        out.mkdir()
        (root / name).write_text('syntax = "proto3";\n' + text + "\nmessage M {}\n")
        done = protoc(root, name, out)
        files = {path.name: path.read_text() for path in out.iterdir()}
        return done.returncode, done.stderr.strip(), files


def service(*methods, name="S", package="package p.v1;"):
    lines = "".join(f"rpc {method};" if "(" in method else f"rpc {method}(M) returns (M);"
                    for method in methods)
    return f"{package} service {name} {{ {lines} }}"


class Refusals(unittest.TestCase):
    def refused(self, text, *parts, name="a.proto"):
        code, said, files = generate(text, name)
        self.assertNotEqual(code, 0)
        self.assertEqual(files, {})
        self.assertEqual(len(said.splitlines()), 1, said)
        self.assertIn(name + ": ", said)
        for part in parts:
            self.assertIn(part, said)

    def test_words_of_c(self):
        for word in ("Int", "Register", "typeof", "ThreadLocal", "Linux", "Errno", "__x", "_Thread"):
            with self.subTest(word):
                self.refused(service("Get", word), f"S.{word} becomes ", "which C keeps for itself")

    def test_one_name_for_two_methods(self):
        self.refused(service("GetIt", "get_it"), "S.GetIt and S.get_it both become s_get_it in C")

    def test_a_method_that_is_called_like_a_part_of_another(self):
        both = "(stream M) returns (stream M)"
        for first, second, name in (
                ("Get", "GetReply", "s_get_reply"),
                ("Get", "GetSync", "s_get_sync"),
                ("Get", "GetDone", "s_get_done"),
                ("Get", "GetServe", "s_get_serve"),
                ("Get", "GetDeliver", "s_get_deliver"),
                ("Get" + both, "GetSendRequest", "s_get_send_request"),
                ("Get" + both, "GetSendResponse", "s_get_send_response"),
                ("Get" + both, "GetResponse", "s_get_response"),
                ("Get" + both, "GetServeMessage", "s_get_serve_message"),
                ("Get" + both, "GetMessage", "s_handlers.get_message")):
            with self.subTest(second):
                self.refused(service(first, second), f"S.Get and S.{second}", name)
        # What is taken depends on the kind.
        self.assertEqual(generate(service("Get", "GetSendRequest", "GetMessage"))[0], 0)

    def test_a_method_that_is_called_like_a_part_of_its_service(self):
        self.refused(service("Get", "Definition"), "S and S.Definition", "s_definition")
        self.refused(service("Get", "Methods"), "S and S.Methods", "s_methods")
        self.assertEqual(generate(service("Handlers"))[0], 0)  # a tag is no function

    def test_two_services(self):
        self.refused(service("Get") + service("Get", name="s", package=""), "S and s both become")
        # A prefix that is the beginning of another: s + _t_get, s_t + _get.
        self.refused(service("t_get") + service("get", name="s_t", package=""),
                     "S.t_get and s_t.get both become s_t_get")

    def test_a_service_without_methods(self):
        self.refused(service(), "service S has no methods")

    def test_a_file_that_begins_with_a_digit(self):
        self.refused(service("Get"), "can't begin with a digit", name="3d.proto")

    def test_a_name_without_end(self):
        self.refused(service("G" + "o" * 600), "too long", "S.Go")

    def test_options_of_protobuf_c(self):
        text = ('import "protobuf-c/protobuf-c.proto"; option (pb_c_file).c_package = "other"; ' +
                service("Get"))
        self.refused(text, "pb_c_file", "remove it")


class Names(unittest.TestCase):
    def header(self, text, name="a.proto"):
        code, said, files = generate(text, name)
        self.assertEqual(code, 0, said)
        return files[name.removesuffix(".proto") + ".rpc.h"]

    def test_versions(self):
        for package, prefix in (("", "s"), ("package v1;", "s"), ("package v2;", "s_v2"),
                                ("package a.b.v1;", "s"), ("package a.v1alpha;", "s_v1alpha"),
                                ("package a.v10;", "s_v10"), ("package a.video;", "s"),
                                ("package v2.a;", "s")):
            with self.subTest(package):
                self.assertIn(f"bool {prefix}_register(", self.header(service("Get", package=package)))

    def test_methods(self):
        for method, name in (("GetIt", "get_it"), ("getIt", "get_it"), ("HTTPGet", "httpget"),
                             ("GetHTTP2", "get_http2"), ("G", "g"), ("Get2FA", "get2_fa"),
                             ("Get_It", "get__it"), ("_get", "_get")):
            with self.subTest(method):
                self.assertIn(f"(*{name})(", self.header(service(method)))

    def test_names_of_500_characters(self):
        method = "G" + "o" * 480
        self.assertIn(f"s_{method.lower()}_reply(", self.header(service(method)))

    def test_dots_in_the_file_name(self):
        self.assertIn('#include "a.b.pb-c.h"', self.header(service("Get"), name="a.b.proto"))

    def test_no_services_no_files(self):
        self.assertEqual(generate("package p;"), (0, "", {}))


class Reading(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with tempfile.TemporaryDirectory() as out:
            done = protoc(PROTO, "peer/v2.proto", out)
            assert done.returncode == 0, done.stderr
            cls.header = (pathlib.Path(out) / "peer/v2.rpc.h").read_text()
            cls.source = (pathlib.Path(out) / "peer/v2.rpc.c").read_text()

    def test_comments_stand_above_prototypes(self):
        for comment, name in (
                ("/* One question, one answer. */", "(*unary)("),
                ("/* One question, one answer. */", "peer_v2_unary_done("),
                ("/* Each question is answered\n{} * at once. */", "(*both)("),
                ("/* Nobody handles these: UNIMPLEMENTED. */", "peer_v2_missing_done("),
                ("/* A test server. What it does is told by each\n"
                 ' * question; "* /" and "/ *" must not end this comment, nor begin another. */',
                 "extern const struct rpc_service peer_v2_definition")):
            with self.subTest(name):
                pattern = r"( *)" + re.escape(comment).replace(r"\{\}", r"\1") + r"\n[^\n]*" + re.escape(name)
                self.assertRegex(self.header, pattern)

    def test_only_what_stands_directly_before_is_taken(self):
        code, said, files = generate("// Of the file.\n\npackage p;\n\n// Detached.\n\n"
                                     "service S { rpc Get(M) returns (M); // behind\n }")
        self.assertEqual(code, 0, said)
        for text in ("Of the file", "Detached", "behind"):
            self.assertNotIn(text, files["a.rpc.h"])

    def test_lines_end_before_column_100(self):
        long = [line for line in (self.header + self.source).splitlines() if len(line) > 100]
        for line in long:  # one parameter that has no room
            self.assertNotIn(",", line.rstrip(","))
        self.assertLess(len(long), 10, long)
        for line in (self.header + self.source).splitlines():
            self.assertEqual(line, line.rstrip())


if __name__ == "__main__":
    unittest.main(verbosity=2)
