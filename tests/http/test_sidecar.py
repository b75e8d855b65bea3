"""The sidecar's protocol, case by case: answers, validation errors as FastAPI gives them, routing, vectors."""
import gzip
import json
import random
import struct
import subprocess
import sys
import unittest
from pathlib import Path

from raw import BIN, SLOW, Case, cosine, environment, main

CASES = json.loads(Path(__file__).with_name("sidecar_cases.json").read_text(encoding="utf-8"))
HERE_DIFFERENT = {"json_invalid"}  # the words are our own; type, place and status are not


class Validation(Case):
    def blank_words(self, detail):
        for error in detail:
            if error["type"] in HERE_DIFFERENT:
                self.assertGreater(len(error["ctx"]["error"]), 3)
                error["ctx"]["error"] = ""
            if error["type"] == "model_attributes_type" and "ctx" in error:  # of another type: FastAPI does not say so
                self.assertIn("content-type", error.pop("ctx")["error"])
        return detail

    def test_every_body_gets_the_answer_that_fastapi_gives(self):
        for case in CASES:
            with self.subTest(case=case):
                headers = {"Content-Type": case.get("type", "application/json")}
                if headers["Content-Type"] is None:
                    headers = {}
                answer = self.server.call("POST", case["path"], case["body"], headers)
                if case["status"] == 200:  # files are off in this server: 403 means that the body was right
                    self.assertEqual(answer.status, 200 if case["path"] == "/embed" else 403, answer)
                    continue
                self.assertEqual(answer.status, case["status"], answer)
                self.assertEqual(answer.headers["content-type"], "application/json")
                self.assertEqual(self.blank_words(answer.json()["detail"]), case["detail"])
                self.assertNotIn(b": ", answer.body.replace(b"error\":\"", b""), "separators are compact")

    def test_json_errors_are_where_python_finds_them(self):
        if sys.version_info >= (3, 13):
            self.skipTest("this Python reports trailing commas elsewhere")
        rng = random.Random(3)
        good = '{"texts":["aé","\\u00e9\\n"],"x":[1,-2.5e3,true,null,{"y":{}}],"normalize":false} '
        checked = 0
        with self.server.connect() as c:
            for _ in range(1500):
                at, text = rng.randrange(len(good)), good
                if rng.random() < 0.5:
                    text = text[:at] + rng.choice('{}[],:"\\ 0-.eE+tn\x01é') + text[at + rng.randrange(2):]
                else:
                    text = text[:at] + text[at + 1 + rng.randrange(3):]
                try:
                    json.loads(text, parse_constant=int)
                    continue
                except json.JSONDecodeError as e:
                    place = e.pos
                    if "Unterminated" in e.msg or "escape" in e.msg:
                        continue  # the beginning of a string or an escape, by other rules
                c.request("POST", "/embed", text, {"Content-Type": "application/json"})
                error = c.answer().json()["detail"][0]
                self.assertEqual((error["type"], error["loc"]), ("json_invalid", ["body", place]), text)
                checked += 1
        self.assertGreater(checked, 500)

    def test_what_python_would_let_pass_is_refused(self):
        for body in ('{"texts":["a"],"texts":["b"]}', '{"texts":["\\ud800"]}', '{"texts":["\\udc00\\ud800"]}',
                     '{"texts":["a"],"x":NaN}', '{"texts":["a"],"x":1e999}', '\ufeff{"texts":["a"]}',
                     '{"texts":["a"],"x":' + "[" * 40 + "]" * 40 + "}", "[" * 100000, '{"a":' * 100000):
            answer = self.server.post("/embed", body)
            self.assertEqual(answer.status, 422)
            self.assertEqual(answer.json()["detail"][0]["type"], "json_invalid")

    def test_invalid_utf8_is_told_with_its_place(self):
        for junk in (b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"\xe9", b"\xff"):
            answer = self.server.post("/embed", '{"texts":["é '.encode() + junk + b'"]}')
            self.assertEqual(answer.status, 422)
            self.assertEqual(answer.json()["detail"][0]["loc"], ["body", 13])
            answer.body.decode("utf-8")

    def test_errors_echo_only_a_little(self):
        for body in ({"texts": "x" * 100000}, {"texts": [["y" * 100000]]}, {"z" * 100000: 1},
                     {"texts": ["a"], "pooling": "é" * 9999}):
            answer = self.server.post("/embed", body)
            self.assertEqual(answer.status, 422)
            self.assertLess(len(answer.body), 1000)
            self.assertTrue(answer.json()["detail"][0]["input"].endswith("..."))
        answer = self.server.call("POST", "/embed", b"\xff" * 1000, {"Content-Type": "text/plain"})
        self.assertEqual(answer.json()["detail"][0]["input"], "")

    def test_too_many_texts_are_refused_as_a_whole(self):
        self.assert_detail(self.server.post("/embed", {"texts": ["a"] * 4097}), 413,
                           "4097 texts: one request may have 4096 at most")
        self.assert_detail(self.server.post("/embed", {"texts": [1] * 5000}), 413,
                           "5000 texts: one request may have 4096 at most")

    def test_a_text_beyond_its_limit_is_named(self):
        answer = self.server.post("/embed", {"texts": ["a", "b" * (4 << 20), "c" * ((4 << 20) + 1)]})
        self.assert_detail(answer, 413, f"texts[2] has {(4 << 20) + 1} bytes: one text may have {4 << 20} at most")


