#!/usr/bin/env python3
"""Writes NANO, a small random model with a real tokenizer, as a Hugging Face directory: the vectors mean nothing, but
every byte of text takes the way that it takes in a real model, a thousand times faster.

    nano.py FOLDER [wordpiece|unigram] [--tokens L]

2 layers of 64 values, 4 heads, L positions (512 by default). The tokenizer is that of a fetched model where there is
one ($PILLION_MODELS, default .models: minilm for WordPiece, e5-multilingual or xlmr-base for Unigram), else a small one
of letters and a few words. Only Python's standard library is used."""
import argparse
import json
import os
import random
import struct
from array import array
from pathlib import Path

HIDDEN, LAYERS, HEADS, FFN = 64, 2, 4, 128
MODELS = Path(os.environ.get("PILLION_MODELS", Path(__file__).resolve().parents[2] / ".models"))
REAL = {"wordpiece": ("minilm",), "unigram": ("e5-multilingual", "xlmr-base")}
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
MARKS = "!#$%&()*+,-./:;<=>?@[]^_`{|}~'"
WORDS = "the of and to in a is that for it as was with be by on not he his but at are this have from or had an".split()


# ── Tokenizers ──────────────────────────────────────────────────────────────────────────────────────────────

def template(begin, end, ids):
    def special(token, kind):
        return {"SpecialToken": {"id": token, "type_id": kind}}

    single = [special(begin, 0), {"Sequence": {"id": "A", "type_id": 0}}, special(end, 0)]
    pair = [*single, {"Sequence": {"id": "B", "type_id": 1}}, special(end, 1)]
    known = {t: {"id": t, "ids": [i], "tokens": [t]} for t, i in zip((begin, end), ids)}
    return {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": known}


def added(tokens):
    return [{"id": i, "content": t, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
             "special": True} for i, t in enumerate(tokens)]


def small_wordpiece():
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = specials + list(LETTERS) + ["##" + c for c in LETTERS] + list(MARKS) + [w for w in WORDS if len(w) > 1]
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added(specials),
            "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                           "strip_accents": None, "lowercase": True},
            "pre_tokenizer": {"type": "BertPreTokenizer"}, "post_processor": template("[CLS]", "[SEP]", (2, 3)),
            "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
            "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                      "max_input_chars_per_word": 100, "vocab": {p: i for i, p in enumerate(pieces)}}}


def small_unigram():
    specials = ["<s>", "<pad>", "</s>", "<unk>"]
    vocab = [[p, 0.0] for p in specials] + [["▁", -2.5]]
    vocab += [[c, -6.0 - i / 64] for i, c in enumerate(LETTERS + MARKS + "ABCDEFGHIJKLMNOPQRSTUVWXYZäöüß中文字")]
    vocab += [["▁" + w, -4.0 - i / 16] for i, w in enumerate(WORDS)]
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added(specials),
            "normalizer": {"type": "NFKC"},
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, metaspace]},
            "post_processor": template("<s>", "</s>", (0, 2)), "decoder": metaspace,
            "model": {"type": "Unigram", "unk_id": 3, "vocab": vocab, "byte_fallback": False}}


def tokenizer(kind):
    """(JSON text, size of the vocabulary, where it is from)"""
    for name in REAL[kind]:
        path = MODELS / name / "tokenizer.json"
        if path.exists():
            text = path.read_text(encoding="utf-8")
            found = json.loads(text)
            return text, 1 + max([len(found["model"]["vocab"]) - 1, *(t["id"] for t in found["added_tokens"])]), name
    made = small_wordpiece() if kind == "wordpiece" else small_unigram()
    return json.dumps(made, ensure_ascii=False), len(made["model"]["vocab"]), "letters"


# ── Weights ─────────────────────────────────────────────────────────────────────────────────────────────────

