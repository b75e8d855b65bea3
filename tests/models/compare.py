#!/usr/bin/env python3
"""Embeds the reference texts with every model named and compares the vectors with those of sentence-transformers.

    compare.py PILLION MODELS_DIR NAME...           against the committed values of tests/golden (standard library only)
    compare.py --live PILLION MODELS_DIR NAME...    against a sentence-transformers that runs now, every value

Then embeds the same texts again, in another order, with other threads and one by one: no bit may change."""
import argparse
import array
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
sys.path.insert(0, str(GOLDEN))
import layout
import texts as corpus

TOLERANCE = 1e-5
ALONE = 20  # texts that are also embedded one by one


class Embedder:
    def __init__(self, pillion, model_dir, folder):
        self.command = [pillion, "embed", "--model", str(model_dir), "--precision", "f32", "--format", "f32"]
        self.folder = Path(folder)

    def __call__(self, texts, threads):
        source, out = self.folder / "texts.jsonl", self.folder / "vectors.f32"
        source.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        out.unlink(missing_ok=True)
        subprocess.run(self.command + ["--threads", str(threads), "--input", str(source), "--input-format", "jsonl",
                                       "-o", str(out)], check=True, stderr=subprocess.DEVNULL)
        values = array.array("f", out.read_bytes())
        dim = len(values) // len(texts)
        return [values[i * dim:(i + 1) * dim] for i in range(len(texts))]


def committed(name, texts):
    """A list of (slice, values) for the texts."""
    index = json.loads((GOLDEN / "reference.json").read_text())
    if index["texts_sha256"] != layout.digest(texts):
        raise SystemExit("the texts are not those that tests/golden/reference.json was made of")
    dim = index["models"][name]["dim"]
    values, at, out = array.array("f", (GOLDEN / f"{name}.f32").read_bytes()), 0, []
    for i in range(len(texts)):
        part = layout.kept(i, dim)
        n = part.stop - part.start
        out.append((part, values[at:at + n]))
        at += n
    assert at == len(values)
    made_by = index["models"][name]["made_by"]
    in_double = index["models"][name].get("in_double", [])
    return dim, made_by + (f" (in double: text {', '.join(map(str, in_double))})" if in_double else ""), out


def live(model_dir, texts):
    from make_golden import encode
    _, vectors, made_by = encode(model_dir, texts)
    dim = vectors.shape[1]
    return dim, made_by, [(slice(0, dim), row) for row in vectors]


def over_but_exact(model_dir, texts, over, ours):
    """Of texts that are too far from the reference in f32: whether double precision sides with us."""
    from make_golden import encode
    _, exact, _ = encode(model_dir, [texts[i] for i in over], double=True)
    errors = [max(abs(a - float(b)) for a, b in zip(ours[i], row)) for i, row in zip(over, exact)]
    for i, error in zip(over, errors):
        print(f"  text {i} is further than {TOLERANCE:g} from the reference in f32, and {error:.2e} from it in double")
    return max(errors) <= TOLERANCE


def same_bits(what, ours, again):
    differing = [i for i in range(len(ours)) if ours[i].tobytes() != again[i].tobytes()]
    if differing:
        print(f"  {what}: {len(differing)} of {len(ours)} vectors differ in their bits, first text {differing[0]}")
    return not differing


def compare(name, o, texts):
    model_dir = Path(o.models) / name
    dim, made_by, wanted = live(model_dir, texts) if o.live else committed(name, texts)
    with tempfile.TemporaryDirectory() as folder:
        embed = Embedder(o.pillion, model_dir, folder)
        ours = embed(texts, threads=2)
        if len(ours[0]) != dim:
            print(f"{name}: {len(ours[0])} values in a vector, the reference has {dim}")
            return False
        worst, where, n_values, over = 0.0, 0, 0, []
        for i, (part, values) in enumerate(wanted):
            mine = ours[i][part]
            n_values += len(mine)
            difference = max(abs(a - float(b)) for a, b in zip(mine, values))
            if not difference <= worst:  # a NaN is caught too
                worst, where = difference, i
            if not difference <= TOLERANCE:
                over.append(i)
        print(f"{name}: {len(texts)} texts, {n_values} values; largest difference from {made_by}: {worst:.2e}"
              f" (text {where}, {len(texts[where])} characters)", flush=True)
        good = not over or (o.live and over_but_exact(model_dir, texts, over, ours))
        backwards = embed(texts[::-1], threads=1)[::-1]
        good &= same_bits("backwards on one thread", ours, backwards)
        few = range(0, len(texts), len(texts) // ALONE)
        good &= same_bits("one by one", [ours[i] for i in few], [embed([texts[i]], threads=1)[0] for i in few])
        return good


def main():
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--live", action="store_true")
    options.add_argument("pillion")
    options.add_argument("models")
    options.add_argument("names", nargs="+")
    o = options.parse_args()
    texts = corpus.reference()
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # half of the work of each runs on one thread
        failed = [n for n, good in zip(o.names, pool.map(lambda n: compare(n, o, texts), o.names)) if not good]
    print(f"{len(o.names) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