class Routing(Case):
    def test_unknown_paths_and_methods(self):
        for method, path, status, extra in (
                ("GET", "/x", 404, None), ("POST", "/x", 404, None), ("HEAD", "/x", 404, None),
                ("GET", "/x/", 404, None),
                ("GET", "//health", 404, None), ("GET", "/ocr", 404, None), ("GET", "/healthy", 404, None),
                ("GET", "/" + "a" * 200, 404, None), ("GET", "/health%00", 404, None), ("OPTIONS", "*", 404, None),
                ("POST", "/health", 405, "GET"), ("HEAD", "/info", 405, "GET"), ("OPTIONS", "/health", 405, "GET"),
                ("GET", "/embed", 405, "POST"), ("PUT", "/ocr/detect", 405, "POST"),
                ("DELETE", "/shutdown", 405, "GET")):
            with self.subTest(method=method, path=path):
                answer = self.server.call(method, path)
                self.assertEqual(answer.status, status)
                self.assertEqual(answer.headers.get("allow"), extra)
                self.assertEqual(answer.headers["content-type"], "application/json")
                text = b'{"detail":"Not Found"}' if status == 404 else b'{"detail":"Method Not Allowed"}'
                self.assertEqual(answer.headers["content-length"], str(len(text)))
                self.assertEqual(answer.body, b"" if method == "HEAD" else text)

    def test_slashes_at_the_end_are_redirected(self):
        for path, to in (("/health/", "/health"), ("/health//", "/health"), ("/health/?a=b", "/health?a=b"),
                         ("/embed/", "/embed"), ("/ocr/detect/", "/ocr/detect")):
            answer = self.server.get(path, host="127.0.0.1:8421")
            self.assertEqual((answer.status, answer.headers["location"], answer.body),
                             (307, "http://127.0.0.1:8421" + to, b""))

    def test_queries_and_escapes_do_not_matter(self):
        self.assertEqual(self.server.get("/health?x=1").status, 200)
        self.assertEqual(self.server.get("/%68ealth").status, 200)

    def test_the_root_answers_as_ollama_does(self):
        answer = self.server.get("/")
        self.assertEqual((answer.status, answer.body), (200, b"Ollama is running"))
        self.assertEqual(answer.headers["content-type"], "text/plain; charset=utf-8")
        head = self.server.call("HEAD", "/")
        self.assertEqual((head.status, head.headers["content-length"], head.body), (200, "17", b""))

    def test_probes(self):
        self.assertEqual(self.server.get("/livez").json(), {"status": "alive"})
        self.assertEqual(self.server.get("/readyz").json(), {"status": "ready"})
        for path in ("/livez", "/readyz", "/health"):
            head = self.server.call("HEAD", path)
            self.assertEqual((head.status, head.headers["content-type"], head.body), (200, "application/json", b""))

    def test_a_compressed_body_is_refused_by_its_name(self):
        body = gzip.compress(b'{"texts":["a"]}')
        for coding, size, status in (("gzip", len(body), 415), ("GZIP", 1 << 20, 415), ("identity", None, 200)):
            answer = self.server.call("POST", "/embed", body.ljust(size, b"\0") if size else '{"texts":["a"]}',
                                      {"Content-Type": "application/json", "Content-Encoding": coding})
            self.assertEqual((answer.status, answer.headers.get("accept-encoding")),
                             (status, "identity" if status == 415 else None))
            if status == 415:
                self.assertIn("Content-Encoding", answer.json()["detail"])


