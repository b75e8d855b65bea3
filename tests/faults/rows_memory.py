"""W12: the n-th allocation fails, for every n: in the server at its start and in each kind of request, and in the
engine in-process (`pillion embed`), which is the code that runs in workers."""
import json
import mmap
import os
import re
import signal
import struct
import subprocess
import time
from pathlib import Path

import watch
from harness import BIN, SLOW, Skip, environment, preload, row, side_by_side
from ledger import Wire, split_vectors

TEXTS = ["one", "two words", "three words here", ""]
BODY = json.dumps({"texts": TEXTS}).encode()
POST = b"POST /embed HTTP/1.1\r\nContent-Type: application/json\r\n"
REQUESTS = {  # first lines, body
    "embed": (POST, BODY),
    "partial": (POST + b"X-Pillion-Partial: 1\r\n", BODY),
    "invalid": (POST, b'{"texts":[1,2,{"a":[]}],"pooling":"none"}'),
    "health": (b"GET /health HTTP/1.1\r\n", b""),
    "info": (b"GET /info HTTP/1.1\r\n", b""),
    "missing": (b"GET /nowhere HTTP/1.1\r\n", b""),
}


class Countdown:
    """The numbers that tests/faults/alloc_fail.c reads."""

    def __init__(self, run):
        if SLOW > 1:
            raise Skip("sanitizers have an allocator of their own")
        self.library = preload("alloc_fail")
        self.path = run.scratch / "countdown"
        self.path.write_bytes(bytes(24))
        self.file = open(self.path, "r+b")
        self.map = mmap.mmap(self.file.fileno(), 24)

    def env(self):
        return {"LD_PRELOAD": self.library, "PILLION_ALLOC_FAIL": self.path}

    def arm(self, n):
        self.map[:24] = struct.pack("<3q", n, 0, 0)

    def calls(self):
        return struct.unpack("<3q", self.map)[1]

    def failed(self):
        return struct.unpack("<3q", self.map)[2]

    def close(self):
        self.map.close()
        self.file.close()


