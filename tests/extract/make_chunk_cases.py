#!/usr/bin/env python3
"""Writes tests/data/extract/chunk_cases.json: what Python itself makes of bytes, white space and slices.

The reference is the sidecar protocol: bytes.decode("utf-8", errors="ignore"), " ".join(text.split()), then slices of
`size` code points, each beginning `overlap` before the end of the last but at least one further on. Run it again with
any Python 3 and the file must not change."""
import json
import os
import random
import sys


def chunk(s, size, overlap, max_chunks):
    chunks, start, n = [], 0, len(s)
    while start < n:
        end = min(start + size, n)
        chunks.append(s[start:end])
        if end == n:
            break
        start = max(end - overlap, start + 1)
    return chunks[:max_chunks]


spaces = [cp for cp in range(0x110000) if chr(cp).isspace()]
assert all(not chr(cp).split() for cp in spaces)

texts = {
    "empty": b"",
    "one space": b" ",
    "only white space": "".join(map(chr, spaces)).encode(),
    "one letter": b"a",
    "words": b"  one\ttwo\r\n\r\nthree\x0bfour\x0cfive\x1csix\x1fseven\x85eight  ",
    "every white space between letters": "x".join(map(chr, spaces)).encode(),
    "not white space": "a\u200bb\u2060c\ufeffd\u180ee\u00adf\x00g\x7fh\x1bi".encode(),
    "byte order mark": "\ufeffstart".encode(),
    "four byte letters": "\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467 \U00010348\U0010ffff".encode(),
    "combining marks": "e\u0301 n\u0303 o\u0308\u0304 \u0928\u092e\u0938\u094d\u0924\u0947".encode(),
    "languages": "Grüße aus Köln — 你好，世界 — Привет мир — مرحبا بالعالم — こんにちは　世界".encode(),
    "overlong": b"a\xc0\x80b\xc1\xbfc\xe0\x80\x80d\xe0\x9f\xbfe\xf0\x80\x80\x80f\xf0\x8f\xbf\xbfg",
    "surrogates": b"a\xed\xa0\x80b\xed\xbf\xbfc\xed\xa0\x81\xed\xb0\x80d\xed\x9f\xbfe\xee\x80\x80f",
    "beyond the last": b"a\xf4\x90\x80\x80b\xf5\x80\x80\x80c\xff\xfed\xf8\x88\x80\x80\x80e\xf4\x8f\xbf\xbff",
    "cut sequences": b"a\xc3 b\xe2\x82 c\xe2 d\xf0\x9f\x98 e\xf0\x9f f\xf0 g\x80\xbf h\xe2\x82\xac",
    "cut at the end, two": b"abc\xc3",
    "cut at the end, three": b"abc\xe2\x82",
    "cut at the end, four": b"abc\xf0\x9f\x98",
    "white space made by dropping": b"a \xff b\xff\xffc \xc3\n\xa9 d\xe2\x80\x80e\xe2\x80",
    "latin-1": "Grüße, déjà vu, señor\xa0X".encode("latin-1"),
    "only garbage": bytes(range(0x80, 0x100)),
    "utf-16": "wide text".encode("utf-16"),
    "numbers": " ".join(str(i) for i in range(60)).encode(),
}
rng = random.Random(20240131)
alphabet = [b" ", b"\n", b"a", b"Zz", "é".encode(), "中".encode(), "😀".encode(), b"\xff", b"\xe2\x82", b"\xf0\x9f",
            "\u00a0".encode(), "\u3000".encode(), b"\x00", b"\x80", b"\xed\xa0\x80"]
for i in range(24):
    texts["random %d" % i] = b"".join(rng.choice(alphabet) for _ in range(rng.randrange(1, 120)))

cuts = [(1, 0, 10000), (1, 1, 10000), (2, 1, 10000), (3, 1, 7), (5, 5, 10000), (5, 4, 10000), (7, 2000, 9),
        (51, 0, 10000),
        (51, 51, 12), (51, 100, 1), (800, 100, 200), (4000, 2000, 1)]

cases = []
for name, raw in texts.items():
    squashed = " ".join(raw.decode("utf-8", errors="ignore").split())
    split = []
    for size, overlap, max_chunks in cuts:
        chunks = chunk(squashed, size, overlap, max_chunks)
        # A chunk is written as [first code point, code points]: short, and the text is here once.
        spans, start = [], 0
        for c in chunks:
            assert squashed[start:start + len(c)] == c
            spans.append([start, len(c)])
            start = max(start + len(c) - overlap, start + 1)
        split.append({"size": size, "overlap": overlap, "max_chunks": max_chunks, "chunks": spans})
    cases.append({"name": name, "hex": raw.hex(), "squashed": squashed, "split": split})

path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "data", "extract", "chunk_cases.json")
os.makedirs(os.path.dirname(path), exist_ok=True)
with open(path, "w", encoding="ascii") as f:
    f.write('{"spaces":%s,"cases":[\n' % json.dumps(spaces, separators=(",", ":")))
    f.write(",\n".join(json.dumps(c, separators=(",", ":")) for c in cases))
    f.write("\n]}\n")
print("%d cases, %d kinds of white space" % (len(cases), len(spaces)), file=sys.stderr)
