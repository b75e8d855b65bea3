#!/usr/bin/env python3
"""Tokens a second of our tokenizer and of the `tokenizers` package, one thread each, on the same lines in turns.

    tokenizer.py PROGRAM MODELS CORPUS [--rounds N]     PROGRAM: bench/tokenizer.c; the others as for differential.py

Lines: the English ones of the corpus, and 200 of each language. The package runs its fastest call, encode_batch_fast,
with its parallelism off. The ratio is that of the medians."""
import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ["TOKENIZERS_PARALLELISM"] = "false"
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "token"))
import corpus  # noqa: E402
from tokenizers import Tokenizer  # noqa: E402


def english(folder, rng):
    """Originals of the messages, which the catalogues carry beside the translations."""
    lines = {}
    for path in sorted(Path(folder).glob("*.deb")):
        for _, line in corpus.package_lines(path, originals=True):
            if len(line) > 20:
                lines[line] = True
    lines = sorted(lines)
    rng.shuffle(lines)
    return lines[:5000]


def measure(program, tokenizer, lines, rounds):
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8", newline="\n") as f:
        f.write("\n".join(lines))
        f.flush()
        ours = subprocess.Popen([program, str(tokenizer), f.name], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                text=True)
        opened = json.loads(ours.stdout.readline())
        theirs = Tokenizer.from_file(str(tokenizer))
        theirs.no_truncation()
        theirs.no_padding()
        times = {"ours": [], "theirs": []}
        for _ in range(rounds):
            ours.stdin.write("run\n")
            ours.stdin.flush()
            answer = json.loads(ours.stdout.readline())
            times["ours"].append(answer["s"])
            started = time.perf_counter()
            encoded = theirs.encode_batch_fast(lines)
            times["theirs"].append(time.perf_counter() - started)
            ids = sum(len(e) for e in encoded)
            assert ids == answer["ids"], "not the same ids"
            del encoded
        ours.stdin.close()
        ours.wait()
    a, b = statistics.median(times["ours"]), statistics.median(times["theirs"])
    size = sum(len(line.encode()) for line in lines)
    return {"lines": len(lines), "mbytes": round(size / 1e6, 2), "ids": ids, "ours_mtok_s": round(ids / a / 1e6, 2),
            "theirs_mtok_s": round(ids / b / 1e6, 3), "ours_mb_s": round(size / a / 1e6, 1), "ratio": round(b / a, 1),
            **opened}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("program")
    parser.add_argument("models")
    parser.add_argument("corpus")
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    rng = random.Random(8421)
    many = [line for lines in corpus.real_lines(args.corpus, 200, rng).values() for line in lines]
    sets = {"English": english(args.corpus, rng), "150 languages": many}
    for model in ("minilm", "mpnet", "e5-multilingual", "xlmr-base"):
        path = Path(args.models, model, "tokenizer.json")
        for name, lines in sets.items():
            if path.exists():
                result = measure(args.program, path, lines, args.rounds)
                print(json.dumps({"model": model, "set": name, **result}), flush=True)


if __name__ == "__main__":
    main()
