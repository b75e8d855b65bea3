#!/usr/bin/env python3
"""Writes the seeds of the targets into corpus/, but for those of the tokenizers. The same on every run; inputs that
were findings once are kept beside them by hand, under names that say what they found."""
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
put("json", "nul", b"[1\0,true\0]")
put("tokenizer_json", "nul", b' {"x":[1\0],"model":{"type":"Unigram","unk_id":0,"vocab":[["a",-1]]}}')
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

POST = "POST /embed HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
HTTP = {
    "get": "GET /health?a=b HTTP/1.1\r\nHost: localhost\r\n\r\nGET / HTTP/1.0\r\n\r\n",
    "post": POST + 'Content-Length: 15\r\n\r\n{"texts":["a"]}',
    "chunked": POST + "Transfer-Encoding: chunked\r\n\r\n"
               + '9\r\n{"texts":\r\n6;x=y\r\n["\u00e9"]\r\n1\r\n}\r\n0\r\nT: v\r\n\r\n',
    "absolute": "GET http://localhost:1/info?x HTTP/1.1\r\nHost: localhost:1\r\nExpect: 100-continue\r\n\r\n",
    "smuggled": POST + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /x HTTP/1.1\r\n\r\n",
    "upgrade": "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    "fields": 'application/json\n{"texts":["a",1],"path":2,"normalize":"maybe","pooling":"sum","batch_size":" 1_6.0 "}',
    "types": 'application/x+json; q=1\n{"texts":[],"normalize":1.0,"batch_size":-129,"pooling":null}',
    "broken": 'application/json\n{"texts":["\\u00e9",}',
    "form": "application/x-www-form-urlencoded\ntexts=a",
}
for name, text in HTTP.items():
    put("http", name, text.encode())


def frame_string(text):
    return struct.pack("<I", len(text)) + text


NONE = struct.pack("<I", 0xFFFFFFFF)


def frame_item(status=0, tokens=2, values=(), ids=(), strings=(), text=NONE, tag=0):
    head = struct.pack("<IiIIIQIII", tag, status, 0, tokens, tokens, 0, len(values), len(ids), len(strings)) + text
    head += bytes(-len(head) % 4)
    return head + struct.pack(f"<{len(values)}f{len(ids)}i", *values, *ids) + b"".join(map(frame_string, strings))


FRAMES = {
    "request": bytes([0]) + bytes([1, 0, 0, 0]) + NONE + struct.pack("<III", 2, 7, 0) + frame_string(b"hey!")
               + struct.pack("<III2i", 8, 1, 2, 101, 102),
    "request-prompt": bytes([0]) + bytes([3, 1, 2, 1]) + frame_string(b"query") + struct.pack("<III", 1, 7, 0)
                      + frame_string(b"a"),
    "reply-embed": bytes([1]) + struct.pack("<iI", 0, 1) + frame_item(values=(0.5, -1)),
    "reply-nan": bytes([1]) + struct.pack("<iI", 0, 1) + frame_item(values=(0.5, float("nan"))),
    "reply-tokens": bytes([1 + 4 * 1]) + struct.pack("<iI", 0, 1) + frame_item(values=(1, 2), ids=(3, 4)),
    "reply-tokenize": bytes([1 + 4 * 2]) + struct.pack("<iI", 0, 1) + frame_item(ids=(3, 4), strings=(b"a", b"##b")),
    "reply-decode": bytes([1 + 4 * 3]) + struct.pack("<iI", 0, 1) + frame_item(tokens=0, text=frame_string(b"text")),
    "reply-failed-items": bytes([1 + 4 * 5]) + struct.pack("<iI", 0, 2) + frame_item(-7)
                          + frame_item(values=(1, 1), tag=1),
    "reply-other-text": bytes([1]) + struct.pack("<iI", 0, 1) + frame_item(values=(0.5, -1), tag=9),
    "reply-refused": bytes([1]) + struct.pack("<iI", -2, 0),
    "ready": bytes([2]) + struct.pack("<III", 4, 384, 256) + frame_string(b"{}") + frame_string(b"full")
             + bytes(2) + struct.pack("<4f", 0.5, 0.5, -0.5, 0.5),
    "failed": bytes([3]) + struct.pack("<i", -5) + frame_string(b"not a model"),
    "header": bytes([3]) + struct.pack("<IHHQ", 16, 2, 4, 7),
}
for name, data in FRAMES.items():
    put("frame", name, data)

