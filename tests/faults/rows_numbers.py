"""N: wrong numbers never leave, and a text's vector does not depend on who else is there."""
import subprocess
from array import array

from harness import BIN, Asker, environment, row, side_by_side
from ledger import digest

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
