"""What the tests of the commands share: running the program, and a scratch directory for each test.

The program is $PILLION_BIN, models are in $PILLION_MODELS. Only Python's standard library is used."""
import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

BIN = os.environ["PILLION_BIN"]
SOURCE = Path(__file__).resolve().parents[2]
MODELS = Path(os.environ.get("PILLION_MODELS", SOURCE / ".models"))
SKIPPED = 77  # CTest's SKIP_RETURN_CODE

CACHE = tempfile.TemporaryDirectory(prefix="pillion-cli-cache-")  # the user's own is none of a test's business

OK, FAILURE, USAGE, NOT_FOUND, MODEL, INPUT = range(6)


def environment(**extra):
    """The test's own environment without what would change the program's behaviour."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("EMBED_", "HF_", "PILLION_"))}
    env["XDG_CACHE_HOME"] = CACHE.name
    env.update({k: str(v) for k, v in extra.items()})
    return env


def pillion(*args, stdin=b"", env=None, cwd=None, stdout=subprocess.PIPE, timeout=250):
    """Runs the program to its end. stdin: bytes, a file, or None for none at all. Gives returncode, stdout, stderr."""
    source = {"stdin": stdin} if stdin is None or hasattr(stdin, "fileno") else {"input": stdin}
    return subprocess.run([BIN, *map(str, args)], stdout=stdout, stderr=subprocess.PIPE, env=env or environment(),
                          cwd=cwd, timeout=timeout, check=False, **source)


class Case(unittest.TestCase):
    """A test with a scratch directory and the checks that all of them need."""

    def setUp(self):
        scratch = tempfile.TemporaryDirectory(prefix="pillion-cli-")
        self.addCleanup(scratch.cleanup)
        self.dir = Path(scratch.name)

    def ok(self, *args, **kw):
        """Runs it, expects success and gives standard output."""
        r = pillion(*args, **kw)
        self.assertEqual(r.returncode, OK, r.stderr.decode(errors="replace"))
        return r.stdout

    def rows(self, *args, **kw):
        """Runs it and parses its JSON lines."""
        return [json.loads(line) for line in self.ok(*args, **kw).splitlines()]

    def fails(self, status, *args, says, **kw):
        """Runs it, expects this exit status and one line on standard error with these words in it."""
        r = pillion(*args, **kw)
        message = r.stderr.decode()
        self.assertEqual(r.returncode, status, message)
        self.assertEqual(message.count("\n"), 1, message)
        self.assertTrue(message.startswith("pillion"), message)
        for words in [says] if isinstance(says, str) else says:
            self.assertIn(words, message)
        return r

    def assert_same_vectors(self, a, b):
        self.assertEqual([r["embedding"] for r in a], [r["embedding"] for r in b])


def show(*args):
    return json.loads(pillion("show", "--json", *args).stdout)


def main(needs_model=True):
    """Runs the tests of the calling file; a program without a built-in model is a reason to skip them."""
    if needs_model:
        r = pillion("show")
        if r.returncode == NOT_FOUND:
            print("skipped: the program has no built-in model:", r.stderr.decode().strip())
            sys.exit(SKIPPED)
    unittest.main(module="__main__", verbosity=2)
