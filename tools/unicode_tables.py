#!/usr/bin/env python3
"""Writes src/token/unicode_tables.c: what the `tokenizers` package believes about every code point.

The reference for Pillion's tokenizers is that package, and its Rust crates carry Unicode tables of different ages. So
nothing is taken from the current Unicode database: every code point is put through the package's own normalizers and
pre-tokenizers, alone and between letters, and the tables are what was observed.

Usage: python3 -m venv V && V/bin/pip install tokenizers==0.23.3
       V/bin/python tools/unicode_tables.py src/token/unicode_tables.c      (about 15 seconds)
"""
import struct
import sys
import unicodedata

import tokenizers
from tokenizers import normalizers as N, pre_tokenizers as P

POINTS = [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]
HANGUL = range(0xAC00, 0xAC00 + 11172)

# Bits of a property word; src/token/unicode.h names the same bits.
WHITE, PUNCT, DROP, NONSPACING, MARK, WORD, NUMERIC = (1 << i for i in range(7))
GRAPHEME_SHIFT = 8
(OTHER, CR, LF, CONTROL, EXTEND, ZWJ, PREPEND, SPACING, REGIONAL, L, V, T, LV, LVT, PICTO, CONSONANT, LINKER,
 CONJUNCT_EXTEND) = range(18)


def flags_of_all():
    """[0x110000] property bits."""
    flags = [0] * 0x110000
    clean = N.BertNormalizer(clean_text=True, handle_chinese_chars=False, strip_accents=False, lowercase=False)
    strip = N.BertNormalizer(clean_text=False, handle_chinese_chars=False, strip_accents=True, lowercase=False)
    marks, nfd = N.StripAccents(), N.NFD()
    white, punct, word, digits = P.WhitespaceSplit(), P.Punctuation(), P.Whitespace(), P.Digits(individual_digits=True)
    for c in POINTS:
        s = "a" + chr(c) + "b"
        f = 0
        if len(white.pre_tokenize_str(s)) == 2:
            f |= WHITE
        if len(punct.pre_tokenize_str(s)) == 3:
            f |= PUNCT
        if clean.normalize_str(s) == "ab":
            f |= DROP
        if strip.normalize_str(s) == "ab" and nfd.normalize_str(chr(c)) == chr(c):
            f |= NONSPACING
        if marks.normalize_str(s) == "ab":
            f |= MARK
        if len(word.pre_tokenize_str(s)) == 1:
            f |= WORD
        if len(digits.pre_tokenize_str(s)) == 3:
            f |= NUMERIC
        flags[c] = f
    return flags


def mapping(normalizer, skip=()):
    """{code point: tuple of code points} where the normalizer changes a lone code point."""
    out = {}
    for c in POINTS:
        if c in skip:
            continue
        s = normalizer.normalize_str(chr(c))
        if s != chr(c):
            out[c] = tuple(map(ord, s))
    return out


def combining_classes(nfd):
    """{code point: canonical combining class}, seen by how NFD orders it against one mark of each class."""
    order = N.NFD()
    moves = lambda first, second: first != second and order.normalize_str("a" + first + second) == "a" + second + first
    low, high = "\u0334", "\u0345"  # the lowest and the highest class, 1 and 240
    probe = {1: low}
    for c in POINTS:
        k = unicodedata.combining(chr(c))
        if k > 1 and k not in probe and c not in nfd and moves(chr(c), low):  # else the package does not know it yet
            probe[k] = chr(c)
    out = {}
    for c in POINTS:
        m = chr(c)
        if c not in nfd and c not in HANGUL and (moves(m, low) or moves(high, m)):
            out[c] = max(k for k in probe if not moves(probe[k], m))
    return out


def compositions(nfd):
    """[(first, second, composed)] of every primary composite of NFC, Hangul excepted."""
    nfc, out = N.NFC(), []
    for c in nfd:
        pair = unicodedata.decomposition(chr(c)).split()
        if len(pair) == 2 and not pair[0].startswith("<"):
            a, b = (int(p, 16) for p in pair)
            if nfc.normalize_str(chr(a) + chr(b)) == chr(c):
                out.append((a, b, c))
    return sorted(out)


def charsmap():
    """A precompiled character map, in sentencepiece's layout, whose keys are all 255 single bytes but NUL, each mapped
    to "q": then the normalizer writes one q for each cluster shorter than 6 bytes and for each character of a longer
    one, and the number of q tells where the clusters end."""
    units = [0] * 512
    units[0] = 256 << 10  # the root's children are at 256 ^ byte
    for byte in range(1, 256):
        units[256 ^ byte] = ((256 ^ byte) ^ 256) << 10 | 1 << 8 | byte  # their leaves are all at 256, the value 0
    units[256] = 1 << 31
    blob = struct.pack("<512I", *units)
    return struct.pack("<I", len(blob)) + blob + b"q\0"


