"""I: hostile text. Each is sent alone, in a batch with 63 ordinary texts, and on eight connections at once; it must
give the same vector every time, and the ordinary ones theirs."""
import json
import re
import subprocess
import time

from harness import BIN, SLOW, Asker, environment, row, side_by_side
from ledger import digest

MODELS = ("nano", "unigram", "real")


def every_way(run, server, book, texts, parallel=8):
    """The vectors of hostile texts, which must not depend on the way they are sent."""
    with Asker(server) as a:
        alone = [a.vector(t) for t in texts]
        for text, vector in zip(texts, alone):
            mates = run.random.sample(range(book.n), 63)
            place = run.random.randrange(64)
            batch = [book.text(i) for i in mates]
            found = a.vectors(batch[:place] + [text] + batch[place:])
            run.check(found.pop(place) == vector, f"another vector in a batch: {text[:40]!r}, {len(text)} characters")
            run.check([digest(v) for v in found] == [book.golden[i] for i in mates],
                      f"the mates of {text[:40]!r} got other vectors")

    def ask_all():
        with Asker(server) as other:
            return [other.vector(t) for t in texts]

    for found in side_by_side([ask_all] * parallel):
        run.check(found == alone, "another vector on another connection")
    return alone


@row("I1", "C", "a short token that repeats: `yes | head -1024`, with every tokenizer")
def i1_repeated_token(run):
    for model in MODELS:
        text = "y\n" * 1024
        with run.serve(model=model) as s:
            vector = every_way(run, s, run.book(200, model), [text])[0]
            n = run.count(25 if model == "real" else 1000, 1000)
            with Asker(s) as a:
                wrong = sum(a.vector(text) != vector for _ in range(n))
        run.figure(model, n)
        run.check(wrong == 0, f"{wrong} of {n} answers differ with {model}")


def ladder(limit):
    """Counts of tokens around the model's limit and around usual ones."""
    return sorted({*range(limit - 2, limit + 3), 511, 512, 513, 2047, 2048, 2049, 8191, 8192, 8193})


def cut_at(limit, counts, vectors):
    """What is wrong with vectors of texts that differ in length alone: they must differ up to the limit, not beyond."""
    by_count = dict(zip(counts, vectors))
    below = [by_count[n] for n in counts if n <= limit]
    beyond = {by_count[n] for n in counts if n > limit}
    if len(set(below)) != len(below):
        return "texts below the limit share a vector"
    return "what is behind the limit changes the vector" if beyond - {by_count[limit]} else None


@row("I2", "C", "lengths around the model's limit and around 512, 2,048 and 8,192 tokens")
def i2_ladder(run):
    for model in ("nano", "unigram"):
        with run.serve(model=model) as s:
            limit = s.get("/info").json()["max_input_length"]
            counts = ladder(limit)
            # "a " is one token with both tokenizers; two special tokens count
            texts = ["a " * (n - 2) for n in counts]
            wrong = cut_at(limit, counts, every_way(run, s, run.book(200, model), texts, 2))
            run.check(not wrong, f"{model}: {wrong}")
            run.figure(model, f"limit {limit}, {len(counts)} lengths")
    for n in (limit, limit + 1):  # the flag exists in-process until the protocols that know it are spoken
        r = subprocess.run([BIN, "embed", "--model", run.nano("unigram"), "--no-truncate"], input=b"a " * (n - 2),
                           capture_output=True, env=environment())
        run.check((r.returncode == 0) == (n == limit), f"--no-truncate with {n} tokens of {limit}: {r.stderr!r}")
        if n > limit:
            run.check(re.search(rb"\b%d\b.*\b%d\b" % (n, limit), r.stderr), f"both numbers are wanted: {r.stderr!r}")


@row("I3", "C", "thousands of Chinese characters without a space")
def i3_cjk(run):
    base = "".join(chr(0x4E00 + run.random.randrange(0x5000)) for _ in range(20000))
    for model in MODELS:
        with run.serve(model=model) as s:
            vectors = every_way(run, s, run.book(200, model), [base[:n] for n in (400, 2000, 2500, 3000, 20000)], 2)
        run.check(len(set(vectors[1:])) == 1 or model == "unigram", f"{model}: what is cut off changes the vector")


