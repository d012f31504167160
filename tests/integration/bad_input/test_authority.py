"""What the machine can do to an authority and to its operators: files that are missing, damaged or
readable by others, a full disk, a locked database, a port in use, certificates that are no good. Each is
one line that says what to do and the exit code of its class, and leaves nothing half-written."""
import contextlib
import os
import pathlib
import shutil
import socket
import sqlite3
import subprocess
import tempfile
import threading
import time
import unittest

from expect import (CONFLICT, DENIED, EXHAUSTED, INVALID, NOBODY, NOT_FOUND, UNAVAILABLE, fill,
                    refusal, small_disk, tree)
from harness import TRUST_DOMAIN, Authority, find_program, run

class Case(unittest.TestCase):
    def setUp(self):
        self.holder = tempfile.TemporaryDirectory(prefix="auth-")
        self.addCleanup(self.holder.cleanup)
        self.folder = pathlib.Path(self.holder.name)

    def authority(self, folder=None):
        folder = folder or self.folder / "authority"
        authority = Authority(folder)
        run([find_program("postern-authority"), "init", folder, "--trust-domain", TRUST_DOMAIN,
             "--listen", authority.address])
        self.addCleanup(lambda: authority.process and authority.process.end())
        return authority

    def not_started(self, code, authority):
        """It does not start; the line says why, and nothing in its folder is other than before."""
        before = tree(authority.folder)
        line = refusal(self, code, "postern-authority", "--config",
                       authority.folder / "authority.yaml")
        self.assertTrue(line.startswith("cannot start: "), line)
        after = tree(authority.folder)
        self.assertEqual(sorted(before), sorted(after))
        self.assertEqual(before, after)
        return line


class Files(Case):
    """What init made."""

    def test_each_file(self):
        authority = self.authority()
        data = authority.folder / "data"
        aside = self.folder / "aside"
        for name in sorted(path.name for path in data.iterdir()):
            if name == "authority.db.lock":  # an empty file to hold a lock on
                continue
            path = data / name
            with self.subTest(name, state="missing"):
                path.rename(aside)
                line = self.not_started(NOT_FOUND, authority)
                self.assertIn(name, line)
                self.assertIn("backup", line)
                aside.rename(path)
            with self.subTest(name, state="empty"):
                shutil.copy2(path, aside)
                path.write_bytes(b"")
                line = self.not_started(NOT_FOUND if name == "authority.db" else INVALID, authority)
                self.assertIn(name, line)
                aside.replace(path)
            with self.subTest(name, state="another file"):
                shutil.copy2(path, aside)
                path.write_bytes(b"all of this is something else entirely\n" * 200)
                if name != "server-names":  # text is what it is
                    line = self.not_started(70 if name == "authority.db" else INVALID, authority)
                    self.assertIn(name, line)
                aside.replace(path)
            with self.subTest(name, state="readable by others"):
                if not name.endswith(".key") and name != "kek":
                    continue
                path.chmod(0o640)
                line = self.not_started(DENIED, authority)
                self.assertIn(name, line)
                self.assertIn("chmod 600", line)
                path.chmod(0o600)
        # All of it is in order again: it was the files.
        authority.start()

    def test_of_another_authority(self):
        """Files that are sound, and not of this authority."""
        authority = self.authority()
        other = self.authority(self.folder / "other")
        for name in ("ca.key", "ca.pem", "ca-ml-dsa-65.key"):
            with self.subTest(name):
                path = authority.folder / "data" / name
                mine = path.read_bytes()
                path.write_bytes((other.folder / "data" / name).read_bytes())
                self.assertIn(name.removesuffix(".key").removesuffix(".pem"),
                              self.not_started(INVALID, authority))
                path.write_bytes(mine)

    def test_folders(self):
        authority = self.authority()
        config = authority.folder / "authority.yaml"
        good = config.read_text()
        config.write_text(good.replace("data_dir: data", "data_dir: elsewhere"))
        self.assertIn("elsewhere", self.not_started(NOT_FOUND, authority))
        config.write_text(good.replace("policies: policies", "policies: elsewhere"))
        self.assertIn("elsewhere", self.not_started(NOT_FOUND, authority))
        config.write_text(good.replace("policies: policies", "policies: trust.pem"))
        self.assertIn("trust.pem", self.not_started(INVALID, authority))
        config.write_text(good + "ek_roots: roots.pem\n")
        self.assertIn("roots.pem", self.not_started(NOT_FOUND, authority))
        (authority.folder / "roots.pem").write_text("none\n")
        self.assertIn("no certificate", self.not_started(INVALID, authority))

    def test_rights(self):
        """As a user who may read the files but not write: and nothing is left that was begun."""
        authority = self.authority()
        self.folder.chmod(0o755)
        for path in [authority.folder, *authority.folder.rglob("*")]:
            os.chown(path, NOBODY, NOBODY)
        (authority.folder / "data").chmod(0o500)
        (authority.folder / "data/authority.db").chmod(0o400)
        before = tree(authority.folder)
        line = refusal(self, DENIED, "postern-authority", "--config",
                       authority.folder / "authority.yaml", user=NOBODY, group=NOBODY)
        self.assertIn("authority.db", line)
        self.assertEqual(before, tree(authority.folder))

    def test_init(self):
        def init(code, *arguments, **options):
            before = tree(self.folder)
            line = refusal(self, code, "postern-authority", "init", *arguments, **options)
            self.assertEqual(before, tree(self.folder))
            return line

        (self.folder / "file").write_text("mine\n")
        (self.folder / "full").mkdir()
        (self.folder / "full/file").write_text("mine\n")
        self.assertIn("nothing was changed", init(CONFLICT, self.folder / "full"))
        self.assertIn("no folder", init(CONFLICT, self.folder / "file"))
        self.assertIn("no/such", init(NOT_FOUND, self.folder / "no/such"))
        self.assertIn("usage", init(INVALID))
        self.assertIn("usage", init(INVALID, self.folder / "a", self.folder / "b"))
        for option, value, says in (
                ("--trust-domain", "Upper", "a-z"), ("--trust-domain", "", "empty"),
                ("--listen", "here", "HOST:PORT"), ("--listen", "localhost:1", "IP address"),
                ("--listen", "127.0.0.1:0", "port"), ("--listen", "unix:/run/a", "IP address"),
                ("--server-name", "not a name", "not a name"), ("--no-such", "x", "usage")):
            with self.subTest(option, value=value):
                self.assertIn(says, init(INVALID, self.folder / "a", option, value))
        self.folder.chmod(0o755)
        self.assertIn("denied", init(DENIED, self.folder / "a", user=NOBODY, group=NOBODY))