class Answers(Case):
    def test_health(self):
        answer = self.server.get("/health")
        self.assertEqual(answer.headers["content-type"], "application/json")
        health = answer.json()
        self.assertEqual({k: health[k] for k in ("status", "model_loaded", "model_loading", "dim", "device")},
                         {"status": "ok", "model_loaded": True, "model_loading": False, "dim": 384, "device": "cpu"})
        self.assertTrue(self.server.wait(lambda: (h := self.server.get("/health").json())["workers"] ==
                                         h["workers_ready"], 30 * SLOW))

    def test_info(self):
        info = self.server.get("/info").json()
        self.assertEqual((info["model_id"], info["dim"], info["device"]),
                         ("sentence-transformers/all-MiniLM-L6-v2", 384, "cpu"))
        version = subprocess.run([BIN, "--version"], capture_output=True, check=True).stdout.decode().split()[1]
        self.assertEqual(info["version"], version)

    def test_vectors_are_those_of_the_command_line_to_the_last_bit(self):
        texts = ["hello", "", "Grüße aus Köln", "日本語のテキスト", "a\u0000b", "x " * 1000, "emoji 👩‍👩‍👧 \u202e rtl", " \t\n"]
        lines = "".join(json.dumps({"text": t}) + "\n" for t in texts).encode()
        for normalize in (True, False):
            args = ["embed", "--input-format", "jsonl", "--format", "f32", "-o", "-"]
            r = subprocess.run([BIN, *args, *([] if normalize else ["--no-normalize"])], input=lines,
                               capture_output=True,
                               env=environment(), check=True)
            wanted = struct.unpack(f"<{384 * len(texts)}f", r.stdout)
            vectors = self.server.embed(texts, normalize=normalize)
            self.assertEqual(len(vectors), len(texts))
            got = struct.unpack(f"<{384 * len(texts)}f", struct.pack(f"<{384 * len(texts)}f", *sum(vectors, [])))
            self.assertEqual(got, wanted)
            self.assertTrue(all(isinstance(v, float) for row in vectors for v in row))

    def test_texts_that_were_cut_are_counted_in_a_header(self):
        long = "word " * 400
        for texts, cut in ((["short"], None), ([long], "1"), ([long, "short", long] + ["t"] * 300, "2")):
            answer = self.server.post("/embed", {"texts": texts})
            self.assertEqual((answer.status, answer.headers.get("x-pillion-truncated")), (200, cut))
            self.assertEqual(list(answer.json()), ["vectors"])

    def test_hints_change_nothing(self):
        plain = self.server.embed(["one text", "another"])
        for fields in ({"pooling": "cls"}, {"pooling": "max"}, {"batch_size": 1}, {"batch_size": "128"},
                       {"normalize": "yes"},
                       {"unknown": {"deep": [1]}}):
            self.assertEqual(self.server.embed(["one text", "another"], **fields), plain)

    def test_order_and_company_do_not_matter(self):
        words = [f"word {i} " + "and so on " * (i % 40) for i in range(300)]
        together = self.server.embed(words)
        for i in (0, 1, 7, 150, 299):
            self.assertEqual(self.server.embed([words[i]])[0], together[i])
        self.assertEqual(self.server.embed(words[::-1]), together[::-1])

    def test_meaning_is_kept(self):
        a, b, c = self.server.embed(
            ["A cat sits on the mat.", "A kitten is sitting on a rug.", "The stock market fell."])
        self.assertGreater(cosine(a, b), cosine(a, c) + 0.3)
        self.assertAlmostEqual(sum(x * x for x in a), 1, places=5)

    def test_the_largest_request(self):
        vectors = self.server.embed([f"t{i}" for i in range(4096)])
        self.assertEqual(len(vectors), 4096)
        self.assertEqual(vectors[4095], self.server.embed(["t4095"])[0])

    def test_files_are_off(self):
        off = "Reading files is off: start pillion with --files-root FOLDER, or set EMBED_FILE_ROOTS"
        for path in ("/embed-file", "/ocr/detect", "/ocr/extract"):
            for name in ("/etc/passwd", "/nonexistent", "x"):
                self.assert_detail(self.server.post(path, {"path": name}), 403, off)


if __name__ == "__main__":
    main()