def shapes(vocab, positions, types):
    """Names of BERT's checkpoints. What ends in LayerNorm.weight is near 1, everything else near 0."""
    found = {"embeddings.word_embeddings.weight": (vocab, HIDDEN),
             "embeddings.position_embeddings.weight": (positions, HIDDEN),
             "embeddings.token_type_embeddings.weight": (types, HIDDEN)}

    def norm(name):
        found[name + ".weight"] = found[name + ".bias"] = (HIDDEN,)

    def linear(name, rows, columns):
        found[name + ".weight"] = (rows, columns)
        found[name + ".bias"] = (rows,)

    norm("embeddings.LayerNorm")
    for i in range(LAYERS):
        layer = f"encoder.layer.{i}."
        for name in ("query", "key", "value"):
            linear(f"{layer}attention.self.{name}", HIDDEN, HIDDEN)
        linear(layer + "attention.output.dense", HIDDEN, HIDDEN)
        norm(layer + "attention.output.LayerNorm")
        linear(layer + "intermediate.dense", FFN, HIDDEN)
        linear(layer + "output.dense", HIDDEN, FFN)
        norm(layer + "output.LayerNorm")
    linear("pooler.dense", HIDDEN, HIDDEN)
    return found


class Source:
    """Values between -1/4 and 1/4 (or near 1), from one block of random numbers that is read round and round: its
    length is prime, so the rows of a large table differ, and a quarter of a million of them take no time."""

    def __init__(self, seed, n=262147):
        k = random.Random(seed)
        self.block = array("f", (k.randrange(-128, 129) / 512 for _ in range(n)))
        self.at = 0

    def take(self, n, near_one):
        if near_one:
            return array("f", (1 + v / 2 for v in self.take(n, False)))
        out = self.block[self.at:self.at + n]
        while len(out) < n:
            out.extend(self.block[:n - len(out)])
        self.at = (self.at + n) % len(self.block)
        return out


def safetensors(path, tensors, seed):
    header, offset, source = {}, 0, Source(seed)
    for name, shape in tensors.items():
        n = shape[0] * (shape[1] if len(shape) > 1 else 1)
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [offset, offset + 4 * n]}
        offset += 4 * n
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for name, shape in tensors.items():
            n = shape[0] * (shape[1] if len(shape) > 1 else 1)
            source.take(n, name.endswith("LayerNorm.weight")).tofile(f)


def write(folder, kind="wordpiece", tokens=512, seed=1):
    """Writes the model and gives where its tokenizer is from."""
    folder = Path(folder)
    (folder / "1_Pooling").mkdir(parents=True)
    is_bert = kind == "wordpiece"
    text, vocab, origin = tokenizer(kind)
    positions, types = (tokens, 2) if is_bert else (tokens + 2, 1)
    files = {
        "config.json": {"model_type": "bert" if is_bert else "xlm-roberta", "hidden_size": HIDDEN,
                        "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "intermediate_size": FFN,
                        "max_position_embeddings": positions, "type_vocab_size": types, "vocab_size": vocab,
                        "layer_norm_eps": 1e-12, "hidden_act": "gelu", "pad_token_id": 0 if is_bert else 1,
                        "position_embedding_type": "absolute"},
        "tokenizer_config.json": {"tokenizer_class": "BertTokenizer" if is_bert else "XLMRobertaTokenizer",
                                  "model_max_length": tokens},
        "sentence_bert_config.json": {"max_seq_length": tokens, "do_lower_case": False},
        "1_Pooling/config.json": {"word_embedding_dimension": HIDDEN, "pooling_mode_mean_tokens": True},
        "modules.json": [{"idx": i, "name": str(i), "path": p, "type": f"sentence_transformers.models.{t}"}
                         for i, (p, t) in enumerate((("", "Transformer"), ("1_Pooling", "Pooling"),
                                                     ("2_Normalize", "Normalize")))],
    }
    for name, value in files.items():
        (folder / name).write_text(json.dumps(value))
    (folder / "tokenizer.json").write_text(text, encoding="utf-8")
    safetensors(folder / "model.safetensors", shapes(vocab, positions, types), seed)
    return origin


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder")
    parser.add_argument("kind", nargs="?", choices=REAL, default="wordpiece")
    parser.add_argument("--tokens", type=int, default=512)
    options = parser.parse_args()
    print("tokenizer:", write(options.folder, options.kind, options.tokens))
