"""K: nothing grows, however long it goes on."""
import math
import os
import signal
import socket
import threading
import time

import watch
from harness import SLOW, Asker, Skip, row
from ledger import Wire
from rows_worker import CRASHES, TEXTS, load, wait_faults, wait_flowing


@row("K3", "CN", "connects and disconnects, and deaths of workers: descriptors, threads, mappings, children are flat")
def k3_nothing_piles_up(run):
    connects, kills = run.count(3000, 100000), run.count(60, 10000)
    book = run.book(TEXTS)
    slack = {"mappings": 64}
    with run.serve() as s:
        s.wait_workers()
        load(run, s, book).run(100)
        wait_faults(run, s, 2, 0.05)
        s.wait_workers()
        time.sleep(0.5)
        before, memory = watch.Inventory(s.pid), watch.anonymous_bytes(s.pid)
        for i in range(connects):
            with socket.create_connection(s.address) as c:
                if i % 3 == 1:
                    c.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
                elif i % 3 == 2:
                    c.sendall(b"POST /embed HTTP/1.1\r\nHost: localhost\r\nContent-Le")
        flat = s.wait(lambda: not before.growth(watch.Inventory(s.pid), slack), 30 * SLOW, 0.05)
        run.check(flat, f"{connects} clients have left: {before.growth(watch.Inventory(s.pid), slack)}")
        ledger = load(run, s, book).start()
        wait_flowing(run, s, ledger)
        wait_faults(run, s, kills, 0.04)
        run.book_of(ledger.stop())
        s.wait_workers()
        s.wait(lambda: not before.growth(watch.Inventory(s.pid), slack), 30 * SLOW, 0.1)
        grown = before.growth(watch.Inventory(s.pid), slack)
        run.figure("connects", connects)
        run.figure("kills", s.kills)
        run.figure("server_grew_mib", (watch.anonymous_bytes(s.pid) - memory) / (1 << 20))
        run.check(not grown, f"the server holds more: {grown}")
        run.causes(s)


# ── The ledger ──────────────────────────────────────────────────────────────────────────────────────────────

JSON = b"POST /embed HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: "
BAD = (b"GET / HTTP/1.1\nHost: localhost\n\n", b"\x16\x03\x01\x02\0\x01\0",
       JSON.replace(b"localhost", b"evil") + b"0\r\n\r\n",
       JSON + b'9\r\n\r\n{"texts":', JSON + b"2000\r\n\r\n" + b"[" * 2000)


class Chaos:
    """Faults from outside until stop(): kills, stops of up to a second, requests that are none, clients that leave."""

    def __init__(self, run, server, kills_per_s, bad_per_s, stops_per_s=0.0, book=None):
        self.run, self.server, self.book = run, server, book
        self.done = {"kill": 0, "stop": 0, "bad": 0, "leave": 0}
        self.ended = threading.Event()
        rates = {"kill": kills_per_s, "stop": stops_per_s, "bad": bad_per_s, "leave": bad_per_s}
        self.threads = [threading.Thread(target=self._repeat, args=(k, r)) for k, r in rates.items() if r > 0]
        for t in self.threads:
            t.start()

    def _repeat(self, kind, rate):
        while not self.ended.wait(self.run.random.expovariate(rate)):
            try:
                self.done[kind] += getattr(self, kind)()
            except OSError:
                pass

    def kill(self):
        alive = self.server.workers()
        return bool(alive) and self.server.kill(self.run.random.choice(alive))

    def stop(self):
        alive = self.server.workers()
        if not alive:
            return 0
        victim = self.run.random.choice(alive)
        os.kill(victim, signal.SIGSTOP)
        time.sleep(self.run.random.uniform(0, 1))
        os.kill(victim, signal.SIGCONT)
        return 1

    def bad(self):
        wire = Wire(self.server.address, 30 * SLOW)
        wire.socket.sendall(self.run.random.choice(BAD))
        if self.run.random.random() < 0.5:
            wire.socket.recv(1000)
        wire.close()
        return 1

    def leave(self):
        wire = Wire(self.server.address, 30 * SLOW)
        wire.post(b'{"texts":["%d nobody waits for this"]}' % self.run.random.randrange(1 << 30))
        wire.close()
        return 1

    def end(self):
        self.ended.set()
        for t in self.threads:
            t.join()
        for name, n in self.done.items():
            if n:
                self.run.figure(name, n)


