#!/usr/bin/env python3
"""Writes sidecar_cases.json: what FastAPI answers to bodies of every kind, for the request models of the sidecar.

Needs: pip install fastapi==0.115.5 pydantic==2.9.2 uvicorn==0.32.0
Left out are numbers beyond 64 bits, where pillion clamps and says so in its own way; words of JSON errors are
blanked."""
from __future__ import annotations

import http.client
import json
import threading
import time
from pathlib import Path
from typing import List, Literal

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel, Field

PORT = 18421
app = FastAPI()


class Embed(BaseModel):
    texts: List[str] = Field(min_length=1)
    normalize: bool = True
    pooling: Literal["mean", "cls", "max"] = "mean"
    batch_size: int = Field(default=16, gt=0, le=128)


class EmbedFile(BaseModel):
    path: str
    chunk_size: int = Field(default=800, gt=50, le=4000)
    chunk_overlap: int = Field(default=100, ge=0, le=2000)
    max_chunks: int = Field(default=200, gt=0, le=10000)
    normalize: bool = True
    pooling: Literal["mean", "cls", "max"] = "mean"
    batch_size: int = Field(default=16, gt=0, le=128)


class Detect(BaseModel):
    path: str


class Extract(BaseModel):
    path: str
    language: str = "en-US"
    recognition_level: Literal["accurate", "fast"] = "accurate"


@app.post("/embed")
def embed(_: Embed): return {}


@app.post("/embed-file")
def embed_file(_: EmbedFile): return {}


@app.post("/ocr/detect")
def detect(_: Detect): return {}


@app.post("/ocr/extract")
def extract(_: Extract): return {}


INTS = r'''16 "16" 16.0 true false null 16.5 "x" "" " 16 " "+16" "-0" "016" "1_6" "16.0" "16.5" "1e1" "1__6" "_16" "16_"
[] {} 129 0 -1 "123456789012345678901" "１６" "16." ".5" "0x10" "\n16" 1e2 -0.0 "--1" "+-1" " " "00" "1 6" "\u00a016"
"16.00" "16.0_0" "+" "-" "0_1" "--"'''
BOOLS = '''true false 0 1 2 0.0 1.0 0.5 "yes" "NO" "On" "oFF" "t" "F" "y" "n" "maybe" "" null [] {} " true" -1 "1" "0"
"1.0" "2"'''
POOLINGS = '"mean" "cls" "max" "sum" "MEAN" 1 null [] {} true'
TEXTS = '[] ["a"] [""] "a" {} null 1 true ["a",1] [null] [["a"]] [1,2,3] [true,{}] 1.5 [1.5]'
BODIES = ["", "null", "[]", '"str"', "1", "true", "{}", '{"normalize":2,"batch_size":0,"pooling":3}',
          '{"texts":[],"batch_size":"x","normalize":null,"pooling":"x"}', "{", '{"texts":["a"]', '{"texts":["a"],}',
          '{"texts":["é"] x}', '{"texts":["a"]} x', ' {"texts":["a"]} ', '{"texts":["a\x01"]}', "[1,2",
          '{"a":1,"texts":["b"]}', '{"texts":["a"],"extra":1}', "{texts:1}"]
TYPES = [None, "text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-8", "APPLICATION/JSON",
         "application/vnd.api+json", "application/jsonx", "text/json", "application/json;", "json"]
FILES = ["{}", '{"path":1}', '{"path":"x","chunk_size":50}', '{"path":"x","chunk_size":51}',
         '{"path":"x","chunk_size":4001,"chunk_overlap":-1,"max_chunks":0,"normalize":"q","pooling":"w",'
         '"batch_size":129}',
         '{"path":"x","chunk_overlap":2001}', '{"path":null,"max_chunks":10001}']
OCR = ["{}", '{"path":[]}', '{"path":"x","language":1,"recognition_level":"slow"}',
       '{"path":"x","language":null,"recognition_level":null}']


def words(text):
    """JSON values separated by white space; strings may hold blanks."""
    decoder, at = json.JSONDecoder(), 0
    while at < len(text):
        _, end = decoder.raw_decode(text, at)
        yield text[at:end]
        at = end + len(text[end:]) - len(text[end:].lstrip())


def ask(path, body, content_type):
    c = http.client.HTTPConnection("127.0.0.1", PORT)
    c.request("POST", path, body.encode(), {"content-type": content_type} if content_type else {})
    answer = c.getresponse()
    case = {"path": path, "body": body}
    if content_type != "application/json":
        case["type"] = content_type
    case["status"] = answer.status
    value = json.loads(answer.read())
    c.close()
    if answer.status != 200:
        for error in value["detail"]:
            if error["type"] == "json_invalid":
                error["ctx"] = {"error": ""}
        case["detail"] = value["detail"]
    return case


def main():
    server = uvicorn.Server(uvicorn.Config(app, port=PORT, log_level="error"))
    threading.Thread(target=server.run, daemon=True).start()
    while not server.started:
        time.sleep(0.01)
    asked = [("/embed", '{"texts":["a"],"batch_size":%s}' % v, "application/json") for v in words(INTS)]
    asked += [("/embed", '{"texts":["a"],"normalize":%s}' % v, "application/json") for v in words(BOOLS)]
    asked += [("/embed", '{"texts":["a"],"pooling":%s}' % v, "application/json") for v in words(POOLINGS)]
    asked += [("/embed", '{"texts":%s}' % v, "application/json") for v in words(TEXTS)]
    asked += [("/embed", b, "application/json") for b in BODIES]
    asked += [("/embed", '{"texts":["a"]}', t) for t in TYPES]
    asked += [("/embed-file", b, "application/json") for b in FILES]
    asked += [(p, b, "application/json") for b in OCR for p in ("/ocr/detect", "/ocr/extract")]
    cases = [json.dumps(ask(*a), ensure_ascii=False) for a in asked]
    Path(__file__).with_name("sidecar_cases.json").write_text("[\n" + ",\n".join(cases) + "\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