TEXTS = {
    "plain": (10, 3, 5, "a plain text, of several words,\n\tand lines"),
    "widths": (3, 1, 200, "a\u00e9\u20ac\U0001f426 \u07ff\u0800\uffff\U00010000\U0010ffff"),
    "spaces": (1, 30, 9, " \u00a0\u3000\u2028 a\u200b\u0085b \r\n"),
    "marks": (2, 2, 2, "e\u0301\u0323\u0301 \u1112\u1161\u11ab \u202eabc\u202c"),
    "quotes": (7, 0, 0, 'a "quoted" \\ text \x01\x7f with what must be escaped'),
    "no-size": (0, 0, 1, "a"),
    "nothing": (1, 1, 1, ""),
}
for name, (n_points, overlap, count, text) in TEXTS.items():
    put("text", name, bytes([n_points, overlap, count]) + text.encode())
put("text", "invalid", bytes([5, 1, 9]) + b"a\xc0\x80b\xed\xa0\x80c\xf4\x90\x80\x80d\xe2\x82e\xff\xf0\x9f\x90")

NETWORK = {"model_type": "bert", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
           "intermediate_size": 64, "vocab_size": 120, "max_position_embeddings": 64, "type_vocab_size": 2,
           "layer_norm_eps": 1e-12, "hidden_act": "gelu", "pad_token_id": 1, "relative_attention_num_buckets": 32}
CONFIGS = {
    "hugging-face": NETWORK,
    "no-heads": {**NETWORK, "num_attention_heads": 0},
    "strings": {**NETWORK, "hidden_size": "32", "layer_norm_eps": "1"},
    "huge": {**NETWORK, "vocab_size": 2**63, "max_position_embeddings": 1e300},
    "odd": {**NETWORK, "hidden_size": 33, "hidden_act": 7, "is_decoder": True, "pad_token_id": -1},
    "compiled": {"name": "m", "family": "bert", "hidden": 32, "layers": 2, "heads": 4, "ffn": 64, "vocab": 120,
                 "positions": 64, "types": 2, "norm_eps": 1e-12, "activation": "gelu", "position": "absolute",
                 "position_offset": 0, "relative_bias": False, "max_tokens": 48, "pooling": ["mean"],
                 "pool_prompt": True, "dense": [{"in": 32, "out": 8, "bias": True, "activation": "tanh"}],
                 "normalize": True, "prompts": [{"name": "query", "text": "query: "}], "default_prompt": 0},
}
for name, value in CONFIGS.items():
    put("config", name, json.dumps(value).encode())

OPTIONS = {
    "file": "# a comment\ntext = a value\nnumber=12\n\nchoice = two\nlist = a, b,c\nflag = yes\nother=off\n",
    "arguments": "\0-n\0004999\0--list=a\0-lb\0-fo\0one\0--\0--two\0",
    "both": "number = 5\nnumber = 6\n\0-n7\0--choice\0three\0",
    "wrong-number": "number = 99999999999999999999\n\0",
    "wrong-names": "nosuch = 1\nconfig = other\n = \n\0--nosuch\0",
    "no-value": "text\n\0-n\0",
    "long": "text = " + "x" * 3000 + "\n\0-t" + "y" * 500 + "\0",
    "help": "\0-h\0",
}
for name, text in OPTIONS.items():
    put("options", name, text.encode())

RECORDED = {
    "array": '["a","b",""]',
    "wrapped": '{"batch":7,"request":{"model":"m","input":["a",{"text":"b"},{"content":"c"}]}}',
    "batches": '{"batches":[["a"],{"texts":["b","c"]},"d"]}',
    "lines": '{"text":"a"}\n"b"\n\n["c"]\r\n{"inputs":["d"]}',
    "mixed": '["a",["b"],"c",1]',
    "cut": '["a"]\n["b"',
    "mark": '\ufeff{"chunks":["a"]}',
    "nothing": '[[],{}]',
}
for name, text in RECORDED.items():
    put("recorded", name, text.encode())
