"""H: HTTP while workers die, and clients that leave. What needs no fault is in tests/http."""
import json
import socket
import time

import watch
from harness import SLOW, Asker, Failed, row, side_by_side
from ledger import Wire, digest, split_vectors
from rows_worker import wait_faults

POSTED = b"POST /embed HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
GET = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"


@row("H10", "CN", "200 requests sent ahead on each of 4 connections, good and bad, while workers are killed")
def h10_pipelines(run):
    book = run.book(2000)

    def client(server, seed):
        """Sends 200 requests ahead; the answers must come in order, each once."""
        kinds = [("good", "bad", "health", "missing")[(seed * 7 + i * i) % 4] for i in range(200)]
        numbers = [[(seed * 211 + i * 16 + k) % book.n for k in range(16)] for i in range(200)]
        out = []
        for kind, wanted in zip(kinds, numbers):
            body = json.dumps({"texts": [book.text(i) for i in wanted]} if kind == "good" else {"texts": 1}).encode()
            out.append({"good": POSTED % (len(body), body), "bad": POSTED % (len(body), body), "health": GET,
                        "missing": GET.replace(b"/health", b"/nowhere")}[kind])
        wire = Wire(server.address, 90 * SLOW)

        def send():
            for data in out:
                wire.socket.sendall(data)

        def read():
            for i, (kind, wanted) in enumerate(zip(kinds, numbers)):
                status, _, body = wire.answer()
                if status != {"good": 200, "bad": 422, "health": 200, "missing": 404}[kind]:
                    raise Failed(f"request {i} of 200, {kind}: status {status}")
                if kind == "good" and [digest(v) for v in split_vectors(body)] != [book.golden[n] for n in wanted]:
                    raise Failed(f"request {i} of 200: vectors of another request")

        side_by_side([send, read])  # at once: nobody reads ahead for ever
        if wire.leftovers():
            raise Failed("an answer to nothing")
        wire.close()

    rounds = run.count(5, 100)
    with run.serve() as s:
        s.wait_workers()
        for r in range(rounds):
            clients = [lambda k=k: client(s, r * 4 + k) for k in range(4)]
            side_by_side([lambda: wait_faults(run, s, 10, 0.08), *clients])
        run.figure("requests", rounds * 800)
        run.figure("kills", s.kills)
        s.wait_workers()
        run.causes(s)


def leave(wire, i):
    if i % 3 == 0:  # a reset instead of an end
        wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    wire.close()


@row("H13", "CN", "clients that leave while their texts wait or are computed; others share the batches (H14)")
def h13_clients_leave(run):
    book = run.book(1000, "real")
    leavers = run.count(40, 1000)
    with run.serve(model="real") as s:
        s.wait_workers()
        ledger = run.ledger(s, book, clients=4, items=4).start()
        body = json.dumps({"texts": [f"{i} some words that nobody will read " * 8 for i in range(64)]}).encode()
        for i in range(leavers):
            wire = Wire(s.address, 60 * SLOW)
            wire.post(body)
            time.sleep(run.random.uniform(0, 0.2))
            leave(wire, i)
        result = ledger.stop()
        run.figure("left", leavers)
        run.book_of(result)
        work_stops(run, s)
        run.check(s.deaths() == 0, "a worker died")


def work_stops(run, server):
    """A client leaves in the middle of much work: the workers' processor time must stand still soon after."""
    body = json.dumps({"texts": [f"{i} " + "some words that nobody will read " * 40
                                 for i in range(64 if SLOW == 1 else 16)]}).encode()
    workers = server.workers()

    def used():
        return sum(map(watch.cpu_seconds, workers))

    def settle():
        """[(when, processor time)] until that has stood still for a second."""
        samples = [(time.monotonic(), used())]
        grown = samples[0][0]
        while time.monotonic() - grown < SLOW:
            time.sleep(0.005)
            samples.append((time.monotonic(), used()))
            if samples[-1][1] > samples[-2][1]:
                grown = samples[-1][0]
        return samples

    before = settle()[-1][1]
    with Asker(server) as a:
        run.check(a.raw(body)[0] == 200, "the request of which others leave is not served")
    whole = used() - before
    spent, stops = [], []
    for i in range(run.count(6, 60)):
        before, share = used(), run.random.uniform(0.05, 0.5)
        wire = Wire(server.address, 60 * SLOW)
        wire.post(body)
        run.check(server.wait(lambda: used() - before >= share * whole, 60 * SLOW), "a request is not computed")
        leave(wire, i)
        samples = settle()
        # a tick or two later are the minute's canary
        stops.append(next(t for t, v in samples if v >= samples[-1][1] - 0.02 * SLOW) - samples[0][0])
        spent.append((samples[-1][1] - samples[0][1]) / whole)
    run.figure("whole_cpu_s", whole)
    run.figure("then_stops_ms", 1000 * max(stops))
    run.figure("then_spent_share", max(spent))
    run.check(max(spent) <= 0.25, f"{100 * max(spent):.0f} % of a request are computed after its client has left")
    run.check(max(stops) <= 0.25 * SLOW or run.tier == "commit",
              f"workers compute for {1000 * max(stops):.0f} ms after the client has left")
