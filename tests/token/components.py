"""Small tokenizers whose ids spell out what a normalizer or pre-tokenizer did: a Unigram model that knows nothing but
the 256 bytes, so that ids are the bytes of the normalized text; behind a pre-tokenizer, a Metaspace marks where pieces
start."""
import base64
import itertools
import json
import struct

# Components whose behaviour comes out of a Unicode table: these see every code point.
WITH_TABLES = tuple(f"normalizer {n}" for n in (
    "NFD", "NFC", "NFKD", "NFKC", "Lowercase", "StripAccents", "Nmt", "Precompiled", "Precompiled, every byte",
    "BertNormalizer clean=True chinese=False strip=False lower=False",
    "BertNormalizer clean=False chinese=True strip=False lower=False",
    "BertNormalizer clean=False chinese=False strip=True lower=False",
    "BertNormalizer clean=False chinese=False strip=False lower=True")) + tuple(f"pre-tokenizer {n}" for n in (
    "BertPreTokenizer", "WhitespaceSplit", "Whitespace", "Punctuation Isolated", "Digits alone"))

BERT = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None,
        "lowercase": True}
META = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": False}


def spec(normalizer=None, pretokenizer=None, added=(), model=None, decoder=None, processor=None):
    vocab = [["<unk>", 0.0]] + [["<0x%02X>" % b, -1.0] for b in range(256)]
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": list(added),
            "normalizer": normalizer, "pre_tokenizer": pretokenizer, "post_processor": processor, "decoder": decoder,
            "model": model or {"type": "Unigram", "unk_id": 0, "vocab": vocab, "byte_fallback": True}}


def sequence(*steps, of="normalizers"):
    return {"type": "Sequence", of: list(steps)}


def added(content, **options):
    token = {"id": 0, "content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": True,
             "special": False}
    return {**token, **options}


def every_byte_map():
    """A character map that maps every byte but NUL to "q", which counts clusters (see tools/unicode_tables.py)."""
    units = [0] * 512
    units[0] = 256 << 10
    for byte in range(1, 256):
        units[256 ^ byte] = byte << 10 | 1 << 8 | byte
    units[256] = 1 << 31
    blob = struct.pack("<512I", *units)
    return base64.b64encode(struct.pack("<I", len(blob)) + blob + b"q\0").decode()


def normalizers(charsmap):
    both = (True, False)
    for clean, chinese, strip, lower in itertools.product(both, both, (None, *both), both):
        yield (f"BertNormalizer clean={clean} chinese={chinese} strip={strip} lower={lower}",
               {**BERT, "clean_text": clean, "handle_chinese_chars": chinese, "strip_accents": strip,
                "lowercase": lower})
    for name in ("NFD", "NFC", "NFKD", "NFKC", "Lowercase", "StripAccents", "Nmt"):
        yield name, {"type": name}
    for left, right in ((True, False), (False, True), (True, True)):
        yield f"Strip {left} {right}", {"type": "Strip", "strip_left": left, "strip_right": right}
    yield "Precompiled", {"type": "Precompiled", "precompiled_charsmap": charsmap}
    yield "Precompiled, every byte", {"type": "Precompiled", "precompiled_charsmap": every_byte_map()}
    yield "Replace a string", {"type": "Replace", "pattern": {"String": "a"}, "content": "\u2581\u00e9"}
    yield "Replace two characters", {"type": "Replace", "pattern": {"String": "ab"}, "content": ""}
    yield "Replace spaces", {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}
    yield "Prepend", {"type": "Prepend", "prepend": "\u2581x"}
    yield "Sequence", sequence({"type": "NFKD"}, {"type": "StripAccents"}, {"type": "Lowercase"}, {"type": "NFC"},
                               {"type": "Strip", "strip_left": True, "strip_right": True})


def pretokenizers():
    for name in ("BertPreTokenizer", "WhitespaceSplit", "Whitespace"):
        yield name, {"type": name}
    for behavior in ("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"):
        yield f"Punctuation {behavior}", {"type": "Punctuation", "behavior": behavior}
    yield "Digits alone", {"type": "Digits", "individual_digits": True}
    yield "Digits together", {"type": "Digits", "individual_digits": False}


def metaspaces():
    for scheme, split, white in itertools.product(("always", "first", "never"), (True, False), (True, False)):
        meta = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": scheme, "split": split}
        pretokenizer = sequence({"type": "WhitespaceSplit"}, meta, of="pretokenizers") if white else meta
        yield f"{scheme} split={split} {'behind WhitespaceSplit' if white else 'alone'}", pretokenizer