class Database(Case):
    def test_second_authority(self):
        authority = self.authority().start()
        self.assertIn("in use by another process", self.not_started(CONFLICT, authority))
        authority.ctl("secret", "list")

    def test_locked(self):
        """By another program: the authority waits for it, and says so when it does not end."""
        authority = self.authority().start()
        database = authority.folder / "data/authority.db"
        with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            # One that ends soon is only waited for.
            waiting = subprocess.Popen([find_program("posternctl"), "--config",
                                        authority.folder / "operator.yaml", "secret", "put", "a/b",
                                        "--value-file", authority.folder / "trust.pem"],
                                       stdout=subprocess.PIPE, text=True)
            time.sleep(1)
            self.assertIsNone(waiting.poll())
            other.execute("ROLLBACK")
            self.assertIn("a/b is at version", waiting.communicate(timeout=30)[0])
            other.execute("BEGIN IMMEDIATE")
            authority.ctl("secret", "list")  # reading goes on
            done = authority.ctl("secret", "put", "c/d", "--value-file",
                                 authority.folder / "trust.pem", check=False)
            self.assertEqual((done.returncode, done.stdout), (UNAVAILABLE, ""), done.stderr)
            self.assertIn("locked by another program", done.stderr)
            other.execute("ROLLBACK")
        names = [s["name"] for s in authority.ctl_json("secret", "list")["secrets"]]
        self.assertEqual(names, ["a/b"])

    def test_locked_at_the_start(self):
        authority = self.authority()
        with contextlib.closing(sqlite3.connect(authority.folder / "data/authority.db",
                                                isolation_level=None)) as other:
            other.execute("PRAGMA locking_mode=EXCLUSIVE")
            other.execute("BEGIN EXCLUSIVE")
            line = refusal(self, UNAVAILABLE, "postern-authority", "--config",
                           authority.folder / "authority.yaml")
            self.assertIn("locked by another program", line)
        authority.start()

    def test_of_a_newer_version(self):
        authority = self.authority()
        with contextlib.closing(sqlite3.connect(authority.folder / "data/authority.db")) as database:
            tables = [row[0] for row in database.execute(
                "SELECT name FROM sqlite_schema WHERE sql LIKE '%version%' AND type = 'table'"
                " AND name LIKE '%migration%' OR name LIKE '%schema%' AND name NOT LIKE 'sqlite%'")]
            self.assertEqual(len(tables), 1, tables)
            columns = [row[1] for row in database.execute(f"PRAGMA table_info({tables[0]})")]
            self.assertIn("version", columns)
            others = ", ".join(c for c in columns if c != "version")
            database.execute(f"INSERT INTO {tables[0]} (version, {others}) SELECT version + 1, {others} "
                             f"FROM {tables[0]} ORDER BY version DESC LIMIT 1")
            database.commit()
        line = refusal(self, CONFLICT, "postern-authority", "--config",
                       authority.folder / "authority.yaml")
        self.assertIn("newer", line)

    def test_full_disk(self):
        with small_disk(self, self.folder / "disk", 4 << 20) as disk:
            authority = self.authority(disk / "authority").start()
            kept = ["a/first"]
            authority.put_secret("a/first", "value")
            ballast = fill(disk)
            value = "x" * 60_000
            refused = None
            for i in range(60):
                done = subprocess.run(
                    [find_program("posternctl"), "--config", authority.folder / "operator.yaml",
                     "secret", "put", f"a/{i}", "--value-file", "/dev/stdin"], input=value,
                    capture_output=True, text=True, timeout=60, check=False)
                if done.returncode != 0:
                    refused = f"a/{i}"
                    break
                kept.append(f"a/{i}")
            self.assertIsNotNone(refused, "the disk never was full")
            self.assertEqual(done.returncode, EXHAUSTED, done.stderr)
            self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
            self.assertIn("disk is full: free space", done.stderr)
            self.assertTrue(authority.process.running())
            listed = lambda: sorted(  # noqa: E731
                s["name"] for s in authority.ctl_json("secret", "list")["secrets"])
            self.assertEqual(listed(), sorted(kept))
            # Neither does a kill at this moment lose or damage anything.
            authority.process.kill()
            ballast.unlink()
            authority.start()
            self.assertEqual(listed(), sorted(kept))
            authority.put_secret(refused, "after")
            self.assertEqual(listed(), sorted([*kept, refused]))
            authority.process.end()
            with contextlib.closing(sqlite3.connect(authority.folder / "data/authority.db")) as base:
                self.assertEqual(base.execute("PRAGMA integrity_check").fetchall(), [("ok",)])

    def test_full_disk_at_the_start(self):
        with small_disk(self, self.folder / "disk", 1 << 20) as disk:
            authority = self.authority(disk / "authority")
            fill(disk)
            line = refusal(self, EXHAUSTED, "postern-authority", "--config",
                           authority.folder / "authority.yaml")
            self.assertIn("disk is full", line)

    def test_full_disk_at_init(self):
        with small_disk(self, self.folder / "disk", 64 << 10) as disk:
            line = refusal(self, EXHAUSTED, "postern-authority", "init", disk / "a")
            self.assertRegex(line, "full|No space left")
            self.assertEqual(tree(disk), {})