MARK_EVERY = 2000  # texts; far more than are under way at once, so that two markers do not meet in one batch


@row("B1", "CN", "the ledger: every kind of fault throughout, and every text has its vector or its own error")
def b1_ledger(run):
    n = run.count(60000, 1000000)
    crashes = [*CRASHES, "exit1", "after:kill9", "after:segv", "short", "badframe", "lie", "swap", "length", "twice"]
    kinds = [f"once:{k}" for k in (*crashes, *crashes, "nan", "inf", "zero")] + ["slow:300", "segv", "abort", "nan"]
    hangs = run.count(1, 20)
    places = [MARK_EVERY * i + run.random.randrange(64) for i in range(1, n // MARK_EVERY)]
    marks = {p: run.random.choice(kinds) for p in places}
    marks.update({p: run.random.choice(("once:hang", "once:stuck", "once:shortstuck"))
                  for p in run.random.sample(places, min(hangs, len(places) // 3))})
    expected = {i: {"segv": "text_set_aside", "abort": "text_set_aside", "nan": "numeric_error"}[k]
                for i, k in marks.items() if k in ("segv", "abort", "nan")}
    book = run.book(n, marks=marks)
    with run.marked() as s:
        s.wait_workers()
        load(run, s, book, expected=expected).run(50)
        s.wait_workers()
        before = watch.Inventory(s.pid)
        chaos = Chaos(run, s, kills_per_s=1.5, bad_per_s=4, stops_per_s=0.2)
        result = load(run, s, book, expected=expected, timeout=120 * SLOW).run(-(-n // 16))
        chaos.end()
        run.figure("marks", len(marks))
        run.book_of(result)
        run.figure("typed_wanted", len(expected))
        run.figure("deaths", s.deaths())
        s.wait_workers()
        s.wait(lambda: not before.growth(watch.Inventory(s.pid), {"mappings": 64}), 30 * SLOW, 0.1)
        grown = before.growth(watch.Inventory(s.pid), {"mappings": 64})
        run.check(not grown, f"the server holds more: {grown}")


BLOCKS = 20  # of an hour: three minutes each, with three kills
SCRAPS = 1 << 19  # bytes that the heap of a process may keep between what lives in it; it finds its size slowly


def growth(points):
    """(rise of y for one of x, twice its standard error) by least squares, over the means of BLOCKS equal parts:
    neighbouring samples see the same workers, so each alone would count as more evidence than it is."""
    size = max(1, len(points) // BLOCKS)
    parts = [points[i:i + size] for i in range(0, len(points) - size + 1, size)]
    means = [[sum(p[k] for p in part) / size for k in (0, 1)] for part in parts]
    n = len(means)
    mx, my = (sum(m[k] for m in means) / n for k in (0, 1))
    below = sum((x - mx) ** 2 for x, _ in means)
    slope = sum((x - mx) * (y - my) for x, y in means) / below
    rest = sum((y - my - slope * (x - mx)) ** 2 for x, y in means)
    return slope, 2 * math.sqrt(rest / (n - 2) / below)


def soak(run, model, seconds, tokens, texts, kills_per_s):
    """Load with faults; memory, descriptors, threads and processes must be flat after a tenth of the time, and after
    every text of the book was sent once: until then workers meet lengths for which they had no memory yet."""
    book = run.book(texts, model, tokens)
    with run.serve(model=model) as s:
        s.wait_workers()
        run.ledger(s, book, clients=8).run(50)
        chaos = Chaos(run, s, kills_per_s=kills_per_s, bad_per_s=1)
        ledger = run.ledger(s, book, clients=8).start()
        points, began, first = [], time.monotonic(), None
        while time.monotonic() - began < seconds:
            time.sleep(min(5.0, seconds / 60))
            if time.monotonic() - began > 0.1 * seconds and ledger.sent() > texts:
                first = first or watch.Inventory(s.pid)
                points.append((ledger.sent() / 1e6, watch.tree_bytes(s.pid)))
        chaos.end()
        run.book_of(ledger.stop())
        if len(points) < BLOCKS:
            raise Skip("so few texts were computed that nothing can be said about memory")
        s.wait_workers()
        s.wait(lambda: not first.growth(watch.Inventory(s.pid), {"mappings": 64}), 30 * SLOW, 0.1)
        grown = first.growth(watch.Inventory(s.pid), {"mappings": 64})
        usual = sorted(b for _, b in points)[len(points) // 2]
        millions = points[-1][0] - points[0][0]
        grew, noise = (millions * n for n in growth(points))
        bar = millions * min(0.01 * usual, 8 << 20)
        floor = max(noise, SCRAPS * (1 + len(watch.children(s.pid))))
        run.figure("samples", len(points))
        run.figure("memory_mib", usual / (1 << 20))
        for name, n in (("grew", grew), ("noise", noise), ("bar", bar), ("floor", floor)):
            run.figure(f"{name}_mib", n / (1 << 20))
        run.figure("server_mib", watch.anonymous_bytes(s.pid) / (1 << 20))
        run.check(not grown, f"the server holds more: {grown}")
        run.causes(s)
        # The bar is for as many texts as there were. It cannot be finer than what is measured: a worker that was just
        # started holds less than one that has worked, which shows as scatter around the line, and heaps have scraps.
        run.check(grew <= bar + floor, f"memory grew by {grew / (1 << 20):.1f} MiB with {millions:.2f} million texts; "
                  f"{bar / (1 << 20):.2f} are allowed, and {floor / (1 << 20):.1f} for what cannot be measured")


@row("K1", "NR", "soak on NANO: kills, bad requests, leavers; memory, descriptors, threads, processes are flat")
def k1_soak(run):
    soak(run, "nano", run.seconds(30, 3600, 86400), (1, 400), 20000, 1 / 60 if run.tier != "commit" else 1)


@row("K1R", "NR", "the same on the built-in model")
def k1_soak_real(run):
    soak(run, "real", run.seconds(30, 3600, 86400), (1, 200), 2000, 1 / 60 if run.tier != "commit" else 1)


@row("K2", "CN", "the largest batch once, then small ones: memory comes back")
def k2_memory_returns(run):
    if SLOW > 1:
        raise Skip("sanitizers keep freed memory to find its late uses")
    book = run.book(2000)
    with run.serve() as s:
        s.wait_workers()
        load(run, s, book).run(100)
        time.sleep(1)
        before = watch.tree_bytes(s.pid)
        with Asker(s, 600) as a:  # two million tokens: a busy machine takes minutes
            a.vectors(["word " * 1500 + str(i) for i in range(4096)])
            peak = watch.tree_bytes(s.pid)
            a.vector("a" * (4 << 20))
        load(run, s, book).run(50)
        enough = 1.1 * before + SCRAPS * (1 + len(watch.children(s.pid)))
        s.wait(lambda: watch.tree_bytes(s.pid) <= enough, 60, 0.2)
        after = watch.tree_bytes(s.pid)
        for name, b in (("before", before), ("peak", peak), ("after", after)):
            run.figure(f"{name}_mib", b / (1 << 20))
        run.check(after <= enough, f"{after >> 20} MiB remain, {before >> 20} MiB were there before")
