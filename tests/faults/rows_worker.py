"""W: workers die, stand still and lie, always with 32 requests of 16 texts under way."""
import errno
import os
import re
import shutil
import signal
import subprocess
import threading
import time

import watch
from harness import SLOW, Asker, Idle, Skip, preload, row, side_by_side
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


@row("W5", "CN", "workers that are stopped: for a second, for ten, all of them; late answers are dropped")
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
                s.wait(lambda: not any(map(watch.is_alive, victims)), 2 * SLOW, 0.02)
                s.kills += sum(not watch.is_alive(v) for v in victims)
            busy = who == "all" and seconds > 1  # one alone may be the standby, which nobody waits for
            run.check(dead or not busy, f"all stopped for {seconds} s: the server did not find out")
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


# ── With fault markers ──────────────────────────────────────────────────────────────────────────────────────

APART = 640  # texts between two markers: more than are under way, so that no two meet in a batch


def once_each(run, kinds, n, apart=APART):
    """A book in which every kind of fault happens n times, each to the first worker that sees its text."""
    order = [f"once:{k}" for k in kinds for _ in range(n)]
    run.random.shuffle(order)
    return run.book(apart * (len(order) + 1), marks={apart * i + run.random.randrange(64): k
                                                     for i, k in enumerate(order)})