class Network(Case):
    def test_port_in_use(self):
        authority = self.authority()
        with socket.socket() as other:
            other.bind(("127.0.0.1", authority.port))
            other.listen()
            line = refusal(self, CONFLICT, "postern-authority", "--config",
                           authority.folder / "authority.yaml")
        self.assertIn(authority.address, line)
        self.assertIn("in use", line)
        authority.start()

    def test_no_such_address(self):
        """One of no interface here (RFC 5737)."""
        authority = self.authority()
        config = authority.folder / "authority.yaml"
        config.write_text(config.read_text().replace("127.0.0.1", "192.0.2.1"))
        line = refusal(self, INVALID, "postern-authority", "--config", config)
        self.assertIn("192.0.2.1", line)


class Operator(Case):
    """posternctl's own files. Each refusal names the file to look at."""

    def issue(self, authority, name, uri, *dates):
        """A certificate of the authority's CA, for whoever has the CA's key."""
        data = authority.folder / "data"
        key = self.folder / f"{name}.key"
        extensions = self.folder / f"{name}.ext"
        extensions.write_text("basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n"
                              f"extendedKeyUsage=serverAuth,clientAuth\nsubjectAltName=URI:{uri}\n")
        run(["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384", "-out",
             key])
        key.chmod(0o600)
        request = self.folder / f"{name}.csr"
        run(["openssl", "req", "-new", "-key", key, "-subj", f"/CN={name}", "-out", request])
        run(["openssl", "x509", "-req", "-in", request, "-CA", data / "ca.pem", "-CAkey",
             data / "ca.key", "-sha384", "-extfile", extensions, "-out", self.folder / f"{name}.pem",
             *(dates or ("-days", "1"))])
        return self.folder / f"{name}.pem", key

    def config(self, authority, **changes):
        values = {"trust_anchor": "trust.pem", "certificate": "operator.pem",
                  "key": "operator.key", "server_name": "postern-authority",
                  "address": authority.address} | changes
        path = authority.folder / "changed.yaml"
        path.write_text(f"authority:\n  address: {values['address']}\n"
                        f"  trust_anchor: {values['trust_anchor']}\n"
                        f"  server_name: {values['server_name']}\n"
                        f"certificate: {values['certificate']}\nkey: {values['key']}\n")
        return path

    def refused(self, code, authority, **changes):
        line = refusal(self, code, "posternctl", "--config", self.config(authority, **changes),
                       "node", "list")
        self.assertIn("changed.yaml", line)
        return line

    def test_files(self):
        authority = self.authority()
        for field in ("trust_anchor", "certificate", "key"):
            with self.subTest(field):
                self.assertIn(field, self.refused(NOT_FOUND, authority, **{field: "missing"}))
                (authority.folder / "junk").write_text("junk\n")
                (authority.folder / "junk").chmod(0o600)
                self.assertIn("junk" if field == "key" else "CERTIFICATE",
                              self.refused(INVALID, authority, **{field: "junk"}))
        key = authority.folder / "operator.key"
        key.chmod(0o640)
        self.assertIn("chmod 600", self.refused(DENIED, authority))
        key.chmod(0o600)
        self.assertIn("belong together", self.refused(INVALID, authority, certificate="trust.pem"))

    def test_nobody_there(self):
        authority = self.authority()
        line = self.refused(UNAVAILABLE, authority)
        self.assertIn("is postern-authority running", line)
        line = self.refused(UNAVAILABLE, authority, address="no-such-host.invalid:15550")
        self.assertIn("no-such-host.invalid", line)

    def test_another_server(self):
        """Something listens there, and it is no authority."""
        authority = self.authority()
        with socket.socket() as other:
            other.bind(("127.0.0.1", authority.port))
            other.listen()

            def answer():
                connection, _ = other.accept()
                connection.sendall(b"SSH-2.0-OpenSSH_9\r\n")
                connection.close()
            thread = threading.Thread(target=answer)
            thread.start()
            line = refusal(self, INVALID, "posternctl", "--config", self.config(authority),
                           "node", "list")
            thread.join()
        self.assertIn("does not speak TLS", line)

    def test_certificates(self):
        authority = self.authority().start()
        operator = f"spiffe://{TRUST_DOMAIN}/postern/operator"
        good = self.issue(authority, "second", f"{operator}/second")
        run([find_program("posternctl"), "--config",
             self.config(authority, certificate=good[0], key=good[1]), "node", "list"])
        for name, uri, dates, says in (
                ("expired", f"{operator}/late",
                 ("-not_before", "20200101000000Z", "-not_after", "20200102000000Z"), "expired"),
                ("early", f"{operator}/early",
                 ("-not_before", "20990101000000Z", "-not_after", "20990102000000Z"),
                 "refuses our certificate"),
                ("stranger", "spiffe://elsewhere.example/postern/operator/x", (),
                 "refuses our certificate"),
                ("workload", f"spiffe://{TRUST_DOMAIN}/demo/app", (), "of this authority"),
                ("nameless", f"{operator}/", (), "refuses our certificate"),
                ("deep", f"{operator}/a/b", (), "of this authority"),
                ("node", f"spiffe://{TRUST_DOMAIN}/postern/node/{'0' * 32}", (), "may not"),
        ):
            with self.subTest(name):
                certificate, key = self.issue(authority, name, uri, *dates)
                line = refusal(self, DENIED, "posternctl", "--config",
                               self.config(authority, certificate=certificate, key=key), "node",
                               "list")
                self.assertIn(says, line)
        # Of another authority: neither side takes the other.
        other = self.authority(self.folder / "other")
        for field in ("trust_anchor", "certificate"):
            changes = {"trust_anchor": other.folder / "trust.pem"} if field == "trust_anchor" else {
                "certificate": other.folder / "operator.pem", "key": other.folder / "operator.key"}
            with self.subTest(f"{field} of another authority"):
                line = self.refused(DENIED, authority, **changes)
                self.assertIn("trust_anchor", line)
        line = self.refused(DENIED, authority, server_name="elsewhere.example")
        self.assertIn("elsewhere.example", line)
        authority.ctl("node", "list")


if __name__ == "__main__":
    unittest.main(verbosity=2)
