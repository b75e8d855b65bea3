"""L: the server itself is killed, stopped and started again."""
import os
import signal
import socket
import time

import watch
from harness import SLOW, row
from ledger import Ledger


def free_again(address, seconds):
    """Seconds until a new server could take the address; None when it cannot."""
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        with socket.socket() as c:
            c.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                c.bind(address)
                c.listen()
                return time.monotonic() - began
            except OSError:
                time.sleep(0.005)
    return None


@row("L1", "CN", "the server is killed with -9 under load: no orphans, the address is free, the next start is clean")
def l1_kill_server(run):
    rounds = run.count(100, 1000)
    book = run.book(2000)
    gone, free, port = [], [], "0"
    shm = set(os.listdir("/dev/shm"))
    for i in range(rounds):
        with run.serve(listen=("--port", port)) as s:
            port = str(s.address[1])
            ledger = Ledger(s.address, book, clients=4, timeout=90 * SLOW).start()
            time.sleep(run.random.uniform(0, 0.1))
            workers = s.workers()
            s.process.kill()
            s.process.wait()
            began = time.monotonic()
            ok = s.wait(lambda: not any(map(watch.is_alive, workers)), 5 * SLOW, 0.002)
            run.check(ok, f"round {i}: workers {workers} live on without their server")
            gone.append(time.monotonic() - began)
            wrong = ledger.stop().wrong  # connections break, of course; but no answer is a wrong one
            run.check(not wrong, f"round {i}: {wrong[:3]}")
            free.append(free_again(s.address, 5 * SLOW))
            run.check(free[-1] is not None, f"round {i}: the address stays taken")
    run.check(set(os.listdir("/dev/shm")) <= shm, "shared memory is left behind")
    run.figure("rounds", rounds)
    run.figure("workers_gone_s", max(gone))
    run.figure("address_free_s", max(free))


@row("L3", "CN", "SIGTERM under load: what was taken is answered, nobody is left behind")
def l3_drain(run):
    rounds = run.count(10, 100)
    book = run.book(2000)
    for i in range(rounds):
        with run.serve() as s:
            s.wait_workers()
            ledger = run.ledger(s, book, clients=8, retry=(503,)).start()
            s.wait(lambda: ledger.sent() > 16 * 64, 60 * SLOW, 0.005)
            time.sleep(run.random.uniform(0, 0.05))
            s.workers()
            s.process.send_signal((signal.SIGTERM, signal.SIGINT)[i % 2])
            began = time.monotonic()
            s.wait(lambda: s.process.poll() is not None, 30 * SLOW, 0.005)
            run.check(s.process.poll() == 0, f"round {i}: status {s.process.poll()}")
            run.figure("seconds", time.monotonic() - began)
            result = ledger.stop()
            # a connection may be closed, or not be taken any more; but no answer is broken off or wrong
            ends = ("closed", "refused", "reset", "Broken pipe")
            odd = [w for _, w in result.failed if not any(k in w for k in ends)] + result.wrong
            run.check(not odd and not result.duplicates, f"round {i}: {odd[:3]}")
            left = [p for p in s.seen if watch.is_alive(p)]
            run.check(not left, f"round {i}: {left} live on")
