"""O: more than the server can do. Refused at once, not suffered; and what is taken is done."""
import json
import socket
import threading
import time

import watch
from harness import SLOW, row, side_by_side
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
        until = threading.Event()
        ledger = run.ledger(s, book, clients=32, items=64).start()
        jobs = [lambda p=p: probe(s.address, p, until) for p in ("/health", "/livez", "/readyz")]

        def killer():
            time.sleep(seconds)
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                for w in s.workers():
                    s.kill(w)
                time.sleep(run.random.uniform(0, 0.1))
            until.set()

        found = side_by_side([*jobs, killer])[:3]
        run.book_of(ledger.stop())
        for name, answers in zip(("health", "livez", "readyz"), found):
            took = [t for t, _ in answers]
            run.figure(f"{name}_p99_ms", 1000 * quantile(took, 0.99))
            kinds = sorted({status for _, status in answers})
            run.check(set(kinds) <= {200, 503}, f"/{name} gave {kinds}")
            run.check(max(took) < 10 * SLOW, f"/{name} took {max(took):.1f} s")
        s.wait_workers()
        run.causes(s)