def grapheme_classes(flags):
    """[0x110000] cluster class, where E is a two-byte Extend, Z the zero width joiner, K and W a Devanagari consonant
    and its linker. Each string is cut differently (so gives another number of q) when c is of the class in question."""
    n = N.Precompiled(charsmap())
    count = lambda s: len(n.normalize_str(s))
    E, Z, K, W, LEAD, VOWEL, TAIL, COPY = "\u0300", "\u200d", "\u0915", "\u094d", "\u1100", "\u1161", "\u11a8", "\xa9"
    out = [OTHER] * 0x110000
    for c in POINTS:
        s = chr(c)
        size = len(s.encode())
        if s in "\r\n":
            out[c] = CR if s == "\r" else LF
        elif count("k" + s) == 1 and c:  # NUL is never found in a character map: it counts as one character
            if s == Z:
                out[c] = ZWJ
            elif count(COPY + s + Z + "\u263a" + E) == 5:
                linker, conjunct = count(K + s + K + E) == 4, count(K + W + s + K + E) == 5
                out[c] = LINKER if linker else CONJUNCT_EXTEND if conjunct else EXTEND
            else:
                out[c] = SPACING
                assert count(K + W + s + K + E) == 4, hex(c)
        elif count(s + E + E) == 2 or not c:
            out[c] = CONTROL
        elif 0x1F1E6 <= c <= 0x1F1FF:
            out[c] = REGIONAL
        elif count(s + "k" + E) == (1 if size == 2 else 3):
            out[c] = PREPEND
        elif count(COPY + Z + s + E + E) == 5:
            out[c] = PICTO
        elif size == 3 and (0x1100 <= c <= 0x11FF or 0xA960 <= c <= 0xD7FF):
            before_vowel, before_tail = count(s + VOWEL + E) == 3, count(s + TAIL + E) == 3
            after_lead, after_vowel = count(LEAD + s + E) == 3, count(VOWEL + s + E) == 3
            out[c] = {(1, 0, 1, 0): L, (1, 1, 1, 1): V, (0, 1, 0, 1): T, (1, 1, 1, 0): LV, (0, 1, 1, 0): LVT,
                      (0, 0, 0, 0): OTHER}[before_vowel, before_tail, after_lead, after_vowel]
        elif count(s + W + K + E) == 4:
            out[c] = CONSONANT
    return out


class Writer:
    """C arrays, 120 columns wide."""

    def __init__(self):
        self.text = []

    def array(self, kind, name, values, form=str):
        self.text.append("const %s pil_unicode_%s[%d] = {" % (kind, name, len(values)))
        line = "   "
        for v in values:
            item = " " + form(v) + ","
            if len(line) + len(item) > 120:
                self.text.append(line)
                line = "   "
            line += item
        self.text += [line, "};"]

    def two_stages(self, kind, name, values):
        """values[c] == blocks[index[c >> 6] << 6 | c & 63]"""
        ids, index, blocks = {}, [], []
        for i in range(0, len(values), 64):
            block = tuple(values[i:i + 64])
            if block not in ids:
                ids[block] = len(ids)
                blocks += block
            index.append(ids[block])
        assert len(blocks) // 64 <= 65536
        self.array("uint8_t" if len(ids) <= 256 else "uint16_t", name + "_index", index)
        self.array(kind, name + "_blocks", blocks)
        return "uint8_t" if len(ids) <= 256 else "uint16_t"


HEAD = """/* unicode_tables.c - what the `tokenizers` package %s believes about every code point.
 *
 * Generated by tools/unicode_tables.py; do not edit. The layout is explained in unicode.h.
 * Tests: tests/token/test_unicode.c, and all code points in tests/token/differential.py. */
#include "token/unicode.h"
"""


def main():
    assert tokenizers.__version__ == "0.23.3", "the tables are for the pinned version of the package"
    flags = flags_of_all()
    clusters = grapheme_classes(flags)
    nfd = mapping(N.NFD(), HANGUL)
    nfkd = {c: s for c, s in mapping(N.NFKD(), HANGUL).items() if nfd.get(c) != s}
    lower = mapping(N.Lowercase())
    ccc = combining_classes(nfd)

    props = [f | (0x80 if c in ccc else 0) | clusters[c] << 8 | (c in lower) << 13 | (c in nfd) << 14 |
             (c in nfd or c in nfkd) << 15 for c, f in enumerate(flags)]
    for c in range(0xD800, 0xE000):
        props[c] = props[0xD7FC]  # surrogates never reach the tables; this keeps the blocks few
    w = Writer()
    split = 0x32400  # beyond it there are only long runs
    w.two_stages("uint16_t", "props", props[:split])
    runs = [(c, props[c]) for c in range(split, 0x110000) if c == split or props[c] != props[c - 1]]
    w.array("uint32_t", "props_run_first", [c for c, _ in runs], hex)
    w.array("uint16_t", "props_run", [v for _, v in runs], hex)

    sequences, seen = [0], {}

    def offsets(m):
        top = (max(m) | 63) + 1
        out = [0] * top
        for c, cps in m.items():
            if cps not in seen:
                seen[cps] = len(sequences)
                sequences.extend([len(cps)] + [cp | ccc.get(cp, 0) << 24 for cp in cps])
            out[c] = seen[cps]
        return out

    for name, m in ("lower", lower), ("nfd", nfd), ("nfkd", nfkd):
        w.two_stages("uint16_t", name, offsets(m))
    assert len(sequences) < 65536
    w.array("uint32_t", "sequences", sequences, hex)
    w.array("uint32_t", "ccc", [c << 8 | k for c, k in sorted(ccc.items())], hex)
    w.array("pil_unicode_pair", "pairs", compositions(nfd), lambda t: "{0x%x, 0x%x, 0x%x}" % t)
    with open(sys.argv[1], "w") as f:
        f.write(HEAD % tokenizers.__version__ + "\n" + "\n".join(w.text) + "\n")


if __name__ == "__main__":
    main()
