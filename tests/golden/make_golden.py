#!/usr/bin/env python3
"""Runs sentence-transformers in f32 over the texts of texts.py and writes what the tests compare with.

    make_golden.py golden MODEL_DIR NAME      NAME.json: texts, ids and whole vectors, for tests/lib/test_golden.c
    make_golden.py reference MODEL_DIR NAME   NAME.f32 and its line in reference.json, for tests/models/compare.py
    make_golden.py double MODEL_DIR NAME TEXT...    replaces what NAME.f32 has of some texts by what double precision
                                              gives, for texts where the reference's own f32 is too far off (README.md)

Needs sentence-transformers (tools/venv.sh reference). The layout of the files is told in README.md."""
import argparse
import json
import os
from pathlib import Path

import texts as corpus
import layout

os.environ["HF_HUB_OFFLINE"] = "1"
HERE = Path(__file__).resolve().parent


def use_tokenizer_file(backend, model_dir):
    """transformers 5 replaces the normalizer and pre-tokenizer of some models (XLM-RoBERTa's tokenizer among them) by
    its own, whatever tokenizer.json says. The reference here is the file, as the tokenizers package reads it."""
    from tokenizers import Tokenizer
    as_written = Tokenizer.from_file(str(Path(model_dir) / "tokenizer.json"))
    backend.normalizer = as_written.normalizer
    backend.pre_tokenizer = as_written.pre_tokenizer


def encode(model_dir, texts, batch=32, double=False):
    """Unit vectors as sentence-transformers makes them by default, and what made them."""
    import sentence_transformers
    import torch
    torch.set_num_threads(os.cpu_count())
    model = sentence_transformers.SentenceTransformer(str(model_dir), device="cpu")
    use_tokenizer_file(model.tokenizer.backend_tokenizer, model_dir)
    if double:
        model = model.double()
    vectors = model.encode(texts, normalize_embeddings=True, batch_size=batch, convert_to_numpy=True)
    made_by = f"sentence-transformers {sentence_transformers.__version__}, torch {torch.__version__.split('+')[0]}"
    return model, vectors.astype("<f4"), made_by


def write_golden(model_dir, name):
    texts = corpus.golden()
    model, vectors, made_by = encode(model_dir, texts)
    tokenizer = model.tokenizer
    items = []
    for text, vector in zip(texts, vectors):
        cut = tokenizer(text, truncation=True, max_length=model.max_seq_length)["input_ids"]
        whole = tokenizer(text, truncation=False)["input_ids"]
        items.append({"text": text, "ids": cut, "tokens_all": len(whole), "vector": vector.tobytes().hex()})
    lines = ",\n".join(json.dumps(item) for item in items)
    path = HERE / f"{name}.json"
    head = f'{{"model": "{name}", "dim": {vectors.shape[1]}, "made_by": "{made_by}", "items": ['
    path.write_text(f"{head}\n{lines}\n]}}\n")
    print(f"{path.name}: {len(items)} texts, {path.stat().st_size} bytes")


def write_reference(model_dir, name):
    texts = corpus.reference()
    _, vectors, made_by = encode(model_dir, texts)
    path = HERE / f"{name}.f32"
    path.write_bytes(b"".join(vectors[i][layout.kept(i, vectors.shape[1])].tobytes() for i in range(len(texts))))
    index_path = HERE / "reference.json"
    index = json.loads(index_path.read_text()) if index_path.exists() else {}
    index["texts_sha256"] = layout.digest(texts)
    index["models"] = {**index.get("models", {}), name: {"dim": vectors.shape[1], "made_by": made_by}}
    index_path.write_text(json.dumps(index, indent=1, sort_keys=True) + "\n")
    print(f"{path.name}: {len(texts)} texts, {path.stat().st_size} bytes")


def replace_by_double(model_dir, name, indices):
    texts = corpus.reference()
    _, exact, _ = encode(model_dir, [texts[i] for i in indices], double=True)
    index_path, path = HERE / "reference.json", HERE / f"{name}.f32"
    index = json.loads(index_path.read_text())
    values, dim = bytearray(path.read_bytes()), index["models"][name]["dim"]
    for i, vector in zip(indices, exact):
        part = layout.kept(i, dim)
        at = 4 * sum(layout.kept(j, dim).stop - layout.kept(j, dim).start for j in range(i))
        new = vector[part].tobytes()
        values[at:at + len(new)] = new
    path.write_bytes(values)
    index["models"][name]["in_double"] = sorted(set(index["models"][name].get("in_double", []) + indices))
    index_path.write_text(json.dumps(index, indent=1, sort_keys=True) + "\n")


def main():
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("kind", choices=["golden", "reference", "double"])
    options.add_argument("model_dir")
    options.add_argument("name")
    options.add_argument("texts", type=int, nargs="*")
    o = options.parse_args()
    if o.kind == "double":
        replace_by_double(o.model_dir, o.name, o.texts)
    else:
        (write_golden if o.kind == "golden" else write_reference)(o.model_dir, o.name)


if __name__ == "__main__":
    main()
