#!/usr/bin/env python3
"""Writes a corpus of recorded batches, of the size of the one that an embedding server once failed on: 15 batches, 133
texts, 220,369 characters of ordinary and hostile text in many languages, in every shape that `pillion replay` reads.

    make_replay_corpus.py FOLDER [SEED]      the same files for the same seed (1 unless given)"""
import json
import random
import sys
from pathlib import Path

BATCHES, TEXTS, CHARACTERS = 15, 133, 220_369
SIZES = (31, 20, 16, 12, 10, 9, 8, 7, 6, 5, 4, 2, 1, 1, 1)  # up to 32 texts, as the application sent

SENTENCES = {
    "English": ("The meeting was moved to Thursday because the auditors need two more days.",
                "Invoices above the limit go to the second approver, who has until Friday.",
                "A purely peer-to-peer ledger needs no bank, only a majority of honest machines.",
                "Progress: step 3 of 7 done. Next: check the backups. Owner: not assigned."),
    "German": ("Die Prüfung der Übertragungsbedingungen wurde auf nächsten Dienstag verschoben.",
               "Quantenmechanische Störungsrechnung für Mehrelektronensysteme, zweite Auflage.",
               "Der Schlüssel liegt beim Pförtner; bitte den Ausweis größer kopieren."),
    "Czech": ("Příliš žluťoučký kůň úpěl, a přesto, jak říkají, běžel dál, rychle, tiše, sám.",
              "Výroční zpráva, příloha č. 4, obsahuje úplný seznam dodavatelů."),
    "French": ("L'assemblée générale s'est tenue à huis clos, malgré l'opposition des élus.",
               "Où sont passées les pièces jointes ? « Elles étaient là hier », dit-il."),
    "Turkish": ("İstanbul'daki toplantı ertelendi; ışıklar söndü, kapılar kilitlendi.",),
    "Greek": ("Η συμφωνία υπογράφηκε χθες το βράδυ και ισχύει από αύριο το πρωί.",),
    "Russian": ("Договор вступает в силу после подписания обеими сторонами.",
                "Отчёт за третий квартал ещё не согласован с бухгалтерией."),
    "Hebrew": ("הפגישה נדחתה ליום חמישי, והמסמכים יישלחו מחר בבוקר.",),
    "Arabic": ("تأجل الاجتماع إلى يوم الخميس، وسترسل الوثائق صباح الغد ﷺ.",),
    "Hindi": ("बैठक गुरुवार तक के लिए स्थगित कर दी गई है और दस्तावेज़ कल भेजे जाएँगे।",),
    "Thai": ("การประชุมถูกเลื่อนไปเป็นวันพฤหัสบดีและเอกสารจะถูกส่งพรุ่งนี้เช้า",),
    "Chinese": ("会议推迟到星期四，因为审计人员还需要两天时间。", "所有超过限额的发票都必须由第二位审批人确认。"),
    "Japanese": ("会議は木曜日に延期されました。監査にあと二日かかるためです。", "請求書の控えは経理部で保管してください。"),
    "Korean": ("회의는 목요일로 연기되었고 서류는 내일 아침에 발송됩니다.",),
}


def prose(rng, n):
    sentences = SENTENCES[rng.choice(sorted(SENTENCES))]
    text = ""
    while len(text) < n:
        text += rng.choice(sentences) + rng.choice((" ", " ", "\n", "\n\n"))
    return text


def mixed(rng, n):
    """Another language in every sentence."""
    text = ""
    while len(text) < n:
        text += rng.choice(SENTENCES[rng.choice(sorted(SENTENCES))]) + " "
    return text


def repeated(*units):
    return lambda rng, n: rng.choice(units) * n


def table_of_contents(rng, n):
    lines, page = [], 1
    while sum(map(len, lines)) < n:
        page += rng.randrange(1, 9)
        lines.append(f"{len(lines) + 1}.{rng.randrange(9)} Section {'.' * rng.randrange(40, 120)} {page}\n")
    return "".join(lines)


