"""Hostile bodies and hostile HTTP, byte by byte: rows I5, I6, I9, I10, H1, H3 to H9, H11, H13 and H16 of the plan,
against the listener without workers (fake_server.c). What the tokenizer makes of a text is tested in tests/faults."""
import json
import re
import socket
import time
import unittest
from pathlib import Path

from raw import FakeCase, SLOW, Server, main

JSON = {"Content-Type": "application/json"}
POSTED = "POST /embed HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
CHUNKED = POSTED + "Transfer-Encoding: chunked\r\n\r\n"
GOOD = '{"texts":["a"]}'
NEXT = "GET /info HTTP/1.1\r\nHost: localhost\r\n\r\n"  # what may hide behind a broken request


def peak_kib(pid):
    return int(re.search(r"^VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(), re.M)[1])


class Bodies(FakeCase):
    def errors(self, body, status=422):
        """What is wrong with it; the answer is always JSON in valid UTF-8 and short."""
        answer = self.server.post("/embed", body)
        self.assertEqual(answer.status, status, answer)
        self.assertLess(len(answer.body), 4000)
        return json.loads(answer.body.decode("utf-8", "strict"))["detail"]

    def assert_json_invalid(self, body, offset=None):
        error, = self.errors(body)
        self.assertEqual((error["type"], error["loc"][0]), ("json_invalid", "body"))
        if offset is not None:
            self.assertEqual(error["loc"], ["body", offset], body[:80])

    def test_h1_nesting_is_refused_at_33_levels_however_deep(self):
        for opening, closing in (("[", "]"), ('{"a":', "}")):
            def nested(depth, o=opening, c=closing):
                return '{"texts":["a"],"x":' + o * (depth - 1) + "1" + c * (depth - 1) + "}"

            self.assertEqual(self.server.post("/embed", nested(32)).status, 200)
            self.assert_json_invalid(nested(33), 19 + 31 * len(opening))
            self.assert_json_invalid(opening * 100000)
        self.assert_json_invalid('"' + "[" * 100000)  # within a string it is no nesting, and this one does not end

    def test_h1_ten_million_brackets_cost_no_more_than_their_bytes(self):
        with Server.fake() as s:
            s.post("/embed", GOOD)
            before = peak_kib(s.process.pid)
            answer = s.post("/embed", "[" * 10_000_000)
            self.assertEqual((answer.status, answer.json()["detail"][0]["loc"]), (422, ["body", 32]))
            self.assertLess(peak_kib(s.process.pid) - before, 24 << 10 if SLOW == 1 else 1 << 20)

    def test_h3_what_is_no_string_is_named_with_its_index_and_nothing_is_dropped(self):
        for wrong in (1, -1, 0.5, True, None, {}, [], ["a"], {"text": "a"}, [1, 2], 2 ** 31, 30522):
            for at in range(3):
                texts = ["ok", "fine", "good"]
                texts[at] = wrong
                error, = self.errors({"texts": texts})
                self.assertEqual((error["type"], error["loc"], error["input"]),
                                 ("string_type", ["body", "texts", at], wrong))
        self.assertEqual(len(self.errors({"texts": [1, "a", 2, "b", None]})), 3)
        for wrong in (1, "a", {}, True, {"0": "a"}):
            error, = self.errors({"texts": wrong})
            self.assertEqual((error["type"], error["loc"]), ("list_type", ["body", "texts"]))

    def test_h4_duplicate_keys_are_refused_wherever_they_are(self):
        for body in ('{"texts":["a"],"texts":["b"]}', '{"texts":["a"],"model":1,"model":1}',
                     '{"texts":["a"],"x":{"y":{"z":1,"z":2}}}', '{"texts":["a"],"x":1,"\\u0078":2}',
                     '{"texts":["a"],"":1,"":2}', '{"texts":["a"],"a\\u0000b":1,"a\\u0000b":2}'):
            self.assert_json_invalid(body)

    def test_h4_large_and_strange_values(self):
        for body in ('{"texts":["a"],"' + "k" * (1 << 20) + '":1}', '{"texts":["a"],"x":-0}',
                     '{"texts":["a"],"x":-0.0}',
                     '{"texts":["a"],"x":1e-999999}', '{"texts":["a"],"x":' + "9" * 5000 + "}",
                     ' {"texts":["a"]}\r\n\t '):
            answer = self.server.post("/embed", body)
            self.assertIn(answer.status, (200, 422), body[:60])
        for body in ('{"texts":["a"],"x":1e999999}', GOOD + "x", GOOD + GOOD, GOOD + "\0", GOOD + ",", "\x0b" + GOOD,
                     '{"texts":["a"],}', "{'texts':['a']}", '{"texts":["a"],"x":01}', '{"texts":["a"],"x":+1}',
                     '{"texts":["a"],"x":.5}', '{"texts":["a"],"x":1.}', '{"texts":["a"],"x":NaN}',
                     '{"texts":["a"],"x":Infinity}', '{"texts":["a\n"]}', '{"texts":["\\x41"]}', '{"texts":["a"]//}',
                     "{", "}", "[", '"', "tru", "nul", "-"):
            self.assert_json_invalid(body)

    def test_h4_a_million_keys_are_refused_before_they_cost_anything(self):
        with Server.fake() as s:
            body = '{"texts":["a"],' + ",".join(f'"{i}":0' for i in range(1_000_000)) + "}"
            before = peak_kib(s.process.pid)
            answer = s.post("/embed", body)
            self.assertEqual(answer.status, 413)
            self.assertLess(peak_kib(s.process.pid) - before, 4 * len(body) >> 10 if SLOW == 1 else 1 << 20)

    def test_h5_exactly_the_limit_of_texts_and_one_more(self):
        self.assertEqual(len(self.server.post("/embed", {"texts": ["t"] * 4096}).json()["vectors"]), 4096)
        for n in (4097, 6000, 60000, 100_000):
            answer = self.server.post("/embed", {"texts": ["t"] * n})
            self.assertEqual((answer.status, list(answer.json())), (413, ["detail"]))
        answer = self.server.post("/embed", '{"texts":[' + ",".join(['""'] * 1_000_000) + "]}")
        self.assertEqual(answer.status, 413)

    def test_i5_i6_empty_things_follow_one_rule(self):
        for texts in ([""], [" "], ["\t\r\n"], ["\u00a0"], ["\u200b\u3000"], ["\n" * 100_000], [" " * 1_000_000],
                      ["", ""]):
            self.assertEqual(self.server.post("/embed", {"texts": texts}).status, 200)
        for body, kind in (('{"texts":[]}', "too_short"), ('{"texts":null}', "list_type"), ("{}", "missing"),
                           ('{"texts":""}', "list_type"), ('{"input":["a"]}', "missing"), ("null", "missing"),
                           ("", "missing"), ("[]", "model_attributes_type"), ('""', "model_attributes_type")):
            error, = self.errors(body)
            self.assertEqual(error["type"], kind, body)

    def test_i9_invalid_utf8_is_refused_with_its_offset(self):
        bad = {"overlong": b"\xc0\x80", "overlong 3": b"\xe0\x80\x80", "surrogate": b"\xed\xa0\x80",
               "pair in cesu": b"\xed\xa0\xbd\xed\xb8\x80", "too large": b"\xf4\x90\x80\x80",
               "five bytes": b"\xf8\x88\x80\x80\x80",
               "latin-1": "é".encode("latin-1"), "gbk": "你好".encode("gbk"), "continuation": b"\x80", "ff": b"\xff",
               "cut": b"\xe2\x82", "cut 4": b"\xf0\x9f\x91", "utf-16": "a".encode("utf-16")}
        for name, junk in bad.items():
            for before in ("", "é", "日本"):
                body = b'{"texts":["' + before.encode() + junk + b'"]}'
                with self.subTest(name):
                    self.assert_json_invalid(body, 11 + len(before))

    def test_i9_a_body_that_is_no_utf8_at_all(self):
        for body in (GOOD.encode("utf-16"), GOOD.encode("utf-16-le"), GOOD.encode("utf-32"), b"\xff" * 100):
            self.assert_json_invalid(body)

    def test_i10_lone_surrogates_and_bom_are_refused_nul_and_pairs_are_kept(self):
        for text in ("\\ud800", "\\udc00", "\\udc00\\ud800", "\\ud800a", "\\ud800\\u0041", "\\ud800\\ud800",
                     "a\\uDBFF"):
            self.assert_json_invalid('{"texts":["' + text + '"]}')
            self.assert_json_invalid('{"texts":["a"],"' + text + '":1}')
        self.assert_json_invalid("\ufeff" + GOOD, 0)
        for text, size in (("\\u0000", 1), ("a\\u0000b", 3), ("\\ud83d\\ude00", 4), ("\\u00e9", 2), ("\ufeff", 3),
                           ("\\uffff", 3)):
            vector, = self.server.post("/embed", '{"texts":["' + text + '"]}').json()["vectors"]
            self.assertEqual(vector[0], size, text)

    def test_errors_echo_at_most_256_bytes_without_control_characters(self):
        long = "x" * 100_000
        for body in ({"texts": long}, {"texts": [{long: long}]}, {"texts": ["a"], "normalize": long},
                     {"texts": ["a"], "pooling": "\u001b[2J\r\n" + long}, {"texts": ["a"], "batch_size": long},
                     {"texts": ["a"], "batch_size": "\u202e\u0000"}, {"y" * 100_000: 1}):
            answer = self.server.post("/embed", body)
            self.assertEqual(answer.status, 422)
            self.assertFalse([b for b in answer.body if b < 0x20])
            self.assertLess(len(answer.body), 256 * 6 + 400)


class Framing(FakeCase):
    def first_and_then(self, data, status, goes_on=False):
        """Sends bytes with a request behind them; the second one must not be seen unless the connection goes on."""
        with self.server.connect() as c:
            c.send((data if isinstance(data, bytes) else data.encode("latin-1")) + NEXT.encode())
            answer = c.answer()
            self.assertEqual(answer.status, status, data[:200])
            if goes_on:
                self.assertEqual(c.answer().status, 200)
            else:
                self.assertEqual(answer.headers["connection"], "close")
                self.assertTrue(c.is_closed(), data[:200])

    def test_h6_bodies_against_their_declared_length(self):
        for declared in (10 ** 13, (32 << 20) + 1, 2 ** 63 - 1):
            self.first_and_then(f"{POSTED}Content-Length: {declared}\r\n\r\n", 413)
        self.first_and_then(f"{POSTED}Content-Length: {2 ** 64}\r\n\r\n", 400)
        with self.server.connect() as c:  # too short a length: the rest is a broken request
            c.send(f"{POSTED}Content-Length: {len(GOOD) - 1}\r\n\r\n{GOOD}\r\n\r\n")
            self.assertEqual((c.answer().status, c.answer().status, c.is_closed()), (422, 400, True))

    def test_h6_a_refused_length_costs_no_memory(self):
        with Server.fake() as s:
            s.post("/embed", GOOD)
            before = peak_kib(s.process.pid)
            for _ in range(20):
                with s.connect() as c:
                    c.send(f"{POSTED}Content-Length: {10 ** 13}\r\n\r\n" + "x" * 10000)
                    self.assertEqual(c.answer().status, 413)
            self.assertLess(peak_kib(s.process.pid) - before, 1024 if SLOW == 1 else 1 << 16)

    def test_h7_chunked_bodies(self):
        body = GOOD.encode()
        good = {"single bytes": b"".join(b"1\r\n%c\r\n" % b for b in body) + b"0\r\n\r\n",
                "upper case": b"F\r\n" + body + b"\r\n0\r\n\r\n", "zeros": b"000f\r\n" + body + b"\r\n000\r\n\r\n",
                "extension": b"f;a=b;c=\"d\"\r\n" + body + b"\r\n0;x\r\n\r\n",
                "trailers": b"f\r\n" + body + b"\r\n0\r\nA: b\r\nHost: evil.example\r\n\r\n"}
        for name, chunks in good.items():
            with self.subTest(name):
                self.first_and_then(CHUNKED.encode() + chunks, 200, goes_on=True)
        bad = {"size too large": b"FFFFFFFFFFFFFFFF1\r\n", "no size": b"\r\n", "sign": b"-1\r\n", "plus": b"+f\r\n",
               "hex prefix": b"0xf\r\n", "blank before": b" f\r\n", "no hex": b"g\r\n",
               "no end of chunk": b"f\r\n" + body + b"0\r\n\r\n", "bare LF": b"f\n" + body + b"\r\n0\r\n\r\n",
               "bare LF after chunk": b"f\r\n" + body + b"\n0\r\n\r\n", "long extension": b"f;" + b"x" * (1 << 20),
               "NUL in extension": b"f;\0\r\n", "bare CR": b"f\r" + body,
               "length in a trailer": b"f\r\n" + body + b"\r\n0\r\nContent-Length: 5\r\n\r\n"}
        for name, chunks in bad.items():
            with self.subTest(name), self.server.connect() as c:
                try:
                    c.send(CHUNKED.encode() + chunks + NEXT.encode() * 3)
                except OSError:
                    pass  # refused while it was being sent
                answer = c.answer()
                self.assertEqual((answer.status, answer.headers["connection"]), (400, "close"))
                self.assertTrue(c.is_closed())
        self.first_and_then(CHUNKED + "0\r\n" + "A: b\r\n" * 1000 + "\r\n", 431)

    def test_h8_what_smuggling_is_made_of_is_refused_and_nothing_behind_it_is_seen(self):
        tail = "\r\n\r\n0\r\n\r\n"
        for lines in ("Content-Length: 4\r\nTransfer-Encoding: chunked",
                      "Transfer-Encoding: chunked\r\nContent-Length: 4",
                      "Content-Length: 5\r\nContent-Length: 5", "Content-Length: 0\r\nContent-Length: 5",
                      "Content-Length: +5", "Content-Length: 0x5", "Content-Length: 5, 5", "Content-Length: -1",
                      "Content-Length: 5 5", "Content-Length: 1e1", "Content-Length:", "Content-Length: 5;",
                      "Transfer-Encoding:\r\n chunked", "Transfer-Encoding: chunked, identity",
                      "Transfer-Encoding: identity, chunked", "Transfer-Encoding: xchunked",
                      "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "Transfer-Encoding: \x0bchunked",
                      "Transfer-Encoding : chunked", "Content-Length : 5", "Transfer-Encoding: chunked\x00",
                      "Transfer\x00Encoding: chunked", "A: b\rC: d", "A: b\nContent-Length: 5", "A\x01: b", ": b", "A",
                      " A: b", "A: b\r\n\tc: d"):
            self.first_and_then(POSTED + lines + tail, 400)
        for line in ("POST /embed\x00 HTTP/1.1", "POST /em bed HTTP/1.1", "POST embed HTTP/1.1",
                     "\x00POST /embed HTTP/1.1",
                     "POST /embed HTTP/1.1\nA: b", "POST /embed HTTP/1.1\rA: b", "POST\t/embed HTTP/1.1", "POST /embed"
                     "\tHTTP/1.1"):
            self.first_and_then(line + "\r\nHost: localhost\r\n\r\n", 400)

    def test_h9_expect_100_continue(self):
        with self.server.connect() as c:
            c.send(f"{POSTED}Expect: 100-continue\r\nContent-Length: {len(GOOD)}\r\n\r\n")
            self.assertEqual(c.answer().status, 100)
            c.send(GOOD)
            self.assertEqual(c.answer().status, 200)
        for lines, status in ((f"Content-Length: {10 ** 13}", 413), ("Content-Length: 2\r\nOrigin: null", 403)):
            with self.server.connect() as c:
                c.send(f"{POSTED}Expect: 100-continue\r\n{lines}\r\n\r\n")
                answer = c.answer()
                self.assertEqual((answer.status, answer.headers["connection"], c.is_closed()), (status, "close", True))
        for expectation in ("200-ok", "100-continue, x", "", "nothing"):
            self.first_and_then(f"{POSTED}Expect: {expectation}\r\nContent-Length: 2\r\n\r\n{{}}", 417)

    def test_h11_other_versions_and_other_protocols(self):
        with self.server.connect() as c:
            c.send("GET /livez HTTP/1.0\r\n\r\n")
            self.assertEqual((c.answer().headers["connection"], c.is_closed()), ("close", True))
        with self.server.connect() as c:
            for _ in range(3):
                c.send("GET /livez HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n")
                self.assertEqual(c.answer().headers["connection"], "keep-alive")
        hello = bytes.fromhex("1603010200010001fc0303") + bytes(range(256))
        for data, status in ((b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505), (hello, 400),
                             (b"get /livez HTTP/1.1\r\n\r\n", 400),
                             (b"GET /livez HTTP/3.7\r\n\r\n", 505), (b"GET /livez HTTP/0.9\r\n\r\n", 505),
                             (b"GET /livez\r\n\r\n", 505), (b"GET /livez http/1.1\r\n\r\n", 400),
                             (b"SSH-2.0-OpenSSH_9.2\r\n", 400), (b"\x05\x01\x00", 400), (b"*1\r\n$4\r\nPING\r\n", 400),
                             (b"BREW /livez HTTP/1.1\r\n\r\n", 400), (b"HTTP/1.1 200 OK\r\n\r\n", 400)):
            self.first_and_then(data, status)

    def test_h16_control_characters_reach_neither_headers_nor_logs(self):
        with Server.fake() as s:
            for path in ("/a\rb", "/a\nb", "/a\0b", "/\x1b[31m", "/\x7f", "/%0d%0aX:1/", "/health/?%0d%0aX:1"):
                for lines in ("", "X-Request-Id: a\r\x1b[2J", "X-Request-Id: a\0"):
                    with s.connect() as c:
                        extra = lines + "\r\n" if lines else ""
                        c.send(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{extra}\r\n".encode("latin-1"))
                        answer = c.answer()
                        self.assertIn(answer.status, (400, 404, 307))
                        self.assertNotIn("x", answer.headers)
            for model in ("a\nlevel=error msg=forged", "\x1b]0;x\x07"):
                s.post("/embed", {"texts": ["a"], "model": model})
            s.stop()
            self.assertEqual(len(s.stderr().splitlines()), 1, s.stderr())


class Leaving(FakeCase):
    def test_h13_a_client_that_leaves_frees_its_place_by_fin_and_by_reset(self):
        for reset in (False, True):
            clients = [self.server.connect() for _ in range(50)]
            for c in clients:
                c.request("POST", "/embed", json.dumps({"texts": ["wait:60000", "x" * 200_000]}), JSON)
            busy = Server.wait(lambda: self.load()["in_flight_bytes"] > 8 << 20, 20 * SLOW)
            self.assertTrue(busy)
            for c in clients:
                if reset:
                    c.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                c.close()
            start = time.monotonic()
            self.assertTrue(Server.wait(lambda: self.load()["connections"] == 1, 20 * SLOW))
            self.assertLess(self.load()["in_flight_bytes"], 1 << 20)
            self.assertLess(time.monotonic() - start, 20 * SLOW)

    def load(self):
        return self.server.get("/health").json()

    def test_h13_and_in_the_middle_of_a_body(self):
        for _ in range(50):
            with self.server.connect() as c:
                c.send(f"{POSTED}Content-Length: 1000000\r\n\r\n" + "x" * 100_000)
        self.assertTrue(Server.wait(lambda: self.load()["connections"] == 1, 20 * SLOW))
        self.assertLess(self.load()["in_flight_bytes"], 1 << 20)


if __name__ == "__main__":
    main(needs_model=False)