def survive(run, server, book, deaths, prefix=""):
    """Sends the whole book: every text gets its vector, although `deaths` workers die on the way."""
    server.wait_workers()
    result = load(run, server, book).run(-(-book.n // 16))
    server.kills += deaths
    run.book_of(result, prefix)
    run.causes(server)
    server.wait_workers()
    return result


CRASHES = {"segv": 11, "abort": 6, "bus": 7, "fpe": 8, "ill": 4, "stack": 11}


@row("W2", "CN", "SEGV, ABRT, BUS, FPE, ILL, running out of stack: invisible, and the log names each")
def w2_crashes(run):
    n = run.count(10, 1000)
    book = once_each(run, [*CRASHES, "exit1"], n)
    with run.marked() as s:
        survive(run, s, book, 7 * n)
        lines = s.death_lines()
        for kind, number in ({} if SLOW > 1 else CRASHES).items():  # a sanitizer turns signals into an exit status
            wanted = n * (2 if number == 11 else 1)
            found = sum(re.search(rf"signal[= ]{number}\b", line) is not None for line in lines)
            run.check(found == wanted, f"{kind}: the log names signal {number} {found} times, not {wanted}")


@row("W6", "CN", "endless computing and a deadlock are found and killed; a slow text that gets on is not")
def w6_hangs(run):
    n = run.count(2, 20)
    kinds = {"once:hang": n, "once:stuck": n, "once:after:hang": 1, "slow:8000": 2}
    order = [k for k, times in kinds.items() for _ in range(times)]
    run.random.shuffle(order)
    book = run.book(APART * (len(order) + 1), marks={APART * i + 7: k for i, k in enumerate(order)})
    with run.marked() as s:
        result = survive(run, s, book, 2 * n + 1)
        run.figure("hangs", 2 * n + 1)
        # five seconds until one is found; those that share a batch or wait behind it may meet a second one
        run.check(max(result.latencies) < 40 * SLOW, f"an answer took {max(result.latencies):.1f} s")


@row("W7", "CN", "death between computing and answering; half an answer; two answers; lies about what was computed")
def w7_lies(run):
    kinds = ["after:kill9", "after:segv", "exit0", "short", "badframe", "lie", "swap", "length", "twice"]
    n = run.count(8, 200)
    book = once_each(run, kinds, n)
    with run.marked() as s:
        survive(run, s, book, len(kinds) * n)
    hangs = run.count(1, 10)
    book = once_each(run, ["shortstuck"], hangs)
    with run.marked() as s:
        survive(run, s, book, hangs, "half_and_silence_")


@row("W9", "CN", "workers that die while starting: once is invisible; always opens the breaker, with a reason")
def w9_start(run):
    for kind in ("segv", "exit1", "request:segv", "request:nan"):
        book = run.book(TEXTS)
        with run.marked(env={"PILLION_FAULT_START": f"first:{kind}"}) as s:
            s.kills += 1
            run.book_of(load(run, s, book).run(50), kind.replace(":", "_") + "_")
            s.wait_workers()
    body = {"texts": ["hello"]}
    with run.marked(env={"PILLION_FAULT_START": "segv"}, ready=False) as s:
        began = time.monotonic()
        try:
            with Asker(s) as a:
                status, head, answer = a.raw(body)
            run.check(status == 503, f"status {status} from a server whose workers all die: {answer[:200]!r}")
        except (OSError, EOFError):
            pass  # it never served anybody and may end, if it says why
        run.figure("refused_after_s", time.monotonic() - began)
        if s.wait(lambda: s.process.poll() is not None, 1):
            said = s.stderr().splitlines()[-1]
            run.check(s.process.poll() > 0 and "pillion serve: " in said, f"it ended without a word: {said}")
            return
        used, before = watch.cpu_seconds(s.pid), s.deaths()
        time.sleep(run.seconds(6, 30))
        run.figure("idle_cpu", (watch.cpu_seconds(s.pid) - used) / run.seconds(6, 30))
        run.figure("deaths_then", s.deaths() - before)
        with Asker(s) as a:
            began = time.monotonic()
            status, head, answer = a.raw(body)
            run.check(status == 503 and time.monotonic() - began < 5 * SLOW, f"an open breaker: status {status}")
            run.check(b"retry-after:" in head, "an open breaker without retry-after")
        run.check(s.get("/health").status in (200, 503), "/health is not answered")


@row("W9R", "CN", "the model's file goes away and workers die: an open breaker; it comes back: the breaker closes")
def w9_recovers(run):
    model = run.scratch / "model.safetensors"
    shutil.copy(run.nano(), model)
    book = run.book(TEXTS)
    with run.serve(model=model) as s:
        s.wait_workers()
        run.book_of(load(run, s, book).run(20), "before_")
        model.rename(run.scratch / "away")
        for w in s.workers():
            s.kill(w)
        began = time.monotonic()
        with Asker(s) as a:
            status, head, answer = a.raw({"texts": ["hello"]})
        run.figure("refused_after_s", time.monotonic() - began)
        run.check(status == 503, f"status {status} without a model: {answer[:200]!r}")
        run.check(s.process.poll() is None, "the server ended because its model's file went away")
        (run.scratch / "away").rename(model)
        began = time.monotonic()
        ok = s.wait(lambda: s.post("/embed", {"texts": ["hello"]}).status == 200, 60 * SLOW, 0.1)
        run.check(ok, "the breaker stays open although workers can start")
        run.figure("served_again_after_s", time.monotonic() - began)
        run.book_of(load(run, s, book).run(20), "after_")


@row("W3", "CN", "the model's file is cut in place while it is mapped; replaced by rename; and repaired")
def w3_truncated_model(run):
    good = run.nano().read_bytes()
    model = run.scratch / "model.safetensors"
    model.write_bytes(good)
    book = run.book(TEXTS)
    with run.serve(model=model) as s:
        s.wait_workers()
        other = run.scratch / "other"  # renamed over: the mapped file lives on, a new worker sees the new one
        other.write_bytes(good)
        other.rename(model)
        run.book_of(load(run, s, book).run(20), "renamed_")
        s.kill(s.workers()[0])
        run.book_of(load(run, s, book).run(100), "reopened_")
        s.wait_workers()
        os.truncate(model, len(good) // 2)
        worst, end, before = 0, time.monotonic() + run.seconds(5, 30), s.deaths()
        while time.monotonic() < end:
            began = time.monotonic()
            with Asker(s) as a:
                status, _, answer = a.raw({"texts": [book.text(i) for i in range(16)]})
            run.check(status in (200, 422, 503), f"status {status}: {answer[:200]!r}")
            worst = max(worst, time.monotonic() - began)
            time.sleep(0.2)
        deaths = s.deaths() - before
        run.figure("deaths_of_a_cut_file", deaths)
        run.figure("worst_answer_s", worst)
        run.check(s.process.poll() is None, "the server ended with its workers")
        with open(model, "r+b") as f:
            f.write(good)
        ok = s.wait(lambda: s.post("/embed", {"texts": ["hello"]}).status == 200, 60 * SLOW, 0.1)
        run.check(ok, "a repaired file is not served")
        s.wait(lambda: load(run, s, book).run(4).problems() == [], 60 * SLOW, 0.5)
        run.book_of(load(run, s, book).run(20), "repaired_")


def deaths_of(server, job, wanted=None):
    """(result of job, how many workers died meanwhile). The log's last line may come after the answer: with `wanted` it
    is waited for, else for a moment."""
    before = server.deaths()
    result = job()
    server.wait(lambda: server.deaths() - before == wanted, 0.2 if wanted is None else 10 * SLOW)
    return result, server.deaths() - before


def partial(server, texts):
    """(vectors with None in place, {index: code}) of a request that takes partial answers."""
    with Asker(server) as a:
        return a.partial(texts)


@row("I16", "CN", "a poison at each index of a batch of 64: 63 vectors, one error, two deaths; none the second time")
def i16_poison(run):
    book = run.book(6400)
    kinds = [*CRASHES, "exit1"]
    places = run.random.sample(range(64), min(64, run.count(64, 64)))
    lost = 0
    with run.marked() as s:
        s.wait_workers()
        for round_, place in enumerate(places):
            numbers = run.random.sample(range(book.n), 64)
            texts = [book.text(i) for i in numbers]
            texts[place] = f"{round_} \x01fault:{kinds[round_ % len(kinds)]} poison"
            for wanted in (2, 0):
                (vectors, errors), deaths = deaths_of(s, lambda: partial(s, texts), wanted)
                good = all(v is not None and book.is_golden(n, v)
                           for i, (n, v) in enumerate(zip(numbers, vectors)) if i != place)
                run.check(good, f"poison at {place}: another text was harmed")
                run.check(errors == {place: "text_set_aside"}, f"poison at {place}: errors {errors}")
                run.check(deaths == wanted, f"poison at {place}: {deaths} deaths instead of {wanted}")
                lost += deaths
        run.figure("places", len(places))
        run.figure("deaths", lost)
        answer = s.post("/embed", {"texts": texts})
        run.check(answer.status == 422, f"a poisoned request without partial answers: status {answer.status}")


@row("I17", "CN", "2, 8 and 64 poisons in 64: k deaths and one for each batch of them, at most some 16; repeats: none")
def i17_many_poisons(run):
    book = run.book(2000)
    with run.marked() as s:
        s.wait_workers()
        workers = run.workers_of(s) + 1  # and the express worker
        for k in (2, 8, 64):
            numbers = run.random.sample(range(book.n), 64)
            texts = [book.text(i) for i in numbers]
            places = run.random.sample(range(64), k)
            for p in places:
                texts[p] = f"{k} {p} \x01fault:segv poison"
            (vectors, errors), deaths = deaths_of(s, lambda: partial(s, texts))
            run.figure(f"deaths_of_{k}", deaths)
            run.check(set(errors) >= set(places) if k < 16 else len(errors) >= k, f"{k} poisons: errors {errors}")
            run.check(set(errors.values()) <= {"text_set_aside", "workers_lost"}, f"{k} poisons: errors {errors}")
            for i, (n, v) in enumerate(zip(numbers, vectors)):
                run.check(i in errors or book.is_golden(n, v), f"{k} poisons: text {i} has a wrong vector")
            if k == 64:
                # 16 may die under a request (15 poisons and the one in company); with the next it is given up, and
                # the other workers may be dying of it at that moment
                run.check(deaths <= 16 + workers, f"{deaths} deaths for 64 poisons")
                continue
            run.check(set(errors) == set(places), f"{k} poisons: innocent texts were refused: {errors}")
            # each dies alone; before that once in company, which all poisons of one batch of a worker share
            run.check(1 + k <= deaths <= k + min(k, 6), f"{k} poisons: {deaths} deaths")
            repeats = run.count(50, 1000)
            _, deaths = deaths_of(s, lambda: [partial(s, texts) for _ in range(repeats)])
            run.check(deaths == 0, f"{deaths} deaths by texts that are known to be poison")
        others_beside_poison(run, s, book)
        run.check(s.process.poll() is None, "the server ended")


def others_beside_poison(run, server, book):
    """What another client's lines take while one sends new poisons and repeats them. A line of NANO takes a fraction of
    a millisecond, so that a few processes which want two cores show more than poison does: what that costs is measured
    with the same requests without poison. What 64 texts of a neighbour may cost is asked by FAIR, of a real model."""
    repeats = run.count(50, 1000)

    def requests(poisons):
        for k in poisons:
            texts = [book.text(i) for i in run.random.sample(range(book.n), 64)]
            for p in run.random.sample(range(64), k):
                texts[p] = f"others {k} {p} \x01fault:segv poison"
            for _ in range(repeats):
                partial(server, texts)

    took = {"idle": run.beside(lambda _: Idle(server, repeats).seconds).end()}
    for name, poisons in (("unharmed", (0, 0, 0)), ("others", (2, 8, 64))):
        lines = run.beside(lambda until: Idle(server, until=until).seconds)
        requests(poisons)
        took[name] = lines.end()  # each line has had its vector
    p99 = {name: quantile(seconds, 0.99) for name, seconds in took.items()}
    for name, seconds in p99.items():
        run.figure(f"{name}_p99_ms", 1000 * seconds)
    ratio = p99["others"] / max(p99["idle"], p99["unharmed"])
    run.figure("others_ratio_p99", ratio)
    run.check(ratio <= 2 or run.tier == "commit", f"other clients wait {ratio:.1f} times as long (p99)")


@row("W15", "CN", "a worker that grows past its soft cap is replaced between two batches")
def w15_leaks(run):
    marks = {APART * i: "leak:8" for i in range(1, 1 + run.count(20, 400))}
    book = run.book(APART * (len(marks) + 2), marks=marks)
    with run.marked(times={"soft": 64}) as s:
        s.wait_workers()
        most = []
        done = threading.Event()

        def look():
            while not done.wait(0.05):
                most.append(max((watch.anonymous_bytes(w) for w in s.workers()), default=0))

        watcher = threading.Thread(target=look)
        watcher.start()
        result = load(run, s, book).run(-(-book.n // 16))
        done.set()
        watcher.join()
        run.book_of(result)
        run.figure("largest_worker_mib", max(most) / (1 << 20))
        run.check(max(most) < 160 << 20, f"a worker grew to {max(most) >> 20} MiB beside a soft cap of 64")


@row("W4", "CN", "out of memory in a small cgroup: a worker goes, the server stays; the text has its error")
def w4_out_of_memory(run):
    group = cgroup(run)
    book = run.book(TEXTS)
    try:
        with run.marked() as s:
            s.wait_workers()
            run.book_of(load(run, s, book).run(20), "before_")
            (group / "memory.limit_in_bytes").write_text(str(256 << 20))
            for pid in (s.pid, *s.workers()):
                (group / "cgroup.procs").write_text(str(pid))
            scores = {int(open(f"/proc/{w}/oom_score_adj").read()) for w in s.workers()}
            run.figure("oom_score_adj", sorted(scores))
            deaths = []
            for i in range(run.count(2, 20)):
                (vectors, errors), died = deaths_of(
                    s, lambda: partial(s, [book.text(1), f"\x01fault:alloc:900 too much {i}", book.text(2)]))
                run.check(list(errors) == [1] and book.is_golden(1, vectors[0]) and book.is_golden(2, vectors[2]),
                          f"errors {errors}")
                deaths.append(died)
            kills = int(re.search(r"oom_kill (\d+)", (group / "memory.oom_control").read_text())[1])
            told = sum("want of memory" in line for line in s.death_lines())
            run.figure("deaths_for_one", [min(deaths), max(deaths)])
            run.figure("kills_by_the_kernel", kills)
            run.check(min(deaths) >= 1, f"deaths for each text: {deaths}")
            run.check(kills == told, f"the kernel killed {kills} workers, the log knows of {told}")
            run.check(s.process.poll() is None, "the server was killed for its worker's memory")
            run.check(min(scores) > 0, f"workers are not preferred by the kernel when memory ends: {scores}")
            s.wait_workers()
            run.book_of(load(run, s, book).run(20), "after_")
    finally:
        time.sleep(0.1)
        group.rmdir()


def cgroup(run):
    """A fresh memory cgroup (version 1)."""
    from pathlib import Path
    root = Path("/sys/fs/cgroup/memory")
    if not (root / "memory.limit_in_bytes").exists():
        raise Skip("no memory cgroup of version 1 here")
    group = root / f"pillion-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as e:
        raise Skip(f"no cgroup can be made: {e}") from None
    return group


def attach(run, server, *inject, pids=None):
    """strace, which makes system calls fail: of the running server and its children, or of those processes alone."""
    if shutil.which("strace") is None:
        raise Skip("strace is not installed")
    calls = ",".join(sorted({i.split(":")[0] for i in inject}))
    log = open(run.scratch / "strace.txt", "w+")
    whom = [w for pid in pids for w in ("-p", str(pid))] if pids else ["-f", "-p", str(server.pid)]
    p = subprocess.Popen(["strace", *whom, "-e", f"trace={calls}",
                          *[w for i in inject for w in ("-e", f"inject={i}")]], stderr=log, stdout=log)
    ok = server.wait(lambda: "attached" in (run.scratch / "strace.txt").read_text() or p.poll() is not None, 20, 0.01)
    if p.poll() is not None or not ok:
        p.kill()
        raise Skip("strace cannot attach here: " + (run.scratch / "strace.txt").read_text()[-200:])
    return p


@row("W10", "CN", "workers cannot be started: EAGAIN, ENOMEM, ENOENT; the server stays and recovers")
def w10_no_processes(run):
    if SLOW > 1:
        raise Skip("sanitizers do not run under strace")
    book = run.book(TEXTS)
    for inject in ("clone,clone3,fork,vfork:error=EAGAIN:when=1..3", "clone,clone3,fork,vfork:error=ENOMEM:when=1..3",
                   "execve:error=ENOENT:when=1"):
        with run.serve() as s:
            s.wait_workers()
            tracer = attach(run, s, inject)
            try:
                for w in s.workers():
                    s.kill(w)
                time.sleep(run.seconds(2, 10))
                run.check(s.process.poll() is None, f"{inject}: the server ended")
                run.check(s.get("/health").status in (200, 503), f"{inject}: /health is not answered")
            finally:
                tracer.send_signal(signal.SIGINT)
                tracer.wait()
            run.check("INJECTED" in (run.scratch / "strace.txt").read_text(), f"{inject}: nothing was injected")
            began = time.monotonic()
            s.wait_workers()
            run.figure(inject.split("error=")[1].split(":")[0] + "_back_s", time.monotonic() - began)
            run.book_of(load(run, s, book).run(50), "after_")


# (whose calls, which, how they fail, whether a client may lose its connection: that is what the error means to it).
# Not here: epoll_ctl, since libuv ends the process when the kernel has no memory for another watched descriptor.
READ, WRITE = "read,readv,recvfrom,recvmsg", "write,writev,sendto,sendmsg"
FAILING = [("sockets", "read", "EINTR", False), ("sockets", "write", "EINTR", False),
           ("sockets", "write", "EAGAIN", False), ("sockets", "write", "ENOBUFS", False),
           ("sockets", "read", "EIO", True), ("sockets", "write", "EIO", True), ("sockets", "write", "ENOMEM", True),
           ("server", "accept4", "EINTR", False), ("server", "accept4", "EMFILE", True),
           ("server", "accept4", "ENOMEM", True), ("server", "epoll_pwait,epoll_wait", "EINTR", False),
           ("server", "mmap,mremap", "ENOMEM", True), ("server", "openat", "EMFILE", False),
           ("server", "openat", "EIO", False), ("worker", READ, "EINTR", False), ("worker", READ, "EIO", False),
           ("worker", WRITE, "EINTR", False), ("worker", WRITE, "EIO", False), ("worker", WRITE, "EPIPE", False),
           ("worker", "mmap,mremap,brk", "ENOMEM", False)]
CONNECTION_LOST = re.compile(r"EOFError|ConnectionResetError|BrokenPipeError|status 503")


@row("W13", "N", "system calls that fail at the n-th call, in server and workers; nothing crashes, hangs or is lost")
def w13_failing_calls(run):
    if SLOW > 1:
        raise Skip("sanitizers do not run under strace")
    book = run.book(TEXTS)
    count = run.scratch / "failed"
    injected = lost = 0
    for _ in range(run.count(1, 10)):
        for who, calls, error, may_lose in FAILING:
            first, step = run.random.randint(1, 30), run.random.randint(3, 60)
            fault = f"{calls}:error={error}:when={first}+{step}"
            env = {}
            if who == "sockets":
                count.write_bytes(b"")
                env = {"LD_PRELOAD": preload("call_fail"), "PILLION_CALL_FAIL_COUNT": count,
                       "PILLION_CALL_FAIL": f"{calls}:{getattr(errno, error)}:{first}:{step}"}
            with run.serve(env=env, ready=not env) as s:
                s.wait_workers()
                tracer = None if env else attach(run, s, fault, pids=s.workers() if who == "worker" else [s.pid])
                result = load(run, s, book).run(200)
                if tracer:
                    tracer.send_signal(signal.SIGINT)
                    tracer.wait()
                found = count.stat().st_size if env else (run.scratch / "strace.txt").read_text().count("(INJECTED)")
                unexplained = [w for _, w in result.failed if not (may_lose and CONNECTION_LOST.search(w))]
                run.check(not (unexplained or result.wrong or result.duplicates),
                          f"{who} {fault}: {(unexplained + result.wrong)[:3]}, {result.duplicates} duplicates")
                run.check(s.process.poll() is None, f"{who} {fault}: the server ended")
                if not env:
                    run.book_of(load(run, s, book).run(20), "after_")
                injected += found
                lost += len(result.failed)
    run.figure("injected", injected)
    run.figure("connections_lost", lost)
    run.check(injected > 0, "nothing was injected")
