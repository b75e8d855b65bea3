"""N: wrong numbers never leave, and a text's vector does not depend on who else is there."""
import subprocess
import time
from array import array

from harness import BIN, SLOW, Asker, environment, row, side_by_side
from ledger import digest
from rows_worker import APART, load, once_each

LENGTHS = (31, 32, 33, 64, 127, 128, 129, 255, 256, 257, 512)


@row("N2", "CN", "each text alone and in batches of 2 to 64 random mates, lengths around those of the kernels' tiles")
def n2_batch_invariance(run):
    for model in ("nano", "unigram", "real"):
        book = run.book(*((100, model, (1, 200)) if model == "real" else (400, model, (1, 600))))
        rounds = run.count(6 if model == "real" else 40, 1000)
        with run.serve(model=model) as s, Asker(s) as a:
            ladder = ["a " * (n - 2) for n in LENGTHS]
            alone = {t: digest(a.vector(t)) for t in ladder}
            for i in range(0, book.n, 8):  # alone: the book was made in batches
                found = digest(a.vector(book.text(i)))
                run.check(found == book.golden[i], f"{model}: text {i} alone gives another vector")
            for _ in range(rounds):
                n = run.random.randrange(1, 64)
                mates = run.random.sample(range(book.n), n)
                wanted = [(book.text(i), book.golden[i]) for i in mates] + [run.random.choice(list(alone.items()))]
                run.random.shuffle(wanted)
                found = [digest(v) for v in a.vectors([t for t, _ in wanted])]
                run.check(found == [d for _, d in wanted], f"{model}: another vector in a batch of {n + 1}")
        run.figure(model, f"{rounds} batches")


@row("N3", "CN", "the same text on 1, 2, 4 and 8 connections: the same bytes; and those of `pillion embed`")
def n3_parallel(run):
    text = "the same text, with some Ümläuts and 文字, again and again"
    for model in ("nano", "real"):
        n = run.count(200, 1000)
        with run.serve(model=model) as s:

            def ask():
                with Asker(s) as a:
                    return {a.vector(text) for _ in range(n)}

            found = set()
            for clients in (1, 2, 4, 8):
                found |= set().union(*side_by_side([ask] * clients))
            run.check(len(found) == 1, f"{model}: {len(found)} vectors for one text")
        words = [] if model == "real" else ["--model", run.nano()]
        r = subprocess.run([BIN, "embed", *words, "--format", "f32", text], capture_output=True, env=environment(),
                           check=True)
        served = array("f", (float(v) for v in found.pop().split(b",")))
        run.check(served.tobytes() == r.stdout, f"{model}: another vector than in-process")
        run.figure(model, 15 * n)


@row("N1", "CN", "NaN, infinity, zero norm out of a worker: computed again elsewhere, or a typed error; never returned")
def n1_not_finite(run):
    n = run.count(10, 300)
    book = once_each(run, ("nan", "inf", "zero"), n)
    with run.marked() as s:
        run.book_of(load(run, s, book).run(-(-book.n // 16)), "once_")
        run.figure("faults", 3 * n)
        run.figure("replaced", s.deaths())
        s.kills = s.deaths()  # a worker with too many such answers may be replaced
        s.wait_workers()
    kinds = ("nan", "inf", "zero")
    marks = {APART * i + 3: kinds[i % 3] for i in range(1, 1 + 3 * n)}
    book = run.book(APART * (3 * n + 2), marks=marks)
    with run.marked() as s:
        result = load(run, s, book, expected={i: "numeric_error" for i in marks}).run(-(-book.n // 16))
        run.book_of(result, "always_")
        run.figure("typed", result.typed)
        run.check(result.typed == len(marks), f"{result.typed} of {len(marks)} texts had a numeric_error")


@row("N4", "CN", "a worker whose vectors have become wrong is found by its canary and replaced")
def n4_drift(run):
    book = run.book(4000)
    with run.marked(times={"canary": 1000}) as s:
        s.wait_workers()
        with Asker(s) as a:
            a.raw({"texts": ["1 \x01fault:drift from here on"]})
        began = time.monotonic()
        ok = s.wait(lambda: s.deaths() > 0 or "canary" in s.stderr(), 30 * SLOW, 0.02)
        run.check(ok, "nobody found out that a worker computes rubbish")
        run.figure("found_after_s", time.monotonic() - began)
        s.wait_workers()
        time.sleep(1.2)
        run.book_of(load(run, s, book).run(book.n // 16), "after_")