@row("I4", "C", "runs of up to a million letters without a space; linear time; 256 KiB of stack")
def i4_long_runs(run):
    random_run = "".join(run.random.choices("abcdefghijklmnopqrstuvwxyz", k=10**6))
    texts = ["A" * n for n in (10**4, 26000, 43000, 131072, 10**6)] + [random_run, "us" * 10**5]
    for model in ("nano", "unigram"):
        with run.serve(model=model, prefix=("prlimit", "--stack=262144")) as s:
            every_way(run, s, run.book(200, model), texts, 2)
            ratios = []
            for _ in range(3):  # a busy machine can make one comparison wrong
                best = {n: 1e9 for n in (10**5, 10**6)}
                with Asker(s) as a:
                    for _ in range(5):
                        for n in best:
                            began = time.monotonic()
                            a.vector(random_run[:n])
                            best[n] = min(best[n], time.monotonic() - began)
                ratios.append(best[10**6] / best[10**5])
                if ratios[-1] <= 12:
                    break
            run.figure(f"{model}_ratio", min(ratios))
            run.check(min(ratios) <= 12, f"{model}: ten times the letters take {min(ratios):.1f} times as long")
            run.check(s.deaths() == 0, "a worker died")


@row("I5", "C", "blanks of every kind: blank lines, spaces, tabs, no-break, zero-width and ideographic spaces")
def i5_blanks(run):
    blanks = ["", "\n" * 10**5, " " * 10**6, "\t\r\n", "\u00a0" * 5, "\u3000" * 100, "\u200b" * 100,
              " \u00a0\u3000\t\n"]
    for model in ("nano", "unigram"):
        with run.serve(model=model) as s:
            vectors = every_way(run, s, run.book(200, model), blanks, 4)
            run.check(len(set(vectors)) == 1 or model == "unigram", "blanks are not the empty text")
            with Asker(s) as a:
                found = {a.vector(blanks[i % 8]) for i in range(run.count(240, 1000))}
            run.check(found == set(vectors), "the same blanks give several vectors")
            run.figure(model, f"{len(found)} vectors")


@row("I6", "C", "empty text, no texts, null, and nothing at all: an answer at once, never a hang")
def i6_nothing(run):
    bodies = {b'{"texts":[""]}': 200, b'{"texts":""}': 422, b'{"texts":null}': 422, b"{}": 422, b"null": 422, b"": 422,
              b"[]": 422, b'{"texts":[null]}': 422, b'{"texts":[[]]}': 422, b'{"texts":[]}': (200, 422)}
    with run.serve() as s, Asker(s) as a:
        slowest = 0.0
        for body, wanted in bodies.items():
            began = time.monotonic()
            status, _, answer = a.raw(body)
            slowest = max(slowest, time.monotonic() - began)
            json.loads(answer)
            run.check(status == wanted or isinstance(wanted, tuple) and status in wanted, f"{body!r} gave {status}")
        run.figure("slowest_ms", 1000 * slowest)
        run.check(slowest < 5 * SLOW, f"an answer took {slowest:.1f} s")


NOUNS = """cat sun tea ice map key bus oak sea jam hen fog rye zoo red apple blue car green tree old man hot soup
cold beer fast train slow boat big house small room new book good idea bad luck dark night bright day
long road short walk deep lake high hill wild horse soft bed hard rock sweet cake sour milk""".split()


@row("I7", "C", "56 short phrases at once on 4 and 8 connections")
def i7_short_phrases(run):
    phrases = NOUNS[:12] + [f"{a} {b}" for a, b in zip(NOUNS[13:], NOUNS[14:])][:44]
    rounds = run.count(10, 100)
    for model in ("nano", "real"):
        with run.serve(model=model) as s:
            with Asker(s) as a:
                alone = [a.vector(p) for p in phrases]

            def ask(order):
                with Asker(s) as a:
                    return all(a.vectors([phrases[i] for i in order]) == [alone[i] for i in order]
                               for _ in range(rounds))

            for n in (4, 8):
                orders = [run.random.sample(range(56), 56) for _ in range(n)]
                good = side_by_side([lambda o=o: ask(o) for o in orders])
                run.check(all(good), f"{model}: {good.count(False)} of {n} clients got other vectors than alone")
            run.check(s.deaths() == 0, "a worker died")


@row("I8", "C", "one word a thousand times, one after the other and on eight connections")
def i8_one_word(run):
    n = run.count(1000, 1000)
    with run.serve() as s:

        def ask():
            with Asker(s) as a:
                return {a.vector("apple") for _ in range(n)}

        found = set().union(*side_by_side([ask] * 8), ask())
        run.check(len(found) == 1, f"{len(found)} vectors for one word")
