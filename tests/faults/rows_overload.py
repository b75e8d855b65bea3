"""O: more than the server can do. Refused at once, not suffered; and what is taken is done."""
import json
import math
import os
import random
import re
import selectors
import socket
import subprocess
import threading
import time
from pathlib import Path

import watch
from harness import BIN, SLOW, Asker, Idle, Skip, environment, row
from ledger import Wire, digest, quantile, split_vectors

REFUSED = (429, 503)


def probe(address, path, until, every=0.02):
    """Asks for a path on a fresh connection again and again. [(seconds, status)]"""
    found = []
    while not until.is_set():
        began = time.monotonic()
        try:
            with socket.create_connection(address, timeout=30 * SLOW) as c:
                c.sendall(b"GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" % path.encode())
                data = c.recv(4096)
            found.append((time.monotonic() - began, int(data[9:12])))
        except (OSError, ValueError):
            found.append((time.monotonic() - began, 0))
        until.wait(every)
    return found


@row("O2", "C", "1,000 connections at once, one request each")
def o2_thousand_connections(run):
    book = run.book(1000)
    with run.serve() as s:
        s.wait_workers()
        memory = watch.anonymous_bytes(s.pid)
        wires = [Wire(s.address, 90 * SLOW) for _ in range(1000)]
        s.wait(lambda: len(watch.descriptors(s.pid)) >= 1000, 10 * SLOW, 0.05)
        run.figure("bytes_per_idle_connection", (watch.anonymous_bytes(s.pid) - memory) // 1000)
        for i, w in enumerate(wires):
            w.post(json.dumps({"texts": [book.text(i)]}).encode())
        answered = {"exact": 0, "refused": 0}
        for i, w in enumerate(wires):
            status, head, body = w.answer()
            if status == 200:
                run.check(digest(split_vectors(body)[0]) == book.golden[i], f"connection {i} got another text's vector")
                answered["exact"] += 1
            else:
                run.check(status in REFUSED and b"retry-after:" in head, f"connection {i}: status {status}")
                answered["refused"] += 1
            run.check(not w.leftovers(), f"connection {i}: an answer to nothing")
            w.close()
        for name, n in answered.items():
            run.figure(name, n)
        run.check(answered["exact"] > 0, "nobody was served")


@row("O7", "CN", "/health under full load, and with all workers dead again and again")
def o7_health(run):
    book = run.book(2000)
    seconds = run.seconds(4, 60)
    with run.serve() as s:
        s.wait_workers()
        bulk = run.bulk(s, book, clients=32, items=64)
        names = ("health", "livez", "readyz")
        probes = [run.beside(lambda until, n=n: probe(s.address, f"/{n}", until)) for n in names]
        time.sleep(seconds)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for w in s.workers():
                s.kill(w)
            time.sleep(run.random.uniform(0, 0.1))
        found = [p.end() for p in probes]
        run.book_of(bulk.end())
        for name, answers in zip(names, found):
            took = [t for t, _ in answers]
            p99 = quantile(took, 0.99)
            run.figure(f"{name}_asked", len(took))
            run.figure(f"{name}_p99_ms", 1000 * p99)
            kinds = sorted({status for _, status in answers})
            run.check(set(kinds) <= {200, 503}, f"/{name} gave {kinds}")
            run.check(p99 <= 0.05 * SLOW or run.tier == "commit", f"/{name} takes {1000 * p99:.0f} ms (p99)")
            run.check(max(took) < 10 * SLOW, f"/{name} took {max(took):.1f} s")
        s.wait_workers()
        run.causes(s)


# ── Open loop ───────────────────────────────────────────────────────────────────────────────────────────────

class Flood:
    """Requests of one text each at a rate that does not care for answers, over at most `limit` connections. An arrival
    that finds no free connection is `unsent`: it waits in the client, as it would in a queue of the kernel. What has
    been idle for as long as the server says it keeps a connection is not used again."""

    def __init__(self, server, bodies, rate, seed, limit=900):
        self.address, self.bodies, self.rate, self.limit = server.address, bodies, rate, limit
        self.random = random.Random(seed)
        self.selector = selectors.DefaultSelector()
        self.idle, self.open = [], 0
        self.good, self.refused, self.odd = [], [], []  # seconds until the answer; what else happened
        self.unsent = self.sent = 0
        self.finished = []

    def _arrive(self, now):
        while self.idle and self.idle[0][1] < time.monotonic():
            self.idle.pop(0)[0].close()
            self.open -= 1
        if not self.idle:
            if self.open >= self.limit:
                self.unsent += 1
                return
            c = socket.create_connection(self.address, timeout=60 * SLOW)
            c.setblocking(False)
            self.idle.append((c, math.inf))
            self.open += 1
        c, _ = self.idle.pop()
        self.sent += 1
        try:
            c.send(self.bodies[self.sent % len(self.bodies)])  # small: it fits the socket's buffer
        except OSError as e:
            self._drop(c, f"sending: {e}")
            return
        self.selector.register(c, selectors.EVENT_READ, [now, b""])

    def _drop(self, c, why):
        self.odd.append(why)
        self.open -= 1
        c.close()

    def _read(self, key, now):
        c, state = key.fileobj, key.data
        try:
            data = c.recv(65536)
        except OSError as e:
            data, why = b"", str(e)
        else:
            why = "closed"
        state[1] += data
        head, _, body = state[1].partition(b"\r\n\r\n")
        if not data:
            self.selector.unregister(c)
            self._drop(c, why)
        elif body and len(body) >= int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0]):
            self.selector.unregister(c)
            status = int(head[9:12])
            if status == 200:
                self.good.append(now - state[0])
                self.finished.append(now)
            elif status in REFUSED and b"retry-after:" in head.lower():
                self.refused.append(now - state[0])
            else:
                self.odd.append(f"status {status}")
            kept = re.search(rb"keep-alive: timeout=(\d+)", head.lower())
            if kept:
                self.idle.append((c, now + int(kept[1])))
            else:
                c.close()
                self.open -= 1

    def run(self, seconds):
        began = now = time.monotonic()
        due = began
        while now < began + seconds:
            while due <= now:
                self._arrive(due)
                due += self.random.expovariate(self.rate)
            for key, _ in self.selector.select(max(0, min(due - time.monotonic(), 0.05))):
                self._read(key, time.monotonic())
            now = time.monotonic()
        end = now + 90 * SLOW
        while self.selector.get_map() and now < end:  # what was taken is answered
            for key, _ in self.selector.select(1):
                self._read(key, time.monotonic())
            now = time.monotonic()
        for key in list(self.selector.get_map().values()):
            self._drop(key.fileobj, "never answered")
        for c, _ in self.idle:
            c.close()
        return self


