"""A client that keeps books: numbered texts go out over real sockets, and every answer is counted exactly once.

A Book holds the texts, which follow from a seed, and for each the digest of its vector as an untouched server wrote it.
A vector depends on its text alone, to the last bit, so one comparison of bytes proves order, dimension and value. The
Ledger sends the texts of a book over keep-alive connections, one thread for each, and sorts what comes back:

    exact      the vector that the book has
    wrong      another one: its cosine with the right one and the place where that one belongs are told
    typed      an error of its own for a text that was expected to fail
    failed     everything else: a broken connection, no answer in time, a status nobody asked for, a wrong count

Answers that nobody asked for (bytes behind an answer, before the next request) are duplicates. Only Python's standard
library is used."""
import hashlib
import json
import math
import random
import re
import socket
import threading
import time
from array import array
from collections import namedtuple

JSON_VECTOR = re.compile(rb"\[([^\[\]]*)\]|null")
WORDS = """time person year way day thing man world life hand part child eye woman place work week case point company
number group problem fact be have do say get make go know take see come think look want give use find tell ask seem feel
try leave call good new first last long great little own other old right big high different small large next early young
important few public bad same able Öffnung Straße naïve café résumé señor Übung фраза слово текст данные 日本語
文字 中文 数据 한국어 αβγ λόγος العربية עברית ไทย 🚀 ☕ 3.14 2026-11-22 https://example.org/a?b=c e.g. don't C++ #1 $5
50% (sic) [x] {y} <z>""".split()