def numbers(rng, n):
    return "".join(f"{rng.uniform(-1e6, 1e6):.4f}\t{rng.randrange(10**12)}|{rng.random():e};"
                   for _ in range(n // 20 + 1))


def code(rng, n):
    line = 'for (size_t i = 0; i < n; i++) { if (a[i] != "\\"\\\\n") return {"k": [1, {}]}; } // ${x} <b>&amp;</b>\n'
    return line * (n // len(line) + 1)


def encoded(rng, n):
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    return "".join(rng.choice(alphabet) for _ in range(n))


def blank(rng, n):
    return "".join(rng.choice((" ", "\n", "\t", "\r\n", "\u00a0", "\u3000", "\u200b")) for _ in range(n))


def random_characters(rng, n):
    """Any code points but surrogates, unassigned ones and NUL included."""
    return "".join(chr(c) for c in (rng.randrange(0x110000) for _ in range(n + 64)) if not 0xD800 <= c < 0xE000)


def controls(rng, n):
    return "".join(chr(rng.randrange(0x20)) if rng.random() < 0.3 else rng.choice("abc \x7f\u0085\ufeff\ufffd")
                   for _ in range(n))


HOSTILE = {
    "short words repeated": repeated("yes\n", "us ", "a ", "hello "),
    "no spaces at all": repeated("A", "us", "ab12", "ö"),
    "han without spaces": repeated("審計人員還需要兩天時間", "的"),
    "combining marks": lambda rng, n: "e" + "\u0301\u0323" * n,
    "emoji chains": repeated("👩\u200d👩\u200d👧\u200d👦", "🏳\ufe0f\u200d🌈", "🇩🇪🇯🇵", "👍🏽"),
    "decomposed hangul": repeated("\u1112\u1161\u11ab\u1100\u1173\u11af "),
    "ligatures": repeated("ﷺ", "ﬃ", "㎒①Ⅷ½"),
    "directions": repeated("\u202eabc\u202c \u2067שלום\u2069 "),
    "special tokens": repeated("[CLS] [SEP] [MASK] [PAD] ", "<s></s><mask><pad><unk>", "<0x0A><|endoftext|>"),
    "contents": table_of_contents,
    "numbers": numbers,
    "code": code,
    "base64": encoded,
    "blank": blank,
    "random characters": random_characters,
    "controls": controls,
    "null characters": repeated("a\0b", "\0"),
}


def lengths(rng):
    """TEXTS lengths that add up to CHARACTERS: some tiny, most like a chunk of a document, a few very long."""
    drawn = [rng.choice((1, 2, 17, 300)) if rng.random() < 0.1 else
             rng.randrange(4000, 9000) if rng.random() < 0.1 else rng.randrange(500, 2000) for _ in range(TEXTS)]
    scaled = [max(1, n * CHARACTERS // sum(drawn)) for n in drawn]
    scaled[scaled.index(max(scaled))] += CHARACTERS - sum(scaled)
    assert min(scaled) >= 1 and sum(scaled) == CHARACTERS
    return scaled


def texts(rng):
    hostile = sorted(HOSTILE)
    made = []
    for i, n in enumerate(lengths(rng)):
        make = HOSTILE[hostile[i // 3 % len(hostile)]] if i % 3 == 0 else rng.choice((prose, mixed))
        text = make(rng, n)
        while len(text) < n:
            text += make(rng, n)
        made.append(text[:n])
    rng.shuffle(made)
    return made


def shapes(batches):
    """A file name and its content for each batch, or for several: all the ways in which batches are recorded."""
    def dump(value):
        return json.dumps(value, ensure_ascii=False)

    request = {"model": "nomic-embed-text", "input": batches[2]}
    yield "01-array.json", dump(batches[0])
    yield "02-texts.json", dump({"timestamp": "2025-11-03T10:02:11Z", "error": "EOF", "texts": batches[1]})
    yield "03-request.json", dump({"error": "do embedding request: EOF", "batch": 7, "request": request})
    yield "04-inputs.json", json.dumps({"inputs": batches[3]}, indent=2)  # escaped: \u00e4, and surrogate pairs
    yield "05-batch.json", dump({"batch": [{"id": i, "text": t} for i, t in enumerate(batches[4])]})
    yield "06-chunks.json", "\ufeff" + dump({"chunks": [{"content": t, "page": 1} for t in batches[5]]})
    yield "07-08-batches.json", dump({"batches": [batches[6], {"texts": batches[7]}]})
    yield "09-10-arrays.json", dump([batches[8], batches[9]])
    yield "11-lines.jsonl", "\n".join(dump({"text": t}) for t in batches[10]) + "\n"
    yield "12-13-14-lines.jsonl", "".join(dump({"texts": b}) + "\n" for b in batches[11:14])
    yield "15-prompt.json", dump({"model": "m", "prompt": batches[14][0]})


def make(folder, seed=1):
    rng = random.Random(seed)
    left = iter(texts(rng))
    batches = [[next(left) for _ in range(n)] for n in SIZES]
    assert len(batches) == BATCHES and sum(map(len, batches)) == TEXTS
    assert sum(len(t) for b in batches for t in b) == CHARACTERS
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in shapes(batches):
        (folder / name).write_bytes(content.encode())
    return sorted(folder.iterdir()), batches


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    files, _ = make(sys.argv[1], int(sys.argv[2]) if len(sys.argv) == 3 else 1)
    print(f"{len(files)} files: {BATCHES} batches, {TEXTS} texts, {CHARACTERS:,} characters")