def request_bytes(text):
    body = json.dumps({"texts": [text]}).encode()
    return (b"POST /embed HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
            % len(body)) + body


class Pinned:
    """Clients on the last core, the server on the first one, so that they do not take each other's time."""

    def __enter__(self):
        self.cores = sorted(os.sched_getaffinity(0))
        if len(self.cores) < 2:
            raise Skip("one core: clients and server would fight for it")
        os.sched_setaffinity(0, {self.cores[-1]})
        return ("taskset", "-c", str(self.cores[0]))

    def __exit__(self, *_):
        os.sched_setaffinity(0, self.cores)


def watch_health(run, server, until):
    """Threads that ask /health and note the server's memory. Gives the lists that they fill."""
    memory, answers = [], []

    def ask():
        answers.extend(probe(server.address, "/health", until))

    def weigh():
        while not until.wait(0.5):
            memory.append((time.monotonic(), watch.tree_bytes(server.pid)))

    threads = [threading.Thread(target=t) for t in (ask, weigh)]
    for t in threads:
        t.start()
    return threads, memory, answers


def overload(run, model, tokens, seconds, factor):
    """Capacity in a closed loop, then `factor` times that much in an open one."""
    book = run.book(run.count(100, 500), model, (tokens, tokens))
    with Pinned() as prefix, run.serve("--workers", 1, model=model, prefix=prefix) as s:
        s.wait_workers(1)
        run.ledger(s, book, clients=16, items=1).run(50)
        result = run.ledger(s, book, clients=16, items=1).run(run.count(150, 1500))
        peak = result.exact / result.seconds
        run.figure("peak_per_s", peak)
        until = threading.Event()
        threads, memory, health = watch_health(run, s, until)
        bodies = [request_bytes(book.text(i)) for i in range(book.n)]
        began = time.monotonic()
        flood = Flood(s, bodies, factor * peak, run.seed).run(seconds)
        until.set()
        for t in threads:
            t.join()
        good = sum(began + 0.1 * seconds <= t <= began + seconds for t in flood.finished) / (0.9 * seconds)
        run.figure("goodput_of_peak", good / peak)
        for name, values in (("refused", flood.refused), ("good", flood.good), ("health", [t for t, _ in health])):
            run.figure(name, len(values))
            run.figure(f"{name}_p99_ms", 1000 * quantile(values, 0.99))
        run.figure("unsent", flood.unsent)
        run.figure("odd", len(flood.odd))
        steady = [b for t, b in memory if t > began + 0.2 * seconds] or [0]
        run.figure("memory_mib", [round(b / (1 << 20), 1) for b in (steady[0], max(steady), steady[-1])])
        run.check(not flood.odd, f"neither served nor refused: {len(flood.odd)}, such as {flood.odd[:5]}")
        run.check({c for _, c in health} <= {200}, "/health failed")
        run.check(flood.refused or factor < 2, "nobody was refused")
        return {"good": good / peak, "refused": quantile(flood.refused, 0.99),
                "health": quantile([t for t, _ in health], 0.99), "grown": (steady[-1] - steady[0]) / (1 << 20)}