def words_model(xlmr):
    """The first 8,000 tokens of XLM-RoBERTa: real pieces, and many unknowns."""
    return {**xlmr["model"], "vocab": xlmr["model"]["vocab"][:8000]}


def all_of_them(xlmr_path):
    """(name, tokenizer.json as a dictionary)"""
    with open(xlmr_path, encoding="utf-8") as f:
        xlmr = json.load(f)
    charsmap = xlmr["normalizer"]["precompiled_charsmap"]
    for name, normalizer in normalizers(charsmap):
        yield f"normalizer {name}", spec(normalizer)
    for name, pretokenizer in pretokenizers():
        yield f"pre-tokenizer {name}", spec(None, sequence(pretokenizer, META, of="pretokenizers"))
    precompiled = {"type": "Precompiled", "precompiled_charsmap": charsmap}
    replaced = sequence({"type": "Strip", "strip_left": True, "strip_right": False}, precompiled,
                        {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "\u2581"},
                        {"type": "Replace", "pattern": {"String": "ab"}, "content": "z"})
    tokens = [added("x"), added("<s>", special=True, normalized=False), added("B", single_word=True),
              added(" lstrip", lstrip=True), added("rs", rstrip=True), added("\u00c9", normalized=True)]
    for name, pretokenizer in metaspaces():
        yield f"Metaspace {name}", spec(None, pretokenizer)
        yield f"Metaspace {name}, after normalizers", spec(replaced, pretokenizer, tokens)
        yield f"Metaspace {name}, words", spec(precompiled, pretokenizer, model=words_model(xlmr))
    lower = BERT
    yield "Metaspace first behind NFKD", spec(sequence({"type": "NFKD"}, {"type": "StripAccents"}),
                                              {**META, "prepend_scheme": "first"}, tokens)
    yield "Metaspace first behind Prepend", spec({"type": "Prepend", "prepend": "ab "}, sequence(
        {"type": "WhitespaceSplit"}, {**META, "prepend_scheme": "first"}, of="pretokenizers"), tokens)
    for flags in itertools.product((True, False), repeat=4):
        options = dict(zip(("single_word", "lstrip", "rstrip", "normalized"), flags))
        contents = ("a", "ab", " ", "b x", "\u0301", "[SEP]", "\u4e2d", "A", "\u00e9", "  ")
        listed = [added(s, **options) for s in contents]
        kept = []
        for token in listed:  # the reference refuses two tokens that normalize to the same
            same = {"A": "a", "\u0301": "", "\u00e9": "e"}.get(token["content"]) if options["normalized"] else None
            kept += [] if same is not None else [token]
        yield f"added tokens {' '.join(k for k, v in options.items() if v)}", spec(lower, None, kept)
    yield "WordPiece with Whitespace", spec(
        {"type": "NFKC"}, {"type": "Whitespace"}, [added("ing", single_word=True)],
        {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "", "max_input_chars_per_word": 5,
         "vocab": {t: i for i, t in enumerate(["[UNK]", *map(chr, range(33, 0x250)), "ab", "the", "ing"])}})


def decoders():
    """(name, tokenizer.json) with tokens that give every decoder something to do."""
    tokens = ["<unk>", "\u2581the", "##ing", "\u2581", "a", " b", "do not", ".", "?", "n't", "'s", "hh", "", "don",
              "\u2581\u2581x\u2581", " do not ", " ' ", "<0xE4>", "<0xB8>", "<0xAD>", "<0x41>", "<0xzz>", "<0x+1>", "h",
              "\u00e9", "hhh\u2581h"]
    model = {"type": "Unigram", "unk_id": 0, "vocab": [[t, -1.0] for t in tokens], "byte_fallback": False}
    replace = {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}
    kinds = {
        "none": None,
        "WordPiece with clean-up": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "WordPiece": {"type": "WordPiece", "prefix": "##", "cleanup": False},
        "Metaspace always": META,
        "Metaspace first": {**META, "prepend_scheme": "first"},
        "Metaspace never": {**META, "prepend_scheme": "never"},
        "ByteFallback": {"type": "ByteFallback"},
        "Fuse": {"type": "Fuse"},
        "Replace": replace,
        "Llama's": sequence(replace, {"type": "ByteFallback"}, {"type": "Fuse"},
                            {"type": "Strip", "content": " ", "start": 1, "stop": 0}, of="decoders"),
        "Strip": {"type": "Strip", "content": "h", "start": 2, "stop": 0},
    }
    for name, decoder in kinds.items():
        yield name, spec(None, None, [added("\u2581Z", normalized=True, special=True)], model, decoder)
