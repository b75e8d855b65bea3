"""What the tests of the server share: starting it, raw sockets, requests, and the process tree in /proc.

The program is $PILLION_BIN. Only Python's standard library is used."""
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from pathlib import Path

BIN = os.environ["PILLION_BIN"]
SOURCE = Path(__file__).resolve().parents[2]
MODELS = Path(os.environ.get("PILLION_MODELS", SOURCE / ".models"))
SKIPPED = 77  # CTest's SKIP_RETURN_CODE
SLOW = 10 if re.search(b"__[at]san_init", Path(BIN).read_bytes()) else 1  # sanitizers take their time


def environment(**extra):
    """The test's own environment without what would change the program's behaviour."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("EMBED_", "HF_", "PILLION_", "SENTENCE_"))}
    env.update({k: str(v) for k, v in extra.items()})
    return env


class Answer:
    """One HTTP answer: status, headers (names in lower case; the last one of a name), body."""

    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"{self.status} {self.headers} {self.body[:300]!r}"


class Connection:
    """A socket that is asked for bytes, not for meaning."""

    def __init__(self, address, timeout=60):
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        self.socket.settimeout(timeout)
        try:
            self.socket.connect(address)
        except OSError:
            self.socket.close()
            raise
        self.bytes = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data if isinstance(data, bytes) else data.encode())

    def request(self, method, path, body=None, headers=(), host="127.0.0.1"):
        lines = [f"{method} {path} HTTP/1.1"]
        if host is not None:
            lines.append(f"Host: {host}")
        lines += [f"{k}: {v}" for k, v in dict(headers).items()]
        if body is not None:
            body = body if isinstance(body, bytes) else body.encode()
            lines.append(f"Content-Length: {len(body)}")
        self.send("\r\n".join(lines).encode() + b"\r\n\r\n" + (body or b""))

    def _fill(self):
        data = self.socket.recv(1 << 18)
        if not data:
            raise EOFError
        self.bytes += data

    def _fill_to(self, size):
        """Large answers are gathered in pieces: joining them one by one would take longer than the server."""
        parts, have = [self.bytes], len(self.bytes)
        while have < size:
            data = self.socket.recv(1 << 18)
            if not data:
                raise EOFError
            parts.append(data)
            have += len(data)
        self.bytes = b"".join(parts)

    def answer(self, is_head=False):
        """Reads one answer. EOFError when the connection ended before its first byte."""
        while b"\r\n\r\n" not in self.bytes:
            self._fill()
        head, _, rest = self.bytes.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        status = int(re.fullmatch(r"HTTP/1\.1 (\d{3}) [ -~]+", lines[0])[1])
        headers = {}
        for line in lines[1:]:
            name, value = line.split(": ", 1)
            assert name == name.lower() and name not in headers, line
            headers[name] = value
        if status == 100:
            self.bytes = rest
            return Answer(status, headers, b"")
        size = 0 if is_head else int(headers["content-length"])
        self.bytes = rest
        self._fill_to(size)
        body, self.bytes = self.bytes[:size], self.bytes[size:]
        return Answer(status, headers, body)

    def is_closed(self, within=5):
        """Whether the server ends the connection without another byte."""
        self.socket.settimeout(within)
        try:
            return not self.bytes and self.socket.recv(1) == b""
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False


class Server:
    """pillion serve on a free port. With ready=False it may still be loading when the constructor returns; with
    wait=False it has just been started."""

    def __init__(self, *args, ready=True, wait=True, env=None, first=("serve",), listen=("--port", "0"),
                 stdin=subprocess.DEVNULL, program=BIN, wrapper=(), **popen):
        self.log = tempfile.TemporaryFile()
        self.out = tempfile.TemporaryFile()
        self.started = time.monotonic()
        self.process = subprocess.Popen([*wrapper, program, *first, *listen, *map(str, args)], stdin=stdin,
                                        stdout=self.out, stderr=self.log, env=env or environment(), **popen)
        self.address = None
        if wait:
            self.wait(lambda: self.find_address() or self.process.poll() is not None, 30 * SLOW)
        if self.address and ready:
            self.wait_ready()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.log.close()
        self.out.close()

    @classmethod
    def fake(cls, *args, **kw):
        """The listener with a pool that computes nothing: see fake_server.c."""
        return cls(*args, program=os.environ["PILLION_FAKE_SERVER"], first=(), listen=(),
                   ready=False, **kw)

    @staticmethod
    def wait(done, seconds, step=0.002):
        """Polls until done() is true; gives its value."""
        end = time.monotonic() + seconds
        while True:
            value = done()
            if value or time.monotonic() > end:
                return value
            time.sleep(step)

    @staticmethod
    def _all(f):
        return os.pread(f.fileno(), 1 << 24, 0).decode(errors="replace")

    def stderr(self):
        return self._all(self.log)

    def stdout(self):
        return self._all(self.out)

    def find_address(self):
        found = re.search(r" on (?:http://([^ ]+):(\d+)|unix:(.+))\n", self.stderr())
        if found:
            self.address = found[3] or (found[1], int(found[2]))
        return self.address

    def wait_ready(self, seconds=120):
        ready = self.wait(lambda: self.get("/readyz").status == 200, seconds * SLOW, 0.005)
        assert ready, self.stderr()
        took = time.monotonic() - self.started
        self.wait(self.is_complete, 2 * SLOW, 0.005)  # not asserted: some tests let workers die at their start
        return took

    def is_complete(self):
        """Whether all workers are ready: the first one starts alone. True where /health does not say so."""
        health = self.get("/health").json()
        return health.get("workers_ready") == health.get("workers")

    def connect(self, timeout=60):
        return Connection(self.address, timeout * SLOW)

    def call(self, method, path, body=None, headers=(), host="127.0.0.1"):
        with self.connect() as c:
            c.request(method, path, body, headers, host)
            return c.answer(method == "HEAD")

    def get(self, path, **kw):
        return self.call("GET", path, **kw)

    def post(self, path, value, headers=()):
        """value: bytes or str as they are, anything else as JSON."""
        body = value if isinstance(value, (bytes, str)) else json.dumps(value)
        return self.call("POST", path, body, {"Content-Type": "application/json", **dict(headers)})

    def embed(self, texts, **fields):
        answer = self.post("/embed", {"texts": texts, **fields})
        assert answer.status == 200, answer
        return answer.json()["vectors"]

    def workers(self):
        return [pid for pid in children(self.process.pid) if b"--role=worker" in command(pid)]

    def stop(self, signum=signal.SIGTERM, seconds=20):
        """Signals it and gives exit status and the seconds it took."""
        start = time.monotonic()
        self.process.send_signal(signum)
        status = self.process.wait(seconds * SLOW)
        return status, time.monotonic() - start


WITHOUT_CALLS = """
import ctypes, os, struct, sys
calls = [int(n) for n in sys.argv[1].split(",")]
deny = [(0x15, len(calls) - i, 0, n) for i, n in enumerate(calls)]  # jumps behind the "allow"
code = [(0x20, 0, 0, 0), *deny, (0x06, 0, 0, 0x7fff0000), (0x06, 0, 0, 0x00050000 | 38)]
program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *c) for c in code))
header = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(code), ctypes.addressof(program)))
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, header, 0, 0):
    sys.exit("no seccomp")
