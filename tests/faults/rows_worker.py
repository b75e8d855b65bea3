"""W: workers die, stand still and lie, always with 32 requests of 16 texts under way."""
import os
import signal
import time

import watch
from harness import SLOW, row
from ledger import quantile

TEXTS = 4000


def load(run, server, book, **more):
    return run.ledger(server, book, clients=32, items=16, **more)


def wait_flowing(run, server, ledger, requests=64):
    """Until some requests have gone out, so that faults meet a busy server."""
    start = ledger.sent()
    ok = server.wait(lambda: ledger.sent() - start >= 16 * requests or not ledger.is_running(), 60 * SLOW, 0.005)
    run.check(ok, "the load does not flow")


def wait_faults(run, server, kills, pause):
    """Kills `kills` workers, one at a time, each after a random pause of up to `pause` seconds."""
    deadline = time.monotonic() + (60 + kills) * SLOW
    killed = 0
    while killed < kills:
        run.check(time.monotonic() < deadline, f"only {killed} of {kills} workers could be killed")
        time.sleep(run.random.uniform(0, pause))
        alive = server.workers()
        killed += bool(alive) and server.kill(run.random.choice(alive))


def calm(run, server, book, requests=300):
    """p99 of a server that nobody disturbs."""
    return quantile(load(run, server, book).run(requests).latencies, 0.99)


def kill_workers(run, model, kills, texts=TEXTS, pause=0.04):
    book = run.book(texts, model)
    with run.serve(model=model) as s:
        s.wait_workers()
        usual = calm(run, s, book)
        before = watch.Inventory(s.pid)
        ledger = load(run, s, book).start()
        wait_flowing(run, s, ledger)
        wait_faults(run, s, kills, pause)
        result = ledger.stop()
        run.figure("kills", kills)
        run.book_of(result)
        run.figure("p99_extra_ms", 1000 * (quantile(result.latencies, 0.99) - usual))
        s.wait_workers()
        run.causes(s)
        s.wait(lambda: not before.growth(watch.Inventory(s.pid), {"mappings": 64}), 10 * SLOW, 0.05)
        grown = before.growth(watch.Inventory(s.pid), {"mappings": 64})
        run.check(not grown, f"after {kills} deaths the server holds more: {grown}")
        run.book_of(load(run, s, book).run(50), "after_")


@row("W1", "CN", "kill -9 of workers at random phases under load, NANO")
def w1_kill_workers(run):
    kill_workers(run, "nano", run.count(200, 10000))


@row("W1R", "N", "kill -9 of workers at random phases under load, the built-in model")
def w1_kill_workers_of_a_real_model(run):
    kill_workers(run, "real", run.count(20, 1000), texts=1000, pause=0.5)


@row("W5", "N", "workers that are stopped: for a second, for ten, all of them; late answers are dropped")
def w5_stopped_workers(run):
    book = run.book(TEXTS)
    cases = [("one", 1), ("one", 10), ("all", 10)] + [("all", 60)] * (run.tier != "commit")
    with run.serve() as s:
        s.wait_workers()
        for who, seconds in cases:
            ledger = load(run, s, book).start()
            wait_flowing(run, s, ledger)
            victims = s.workers()[:None if who == "all" else 1]
            for v in victims:
                os.kill(v, signal.SIGSTOP)
            began = time.monotonic()
            s.wait(lambda: time.monotonic() - began >= seconds or not any(map(watch.is_alive, victims)),
                   seconds + 1, 0.02)
            dead = [v for v in victims if not watch.is_alive(v)]
            if dead:
                run.figure(f"{who}_{seconds}_found_s", time.monotonic() - began)
                s.kills += len(victims)
                s.wait(lambda: not any(map(watch.is_alive, victims)), 5 * SLOW, 0.02)
            run.check(seconds > 1 or not dead, "a worker that stood still for a second was killed")
            run.check(seconds == 1 or len(dead) > 0, f"{who} stopped for {seconds} s: the server did not find out")
            for v in victims:
                if watch.is_alive(v):
                    os.kill(v, signal.SIGCONT)
            wait_flowing(run, s, ledger)
            run.book_of(ledger.stop(), f"{who}_{seconds}_")
            s.wait_workers()
        run.causes(s)


@row("W8", "CN", "all workers die at the same moment, again and again")
def w8_all_at_once(run):
    book = run.book(TEXTS)
    rounds = run.count(10, 200)
    back = []
    with run.serve() as s:
        s.wait_workers()
        ledger = load(run, s, book).start()
        for _ in range(rounds):
            wait_flowing(run, s, ledger, run.random.randrange(8, 40))
            killed = [w for w in s.workers() if s.kill(w)]
            run.check(killed, "there was nobody to kill")
            began, sent = time.monotonic(), ledger.sent()
            ok = s.wait(lambda: ledger.sent() > sent + 16 * 32, 60 * SLOW, 0.005)
            run.check(ok, "no answers after all workers died")
            back.append(time.monotonic() - began)
            s.wait_workers()
        run.book_of(ledger.stop())
        run.figure("rounds", rounds)
        run.figure("worst_pause_s", max(back))
        run.causes(s)