def ask(server, kind, timeout):
    """(status, body) on a fresh connection; (0, what happened) when there is no answer."""
    head, body = REQUESTS[kind]
    try:
        wire = Wire(server.address, timeout)
        try:
            wire.socket.sendall(head + b"Host: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            status, _, answer = wire.answer()
            return status, re.sub(rb"\d+", b"0", answer) if kind == "health" else answer  # it counts what happens
        finally:
            wire.close()
    except TimeoutError:
        return -1, "no answer"
    except (OSError, EOFError) as e:
        return 0, f"{type(e).__name__}: {e}"


def same_meaning(kind, status, answer, usual):
    """Whether an answer that was made with too little memory is a good one: its texts may have an error, and what a
    client sent may not be repeated to it."""
    if kind == "partial" and status == 200:
        return None in split_vectors(answer)
    if kind == "invalid" and status == 422:
        found, wanted = ([(d["type"], d["loc"]) for d in json.loads(a)["detail"]] for a in (answer, usual))
        return found == wanted
    return False


def chosen(run, calls):
    """Which n: all of them by night, a sample in the commit tier."""
    all_n = list(range(1, calls + 1))
    return all_n if run.tier != "commit" else sorted(run.random.sample(all_n, min(len(all_n), run.count(25, 0))))


@row("W12", "CN", "the n-th allocation fails in the server, in each kind of request: it answers or closes and lives on")
def w12_server(run):
    count = Countdown(run)
    with run.serve(env=count.env()) as s:
        s.wait_workers()
        usual = {kind: ask(s, kind, 30) for kind in REQUESTS}
        for kind in REQUESTS:  # a second time, when everything is warm
            run.check(ask(s, kind, 30) == usual[kind], f"{kind} is not answered the same way twice")
        before = watch.Inventory(s.pid)
        odd, silent, tried = [], 0, 0
        for kind in REQUESTS:
            count.arm(0)
            ask(s, kind, 30)
            for n in chosen(run, count.calls()):
                count.arm(n)
                status, answer = ask(s, kind, 20)
                count.arm(0)
                tried += 1
                run.check(s.process.poll() is None, f"{kind}: the server died of allocation {n}: {s.stderr()[-300:]}")
                run.check(status >= 0, f"{kind}: allocation {n} failed, and nobody answers")
                silent += status == 0
                if (status, answer) != usual[kind] and status not in (0, 500, 503, 507):
                    if not same_meaning(kind, status, answer, usual[kind][1]):
                        odd.append(f"{kind} {n}: {status} {answer[:400]!r}")
                s.wait(lambda: ask(s, kind, 30) == usual[kind], 30, 0.05)
                run.check(ask(s, kind, 30) == usual[kind], f"{kind}: after allocation {n} the next one fails")
        run.check(not odd, "; ".join(odd[:5]))
        run.figure("tried", tried)
        run.figure("closed", silent)
        for n in chosen(run, 200)[::4 if run.tier == "commit" else 1]:  # while a worker is replaced
            side_by_side([lambda: ask(s, "embed", 30)] * 8)  # one that was of use is replaced at once
            count.arm(n)
            s.kills += 1
            os.kill(s.workers()[0], signal.SIGKILL)
            time.sleep(0.05)
            count.arm(0)
            run.check(s.process.poll() is None, f"the server died of allocation {n} after a worker's death")
            s.wait_workers()
        run.check(s.wait(lambda: ask(s, "embed", 30) == usual["embed"], 30, 0.1), "it does not recover")
        s.wait(lambda: not before.growth(watch.Inventory(s.pid), {"mappings": 64}), 30, 0.1)
        grown = before.growth(watch.Inventory(s.pid), {"mappings": 64})
        run.check(not grown, f"the server holds more: {grown}")
    count.close()


@row("W12S", "CN", "the n-th allocation fails while the server starts: it ends with a reason, or serves")
def w12_start(run):
    count = Countdown(run)
    words = [BIN, "serve", "--port", "0", "--model", str(run.nano())]

    def start(n):
        """(exit status or None while it serves, what it said)"""
        count.arm(n)
        p = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                             env=environment(XDG_CACHE_HOME=run.cache, **count.env()))
        said = p.stderr.readline() + p.stderr.readline()
        count.map[:8] = bytes(8)
        serves = b" on http://" in said
        if serves:
            time.sleep(0.1)
            calls.append(count.calls())
            p.terminate()
        said += p.stderr.read()
        return p.wait(60), serves, said

    calls = []
    start(0)
    total = calls[0]
    ends = {"served": 0, "ended": 0, "aborted": 0}
    for n in chosen(run, total):
        status, serves, said = start(n)
        aborted = status == -signal.SIGABRT and not said  # libuv does so without memory for its first descriptors
        ends["aborted" if aborted else "served" if serves else "ended"] += 1
        if aborted:
            run.check(ends["aborted"] <= 2, f"allocation {n} of {total}: aborted for the third time")
            continue
        run.check(status >= 0, f"allocation {n} of {total}: signal {-status}: {said[-300:]!r}")
        run.check(serves or status > 0 and said.strip(), f"allocation {n} of {total}: status {status}, {said!r}")
    for name, n in ends.items():
        run.figure(name, n)
    count.close()


@row("W12E", "CN", "the n-th allocation fails in the engine: a status and a reason, or the right vectors")
def w12_engine(run):
    count = Countdown(run)
    words = [BIN, "embed", "--model", run.nano(), "--format", "f32", *TEXTS[:3]]

    def embed(n):
        count.arm(n)
        return subprocess.run(words, capture_output=True, env=environment(XDG_CACHE_HOME=run.cache, **count.env()),
                              timeout=60)

    usual = embed(0)
    total = count.calls()
    run.check(usual.returncode == 0, usual.stderr)
    good = 0
    for n in chosen(run, total):
        r = embed(n)
        run.check(r.returncode >= 0, f"allocation {n} of {total}: signal {-r.returncode}: {r.stderr[-200:]!r}")
        if r.returncode == 0:
            good += 1
            run.check(r.stdout == usual.stdout, f"allocation {n} of {total}: other vectors")
        else:
            run.check(r.stderr.strip(), f"allocation {n} of {total}: status {r.returncode} without a word")
    run.figure("allocations", total)
    run.figure("still_right", good)
    count.close()