@row("O1", "N", "ten times the capacity for five minutes: goodput, refusals, /health, memory")
def o1_overload(run):
    found = overload(run, "real", 96, run.seconds(20, 300), 10)
    run.check(found["good"] >= 0.9, f"goodput is {found['good']:.2f} of the peak")
    run.check(found["refused"] <= 0.05, f"a refusal takes {1000 * found['refused']:.0f} ms (p99)")
    run.check(found["health"] <= 0.05, f"/health takes {1000 * found['health']:.0f} ms (p99)")
    run.check(found["grown"] <= 8, f"memory grew by {found['grown']:.0f} MiB")


@row("O1C", "C", "six times the capacity for some seconds: everybody is served or refused, nobody forgotten")
def o1_short_overload(run):
    found = overload(run, "real", 96, run.seconds(10, 10), 6)
    run.check(found["good"] >= 0.5, f"goodput is {found['good']:.2f} of the peak")


@row("O8", "N", "clients that repeat at once what was refused: no collapse")
def o8_retry_storm(run):
    book = run.book(500, "real", (96, 96))
    with Pinned() as prefix, run.serve("--workers", 1, model="real", prefix=prefix) as s:
        s.wait_workers(1)
        result = run.ledger(s, book, clients=16, items=4).run(200)
        peak = result.exact / result.seconds
        ledger = run.ledger(s, book, clients=256, items=16, retry=REFUSED, eager=True, timeout=600).start()
        time.sleep(run.seconds(20, 120))
        result = ledger.stop()
        run.book_of(result)
        run.figure("peak_per_s", peak)
        run.figure("goodput_of_peak", result.exact / result.seconds / peak)
        run.check(result.refused > 0, "nobody was refused")
        run.check(result.exact / result.seconds >= 0.9 * peak, "the storm costs more than a tenth")


# ── Fairness and cost ───────────────────────────────────────────────────────────────────────────────────────

@row("FAIR", "N", "one line within three times its idle time (p99) while a bulk client saturates the server")
def fair_share(run):
    n = run.count(100, 500)
    book = run.book(256, "real", (128, 128))
    with run.serve(model="real") as s:
        s.wait_workers()
        Idle(s, 50)
        idle = Idle(s, n).seconds
        bulk = run.bulk(s, book, clients=4, items=64, retry=REFUSED)
        s.wait(lambda: bulk.sent() > 64 * 8, 120 * SLOW, 0.05)
        busy = Idle(s, n).seconds
        result = bulk.end()
        run.book_of(result, "bulk_")
        run.figure("bulk_texts_per_s", result.exact / result.seconds)
    for q in (0.5, 0.99):
        run.figure(f"idle_p{round(100 * q)}_ms", 1000 * quantile(idle, q))
        run.figure(f"busy_p{round(100 * q)}_ms", 1000 * quantile(busy, q))
    ratio = quantile(busy, 0.99) / quantile(idle, 0.99)
    run.figure("ratio_p99", ratio)
    run.figure("ratio_p50", quantile(busy, 0.5) / quantile(idle, 0.5))
    run.check(ratio <= 3 or run.tier == "commit", f"a line beside bulk work takes {ratio:.1f} times its idle time")


