"""What every test of bad input asks of a program: one line that says what to do, the exit code of its
class (design: 2 bad input, 3 denied, 4 not found, 5 conflict, 6 unavailable, 7 a limit), and a folder
that is as it was before."""
import contextlib
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "testlib"))
from harness import find_program, run  # noqa: E402

INVALID, DENIED, NOT_FOUND, CONFLICT, UNAVAILABLE, EXHAUSTED = 2, 3, 4, 5, 6, 7

NOBODY = 65534  # a user who owns nothing

def refusal(test, code, name, *arguments, **options):
    """Runs a program that must fail; returns its one line without the program's name."""
    done = subprocess.run([find_program(name), *[str(a) for a in arguments]], capture_output=True,
                          text=True, timeout=60, check=False, stdin=subprocess.DEVNULL, **options)
    test.assertEqual(done.returncode, code, done.stderr)
    test.assertEqual(done.stdout, "")
    lines = done.stderr.splitlines()
    test.assertEqual(len(lines), 1, done.stderr)
    test.assertTrue(lines[0].startswith(name), lines[0])
    return lines[0].removeprefix(name).removeprefix(": ")


def tree(folder):
    """All below a folder, with what is in it: {path: mode and contents}."""
    folder = pathlib.Path(folder)
    found = {}
    for path in sorted(folder.rglob("*")):
        info = path.lstat()
        found[str(path.relative_to(folder))] = (
            oct(info.st_mode), path.read_bytes() if path.is_file() else b"")
    return found



@contextlib.contextmanager
def small_disk(test, folder, size):
    """A file system of so many bytes at `folder`; skips where mounting is not permitted."""
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", folder],
                          capture_output=True, text=True, check=False)
    if done.returncode != 0:
        folder.rmdir()
        test.skipTest(f"cannot mount a small file system here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        run(["umount", folder])
        folder.rmdir()


def fill(folder):
    """A file that takes all the space that is left."""
    ballast = folder / "ballast"
    with open(ballast, "wb", buffering=0) as file:
        size = 1 << 16
        while size:
            try:
                file.write(b"x" * size)
            except OSError:
                size //= 2
    return ballast
