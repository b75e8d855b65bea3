#!/usr/bin/env python3
"""Writes the seeds of the targets json, safetensors and compiled into corpus/. The same on every run; inputs that were
findings once are kept beside them by hand, under names that say what they found."""
import json
import struct
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"


def put(target, name, data):
    path = CORPUS / target / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def safetensors(header, data=b"", pad=0):
    text = (header if isinstance(header, str) else json.dumps(header, separators=(",", ":"))).encode() + b" " * pad
    return struct.pack("<Q", len(text)) + text + data


def tensor(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


JSON = {
    "values": '{"n":null,"t":true,"f":false,"i":-7,"r":2.5e-3,"s":"x\\u00e9\\ud83d\\udc26\\n\\u0000",'
              '"a":[1,[2,{}]],"":""}',
    "numbers": "[0,-0,1e308,-1.5E-9,9223372036854775807,-9223372036854775808,1000000000000000019884624838656]",
    "text": '"a text by itself: caf\u00e9"',
    "duplicate": '{"a":1,"b":{"a":2,"a":3}}',
    "surrogate": '["\\ud800","\\udc00\\ud800"]',
    "deep": "[" * 33 + "]" * 33,
    "unfinished": '{"a":[1,2,{"b":"c',
}
for name, text in JSON.items():
    put("json", name, text.encode())
put("json", "invalid-utf8", b'["\xc3\xa9 \xff \xed\xa0\x80"]')

SAFETENSORS = {
    "empty": safetensors("{}"),
    "types": safetensors(
        {"__metadata__": {"format": "pt", "k": "v"}, "a": tensor("F32", [2, 2], 0, 16), "b": tensor("F16", [3], 16, 22),
         "c": tensor("BF16", [1, 1], 22, 24), "d": tensor("F64", [], 24, 32), "e": tensor("I64", [1], 32, 40),
         "f": tensor("U8", [0], 40, 40), "g": tensor("F8_E4M3", [4], 40, 44), "h": tensor("F4", [2], 44, 45)},
        bytes(range(45)), pad=3),
    "order": safetensors({"z": tensor("U8", [4], 4, 8), "a": tensor("BOOL", [4], 0, 4)}, b"abcdefgh"),
    "hole": safetensors({"a": tensor("U8", [4], 0, 4), "b": tensor("U8", [4], 5, 9)}, bytes(9)),
    "overlap": safetensors({"a": tensor("U8", [4], 0, 4), "b": tensor("U8", [4], 2, 6)}, bytes(6)),
    "overflow": safetensors({"a": tensor("F32", [2**62, 4], 0, 0)}),
    "negative": safetensors({"a": tensor("F32", [-1], 0, 4)}, bytes(4)),
    "beyond": safetensors({"a": tensor("F32", [2], 0, 8)}, bytes(4)),
    "huge-header": struct.pack("<Q", 2**63) + b"{}",
    "duplicate": safetensors('{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},'
                             '"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}', bytes(2)),
}
for name, data in SAFETENSORS.items():
    put("safetensors", name, data)


def changes(mode, *pairs):
    return bytes([mode]) + b"".join(struct.pack("<HB", place, value) for place, value in pairs)


HEADER = 4096  # of the good file; its tokenizer follows in the count of places
COMPILED = {
    "good": changes(3),
    "unsigned": changes(1, (40, 0x20)),
    "header-length": changes(3, (0, 0xFF), (7, 0x80)),
    "format": changes(3, (42, ord("9"))),
    "raw": b"\x02" + safetensors({"__metadata__": {"pillion.format": "1"}, "tokenizer": tensor("U8", [64], 0, 64)},
                                 bytes(64)),
}
for place in range(100, 900, 23):  # the configuration
    COMPILED[f"config-{place}"] = changes(3, (place, ord("7")))
for place in range(0, 2900, 101):  # the tokenizer's tables
    COMPILED[f"tables-{place}"] = changes(3, (HEADER + place, 0x7F))
for name, data in COMPILED.items():
    put("compiled", name, data)