os.execv(sys.argv[2], sys.argv[2:])
"""


def without_calls(*numbers):
    """A wrapper for Server: the kernel answers these system calls with ENOSYS (a seccomp filter)."""
    return sys.executable, "-c", WITHOUT_CALLS, ",".join(map(str, numbers))


def command(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def state(pid):
    """(state letter, parent); ("X", 0) when it is gone."""
    try:
        rest = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return rest[0], int(rest[1])
    except OSError:
        return "X", 0


def cpu_ticks(pid):
    """Processor time of a process in its own code, in the kernel's ticks."""
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11])


def children(pid):
    """Living children of a process."""
    found = []
    for p in Path("/proc").iterdir():
        if p.name.isdigit():
            letter, parent = state(int(p.name))
            if parent == pid and letter not in "XZ":
                found.append(int(p.name))
    return found


def is_alive(pid):
    return state(pid)[0] not in "XZ"


def at_once(jobs):
    """Runs functions in threads and gives their results in order; an exception in one of them is raised here."""
    results = [None] * len(jobs)

    def run(i):
        try:
            results[i] = jobs[i]()
        except Exception as e:  # handed on below
            results[i] = e

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(jobs))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for r in results:
        if isinstance(r, Exception):
            raise r
    return results


def cosine(a, b):
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / (sum(x * x for x in a) * sum(y * y for y in b)) ** 0.5


class Case(unittest.TestCase):
    """Tests against one server for the whole class; args are its options."""

    args = ()

    @classmethod
    def setUpClass(cls):
        cls.server = Server(*cls.args)
        cls.addClassCleanup(cls.server.__exit__)

    def assert_detail(self, answer, status, detail):
        self.assertEqual((answer.status, answer.json()), (status, {"detail": detail}))


class FakeCase(unittest.TestCase):
    """Tests against one server without workers for the whole class; args are those of fake_server.c."""

    args = ()

    @classmethod
    def setUpClass(cls):
        cls.server = Server.fake(*cls.args)
        cls.addClassCleanup(cls.server.__exit__)


def main(needs_model=True):
    """Runs the tests of the calling file; a program without a built-in model is a reason to skip them."""
    if not needs_model:
        unittest.main(module="__main__", verbosity=2)
    r = subprocess.run([BIN, "show"], capture_output=True, env=environment(), check=False)
    if r.returncode == 3:
        print("skipped: the program has no built-in model:", r.stderr.decode().strip())
        sys.exit(SKIPPED)
    unittest.main(module="__main__", verbosity=2)