def quantile(values, q):
    """Nearest rank; 0 for nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, math.ceil(q * len(ordered)) - 1))] if ordered else 0.0


def digest(vector_bytes):
    return int.from_bytes(hashlib.blake2b(vector_bytes, digest_size=8).digest(), "little")


def split_vectors(body):
    """The bytes between the brackets of every vector of {"vectors":[[…],null,…]…}, None for null; None when the body
    is something else."""
    if not body.startswith(b'{"vectors":['):
        return None
    end = body.find(b"]]", 11)
    if body.startswith(b"[", 12) and end == len(body) - 3 and body.endswith(b"]]}") and b"null" not in body:
        return body[13:end].split(b"],[")
    end = body.find(b'],"errors":')
    found = JSON_VECTOR.finditer(body, 12, end if end > 0 else len(body) - 2)
    return [m[1] for m in found]


class Book:
    """n texts from a seed. tokens: the shortest and longest, about; lengths between them are log-uniform. marks:
    {number: what} puts a fault marker into that text; a program without markers sees it as any other text."""

    def __init__(self, seed, n, tokens=(1, 48), marks=None):
        self.seed, self.n, self.tokens, self.marks = seed, n, tokens, marks or {}
        self.golden = array("Q", bytes(8 * n))
        self.kept = {}

    def text(self, i):
        """Text i. The number in front makes it another text than every other one."""
        r = random.Random((self.seed << 32) + i)
        low, high = (math.log(t) for t in self.tokens)
        words = r.choices(WORDS, k=max(0, round(math.exp(r.uniform(low, high))) - 1))
        if i in self.marks:
            words.insert(0, f"\x01fault:{self.marks[i]} ")
        return " ".join([str(i), *words])

    def learn(self, address, clients=4, items=64):
        """Has an untouched server compute all vectors. Raises when it does not answer every text, or two alike."""
        result = Ledger(address, self, clients=clients, items=items, learning=True).run(requests=-(-self.n // items))
        if result.problems() or result.exact < self.n or len(set(self.golden)) != self.n:
            raise AssertionError(f"no golden vectors: {result.summary()}, {len(set(self.golden))} of {self.n} differ")
        return self

    def is_golden(self, i, vector):
        return digest(vector) == self.golden[i]

    def where(self, found):
        """The number of the text that a digest belongs to, for the message about a wrong vector."""
        try:
            return self.golden.index(found)
        except ValueError:
            return None


# texts: how many; sent: when the whole request was out, on the monotonic clock, None when it never was.
Failure = namedtuple("Failure", "texts why sent")


class Result:
    def __init__(self):
        self.sent = self.exact = self.typed = self.duplicates = self.refused = self.requests = 0
        self.wrong, self.failed = [], []
        self.seconds = 0.0
        self.latencies = array("d")       # of answered requests, in seconds
        self.refusals = array("d")        # how long a refusal took
        self.finished = array("d")        # when each request was answered, on the monotonic clock

    def problems(self):
        """What nobody expected, one line each."""
        lost = self.sent - self.exact - self.typed - len(self.wrong) - sum(f.texts for f in self.failed)
        return ([f"wrong: {w}" for w in self.wrong] + [f"failed: {f.texts} texts: {f.why}" for f in self.failed]
                + [f"{self.duplicates} answers to nothing"] * bool(self.duplicates)
                + [f"{lost} texts without an entry"] * bool(lost))

    def merge(self, other):
        for name in ("sent", "exact", "typed", "duplicates", "refused", "requests"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("wrong", "failed", "latencies", "refusals", "finished"):
            getattr(self, name).extend(getattr(other, name))

    def summary(self):
        return {"texts": self.sent, "exact": self.exact, "typed": self.typed, "wrong": len(self.wrong),
                "failed": sum(f.texts for f in self.failed), "duplicates": self.duplicates, "refused": self.refused,
                "seconds": round(self.seconds, 2), "texts_per_s": round(self.exact / max(self.seconds, 1e-9)),
                "p50_ms": round(1000 * quantile(self.latencies, 0.5), 1),
                "p99_ms": round(1000 * quantile(self.latencies, 0.99), 1),
                "max_ms": round(1000 * max(self.latencies, default=0), 1)}


class Wire:
    """One keep-alive connection that sees every byte."""

    def __init__(self, address, timeout):
        self.socket = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
        self.socket.settimeout(timeout)
        self.socket.connect(address)
        if not isinstance(address, str):
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.bytes = b""
        self.sent = None  # when the last request was out

    def post(self, body, extra=b""):
        self.sent = None
        self.socket.sendall(b"POST /embed HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n%s"
                            b"Content-Length: %d\r\n\r\n%s" % (extra, len(body), body))
        self.sent = time.monotonic()

    def answer(self):
        """(status, header, body); EOFError or OSError when there is none."""
        data = self.bytes
        while (end := data.find(b"\r\n\r\n")) < 0:
            data += self._more(len(data))
        head = data[:end].lower()
        at = head.index(b"\r\ncontent-length:") + 17
        stop = head.find(b"\r\n", at)
        want = end + 4 + int(head[at:stop if stop > 0 else len(head)])
        if len(data) < want:
            parts, have = [data], len(data)
            while have < want:
                parts.append(self._more(have))
                have += len(parts[-1])
            data = b"".join(parts)
        self.bytes = data[want:]
        return int(head[9:12]), head, data[end + 4:want]

    def _more(self, have):
        try:
            data = self.socket.recv(262144)
        except ConnectionError as e:
            raise EOFError(f"the answer was broken off: {e}") if have else e
        if not data:
            raise EOFError("the answer was broken off" if have else "the connection was closed")
        return data

    def leftovers(self):
        """Whether something came that nobody asked for."""
        if self.bytes:
            return True
        self.socket.setblocking(False)
        try:
            return bool(self.socket.recv(1))
        except OSError:
            return False

    def close(self):
        self.socket.close()


class Ledger:
    """clients threads with a connection each send requests of `items` texts, numbered on from `first`.

    timeout   seconds for one answer; generous: a hang is a failure, a slow machine is none
    expected  {number: code}: texts that must get this error, and nothing else (asks for partial answers)
    retry     statuses that are refusals: counted, then sent again after Retry-After (or at once: eager)"""

    def __init__(self, address, book, clients=32, items=16, timeout=90, first=0, learning=False, expected=None,
                 retry=(), eager=False):
        self.address, self.book, self.clients, self.items, self.timeout = address, book, clients, items, timeout
        self.learning, self.expected, self.retry, self.eager = learning, expected or {}, retry, eager
        self.next, self.end = first, None
        self.lock, self.stopped = threading.Lock(), threading.Event()
        self.result = Result()
        self.threads, self.began = [], 0.0
        self.bodies = {}  # numbers: what is sent for them

    # ── control ──

    def prepare(self):
        """Makes the bodies of a whole book beforehand, so that sending costs next to nothing."""
        for first in range(self.next, self.next + self.book.n, self.items):
            numbers = self._numbers(first)
            self.bodies[tuple(numbers)] = self._body(numbers)
        return self

    def start(self, requests=None):
        """requests: how many in all; None: until stop()."""
        self.end = None if requests is None else self.next + requests * self.items
        self.began = time.monotonic()
        self.threads = [threading.Thread(target=self._client, daemon=True) for _ in range(self.clients)]
        for t in self.threads:
            t.start()
        return self

    def stop(self):
        """No new requests; waits for those under way."""
        self.stopped.set()
        return self.wait()

    def wait(self):
        for t in self.threads:
            t.join()
        self.result.seconds = time.monotonic() - self.began
        return self.result

    def run(self, requests):
        return self.start(requests).wait()

    def is_running(self):
        return any(t.is_alive() for t in self.threads)

    def sent(self):
        return self.next

    # ── one client ──

    def _take(self):
        with self.lock:
            if self.stopped.is_set() or (self.end is not None and self.next >= self.end):
                return None
            self.next += self.items
            return self._numbers(self.next - self.items)

    def _numbers(self, first):
        numbers = range(first, first + self.items)
        if self.learning:
            return [i for i in numbers if i < self.book.n]
        return [i % self.book.n for i in numbers]

    def _body(self, numbers):
        return json.dumps({"texts": [self.book.text(i) for i in numbers]}).encode()

    def _client(self):
        mine = Result()
        wire = None
        while (numbers := self._take()) is not None:
            if not numbers:
                continue
            mine.sent += len(numbers)
            body = self.bodies.get(tuple(numbers)) or self._body(numbers)
            while True:
                try:
                    if wire is None:
                        wire = Wire(self.address, self.timeout)
                    wire, again = self._ask(wire, body, numbers, mine)
                except (OSError, EOFError, ValueError) as e:
                    mine.failed.append(Failure(len(numbers), f"{type(e).__name__}: {e}", wire and wire.sent))
                    if wire:
                        wire.close()
                    wire, again = None, False
                if not again:
                    break
        if wire:
            mine.duplicates += wire.leftovers()
            wire.close()
        with self.lock:
            self.result.merge(mine)

    def _ask(self, wire, body, numbers, mine):
        """(the connection to go on with, whether to send the same again)"""
        began = time.monotonic()
        wire.post(body, b"X-Pillion-Partial: 1\r\n" if self.expected else b"")
        sent = wire.sent
        status, head, answer = wire.answer()
        took = time.monotonic() - began
        mine.requests += 1
        if wire.bytes:
            mine.duplicates += 1
            wire.bytes = b""
        if b"\r\nconnection: close" in head:
            wire.close()
            wire = None
        if status in self.retry:
            mine.refused += 1
            mine.refusals.append(took)
            after = re.search(rb"\r\nretry-after: (\d+)", head)
            if not after:
                mine.failed.append(Failure(len(numbers), f"{status} without retry-after", sent))
                return wire, False
            if self.stopped.wait(0 if self.eager else int(after[1])):
                mine.sent -= len(numbers)  # refused, and nobody wants it any more
                return wire, False
            return wire, True
        mine.latencies.append(took)
        mine.finished.append(began + took)
        vectors = split_vectors(answer) if status == 200 else None
        if vectors is None or len(vectors) != len(numbers):
            mine.failed.append(Failure(len(numbers), f"status {status}: {answer[:200]!r}", sent))
            return wire, False
        errors = {}
        if None in vectors:
            errors = {e["index"]: e["code"] for e in json.loads(answer).get("errors", ())}
        for place, (number, vector) in enumerate(zip(numbers, vectors)):
            self._enter(place, number, vector, errors.get(place), sent, mine)
        return wire, False

    def _enter(self, place, number, vector, error, sent, mine):
        if number in self.expected or vector is None:
            if vector is None and error is not None and error == self.expected.get(number):
                mine.typed += 1
            else:
                wanted = self.expected.get(number)
                why = f"text {number} at {place}: error {error!r} where {wanted!r} was expected"
                mine.failed.append(Failure(1, why, sent))
            return
        found = digest(vector)
        if self.learning:
            self.book.golden[number] = found
            if self.book.n <= 20000 or number % 64 == 0:
                self.book.kept[number] = vector
            mine.exact += 1
        elif found == self.book.golden[number]:
            mine.exact += 1
        else:
            mine.wrong.append(f"text {number} at {place}: {self._describe(number, found, vector)}")

    def _describe(self, number, found, vector):
        other = self.book.where(found)
        if other is not None:
            return f"the vector of text {other}"
        values = [float(v) for v in vector.split(b",") if v]
        norm = math.sqrt(sum(v * v for v in values))
        kept = [float(v) for v in self.book.kept.get(number, b"").split(b",") if v]
        if len(kept) != len(values):
            return f"{len(values)} values of norm {norm:.6f}, not the book's"
        return f"cosine {sum(a * b for a, b in zip(values, kept)) / max(norm, 1e-30):.9f} with the book's"
