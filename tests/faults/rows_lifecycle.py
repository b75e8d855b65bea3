"""L: the server itself is killed, stopped and started again."""
import os
import signal
import socket
import subprocess
import time

import watch
from harness import BIN, SLOW, environment, row
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
            began = time.monotonic()
            s.process.send_signal((signal.SIGTERM, signal.SIGINT)[i % 2])
            s.wait(lambda: s.process.poll() is not None, 30 * SLOW, 0.005)
            run.check(s.process.poll() == 0, f"round {i}: status {s.process.poll()}")
            run.figure("seconds", time.monotonic() - began)
            result = ledger.stop()
            # What was out before the signal is answered, by vectors or a refusal that tells when to come again. Only
            # whoever sends later may find a connection closed, or nobody who takes it; and no answer is broken off.
            ends = ("the connection was closed", "refused", "reset", "Broken pipe")
            odd = [f.why for f in result.failed
                   if (f.sent is not None and f.sent < began) or not any(k in f.why for k in ends)] + result.wrong
            run.check(not odd and not result.duplicates, f"round {i}: {odd[:3]}")
            run.figure("answered_after_the_signal", sum(t >= began for t in result.finished)
                       + run.figures.get("answered_after_the_signal", 0))
            left = [p for p in s.seen if watch.is_alive(p)]
            run.check(not left, f"round {i}: {left} live on")


@row("L6", "CN", "the whole tree sleeps longer than a stall may last, and wakes: nobody is killed for it")
def l6_sleep(run):
    book = run.book(2000)
    with run.serve() as s:
        s.wait_workers()
        ledger = run.ledger(s, book).start()
        for _ in range(run.count(1, 5)):
            s.wait(lambda at=ledger.sent(): ledger.sent() > at + 16 * 64, 60 * SLOW, 0.005)
            tree = [s.pid, *s.workers()]
            for p in tree:
                os.kill(p, signal.SIGSTOP)
            time.sleep(run.seconds(7, 60))
            for p in reversed(tree):
                os.kill(p, signal.SIGCONT)
        s.wait(lambda at=ledger.sent(): ledger.sent() > at + 16 * 64, 60 * SLOW, 0.005)
        time.sleep(1)
        run.book_of(ledger.stop())
        run.causes(s)  # no deaths


@row("L8", "CN", "the log cannot be written: closed, full, a pipe that nobody reads; workers die meanwhile")
def l8_no_log(run):
    book = run.book(2000)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = free.getsockname()
    full = "/dev/full"
    read, write = os.pipe()
    os.close(read)
    for name, how in (("closed", None), ("full", open(full, "w")), ("nobody reads", write)):
        words = [BIN, "serve", "--port", str(address[1]), "--model", str(run.nano()), "--log-level", "debug"]
        if how is None:
            words = ["sh", "-c", 'exec "$@" 2>&-', "sh", *words]
        p = subprocess.Popen(words, stderr=how, stdout=subprocess.DEVNULL, env=environment(XDG_CACHE_HOME=run.cache))
        try:
            run.check(wait_served(address, 30 * SLOW), f"log {name}: the server does not serve")
            ledger = Ledger(address, book, clients=8, timeout=90 * SLOW).start()
            for _ in range(5):
                time.sleep(0.1)
                for w in watch.workers(p.pid)[:1]:
                    os.kill(w, signal.SIGKILL)
            run.book_of(ledger.stop(), f"{name.replace(' ', '_')}_")
            p.terminate()
            run.check(p.wait(30 * SLOW) == 0, f"log {name}: status {p.returncode}")
        finally:
            p.kill()
            p.wait()
    os.close(write)


def wait_served(address, seconds):
    """Until GET /readyz is a 200; False when it never is."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            with socket.create_connection(address, timeout=5) as c:
                c.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                if c.recv(64).startswith(b"HTTP/1.1 200"):
                    return True
        except OSError:
            pass
        time.sleep(0.02)
    return False
