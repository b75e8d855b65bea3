#!/usr/bin/env python3
"""Writes what the `tokenizers` package makes of fixed texts, for tests/token/test_golden.c.

    make_tokens.py MODELS      MODELS holds minilm, mpnet, e5-multilingual and xlmr-base

tokens-MODEL.jsonl   a line for each text: the text and its ids, special ones included
components.jsonl     a line for each normalizer, pre-tokenizer and way of added tokens: its part of a tokenizer.json
                     around a model of the 256 bytes (tests/token/components.py), and cases of text and ids"""
import json
import random
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "token"))
import components  # noqa: E402
import corpus  # noqa: E402
import differential  # noqa: E402
import texts  # noqa: E402

import tokenizers  # noqa: E402


def write(name, records):
    with open(HERE / name, "w", encoding="utf-8") as f:
        for record in records:
            f.write(json.dumps(record, separators=(",", ":")) + "\n")


def main():
    models = Path(sys.argv[1])
    assert tokenizers.__version__ == differential.VERSION
    rng = random.Random(8421)
    hostile = [t for t in corpus.hostile_lines() if len(t) <= 350]
    lines = texts.SENTENCES + [t for t in texts.HOSTILE if len(t) <= 1000] + hostile
    lines += list(corpus.damaged_lines(texts.SENTENCES, 60, rng)) + list(corpus.random_lines(60, rng))
    for model in differential.MODELS:
        t = differential.reference(str(models / model / "tokenizer.json"))
        write(f"tokens-{model}.jsonl", ({"text": s, "ids": t.encode(s).ids} for s in lines))
    cases = [t for t in hostile if len(t) <= 40] + list(corpus.damaged_lines(texts.SENTENCES, 8, rng))
    cases += list(corpus.random_lines(20, rng))
    records, scratch = [], HERE / "component.tmp"
    for name, spec in components.all_of_them(models / "xlmr-base" / "tokenizer.json"):
        if len(json.dumps(spec)) > 20000:  # those with the large character map: the models' files cover them
            continue
        scratch.write_text(json.dumps(spec))
        t = differential.reference(str(scratch))
        parts = {k: spec[k] for k in ("normalizer", "pre_tokenizer", "added_tokens")}
        if spec["model"]["type"] != "Unigram":
            parts["model"] = spec["model"]
        some = rng.sample(cases, 14)
        records.append({"name": name, **parts, "cases": [[s, t.encode(s).ids] for s in some]})
    scratch.unlink()
    write("components.jsonl", records)


if __name__ == "__main__":
    main()