@row("COST", "N", "throughput of the server against the engine in-process, the same texts, runs in turn")
def cost_of_safety(run):
    n = run.count(256, 1024)
    book = run.book(n, "real", (110, 110))
    lines = run.scratch / "texts.txt"
    lines.write_text("".join(book.text(i) + "\n" for i in range(n)))
    one = run.scratch / "one.txt"
    one.write_text("one\n")

    def inside(path):
        began = time.monotonic()
        subprocess.run([BIN, "embed", "--input", path, "--format", "f32", "--output", run.scratch / "out.f32"],
                       check=True, capture_output=True, env=environment())
        return time.monotonic() - began

    rates = {"inside": [], "served": []}
    with run.serve(model="real") as s:
        s.wait_workers()
        run.ledger(s, book, clients=4, items=64).run(4)
        for _ in range(run.count(2, 5)):
            start = min(inside(one) for _ in range(3))
            rates["inside"].append(n / (inside(lines) - start))
            result = run.ledger(s, book, clients=4, items=64).run(n // 64)
            run.book_of(result, "served_")
            rates["served"].append(result.exact / result.seconds)
    best = {k: max(v) for k, v in rates.items()}
    for name, values in rates.items():
        run.figure(f"{name}_per_s", [round(v, 1) for v in values])
    lost = 1 - best["served"] / best["inside"]
    run.figure("lost", lost)
    run.check(lost <= 0.03 or run.tier == "commit", f"{100 * lost:.1f} % of the throughput is lost")


# ── Little of everything ────────────────────────────────────────────────────────────────────────────────────

@row("O3", "N", "900 clients that send a byte now and then; everybody else is served as before")
def o3_slow_clients(run):
    with run.serve() as s:
        s.wait_workers()
        idle = quantile(Idle(s, 300).seconds, 0.99)
        slow = [Wire(s.address, 60 * SLOW) for _ in range(900)]
        for i, w in enumerate(slow):
            w.socket.sendall((b"GET /health HTTP/1.1\r\nX: ",
                              b"POST /embed HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n{")[i % 2])
        began, busy = time.monotonic(), []
        while time.monotonic() - began < 9:
            busy += Idle(s, 50).seconds
            for w in run.random.sample(slow, 90):
                w.socket.send(b"x")
        ratio = quantile(busy, 0.99) / idle
        run.figure("ratio_p99", ratio)
        closed = [w.answer()[0] for w in slow]
        run.check(set(closed) == {408}, f"slow clients got {sorted(set(closed))}")
        run.check(ratio <= 1.5 or run.tier == "commit", f"others wait {ratio:.1f} times as long")


@row("O4", "N", "20 clients with texts of 100, 1,000, 4,000 and 7,000 tokens: nobody starves")
def o4_mixed_lengths(run):
    path = run.nano("unigram", 8192)
    books = [run.book(200, path, (n, n)) for n in (100, 1000, 4000, 7000)]
    with run.serve(model=path) as s:
        s.wait_workers()
        ledgers = [run.ledger(s, b, clients=5, items=2).start() for b in books]
        time.sleep(run.seconds(20, 1800))
        for ledger, n in zip(ledgers, (100, 1000, 4000, 7000)):
            result = ledger.stop()
            run.book_of(result, f"{n}_")
            run.check(max(result.latencies) < 60, f"a text of {n} tokens waited {max(result.latencies):.0f} s")


@row("O9", "N", "half a core by cgroup quota and four spinners beside: no worker is killed as hung")
def o9_little_cpu(run):
    root = Path("/sys/fs/cgroup/cpu")
    group = root / f"pillion-{os.getpid()}"
    try:
        group.mkdir()
        (group / "cpu.cfs_quota_us").write_text("50000")
    except OSError as e:
        raise Skip(f"no cgroup with a quota of processor time can be made: {e}") from None
    spinners = [subprocess.Popen(["sh", "-c", "while :; do :; done"]) for _ in range(4)]
    try:
        book = run.book(500, "real", (1, 200))
        with run.serve(model="real") as s:
            for pid in (s.pid, *s.workers()):
                (group / "cgroup.procs").write_text(str(pid))
            ledger = run.ledger(s, book, clients=8, items=8).start()
            time.sleep(run.seconds(20, 120))
            run.book_of(ledger.stop())
            run.causes(s)  # no deaths
    finally:
        for p in spinners:
            p.kill()
            p.wait()
        time.sleep(0.2)
        group.rmdir()


@row("O10", "CN", "64 descriptors and 200 clients: those beyond are turned away, and all is well when they have gone")
def o10_no_descriptors(run):
    book = run.book(500)
    with run.serve(prefix=("prlimit", "--nofile=64:64")) as s:
        s.wait_workers()
        wires = []
        for _ in range(200):
            try:
                wires.append(Wire(s.address, 30 * SLOW))
            except OSError:
                pass
        served = refused = waiting = 0
        for i, w in enumerate(wires):
            try:
                w.socket.settimeout(2 * SLOW)
                w.post(json.dumps({"texts": [book.text(i)]}).encode())
                status, _, body = w.answer()
                run.check(status in (200, *REFUSED), f"status {status}")
                served += status == 200 and book.is_golden(i, split_vectors(body)[0])
                refused += status != 200
            except TimeoutError:
                waiting += 1
            except (OSError, EOFError):
                refused += 1
        used = watch.cpu_seconds(s.pid)
        time.sleep(1)
        used = watch.cpu_seconds(s.pid) - used
        for name, n in (("served", served), ("refused", refused), ("waiting", waiting), ("idle_cpu", used)):
            run.figure(name, n)
        for w in wires:
            w.close()
        began = time.monotonic()
        run.check(served >= 8, f"only {served} clients were served with 64 descriptors")
        run.check(used < 0.5 * SLOW, f"a server without descriptors spends {100 * used:.0f} % of a core")
        with Asker(s) as a:
            run.check(book.is_golden(0, a.vector(book.text(0))), "a wrong vector afterwards")
        run.figure("recovered_after_s", time.monotonic() - began)
        s.kill(s.workers()[0])  # a new worker needs descriptors, too
        run.book_of(run.ledger(s, book, clients=8).run(50), "after_")
        s.wait_workers()
