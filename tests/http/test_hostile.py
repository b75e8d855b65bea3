"""What must not work: requests that are none, requests that hide others, web pages, floods, and clients that dawdle."""
import json
import re
import socket
import time
import unittest
from pathlib import Path

from raw import Case, Server, SLOW, main

JSON = {"Content-Type": "application/json"}
BODY = '{"texts":["a"]}'
POSTED = "POST /embed HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = POSTED + "Transfer-Encoding: chunked\r\n\r\n"


class NotHttp(Case):
    bad = {
        "both lengths": POSTED + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "two lengths": POSTED + "Content-Length: 0\r\nContent-Length: 44\r\n\r\n",
        "length list": POSTED + "Content-Length: 0, 0\r\n\r\n",
        "signed length": POSTED + "Content-Length: +0\r\n\r\n",
        "bare LF": "GET /health HTTP/1.1\nHost: localhost\n\n",
        "bare LF later": "GET /health HTTP/1.1\r\nHost: localhost\r\nA: b\n\r\n",
        "blank before colon": "GET /health HTTP/1.1\r\nHost : localhost\r\n\r\n",
        "folded": "GET /health HTTP/1.1\r\nHost: localhost\r\nA: b\r\n c\r\n\r\n",
        "NUL": "GET /health HTTP/1.1\r\nHost: localhost\r\nA: \0\r\n\r\n",
        "coding list": POSTED + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "coding in 1.0": "POST /embed HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "chunk size": CHUNKED + "FFFFFFFFFFFFFFFF1\r\n",
        "no host": "GET /health HTTP/1.1\r\n\r\n",
        "empty host": "GET /health HTTP/1.1\r\nHost:\r\n\r\n",
        "two hosts": "GET /health HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
        "other host": "GET http://localhost/health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        "lower case": "get /health HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "garbage": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 and so on\r\n\r\n",
    }

    def test_broken_requests_are_answered_and_nothing_behind_them_is_seen(self):
        for name, text in self.bad.items():
            with self.subTest(name=name), self.server.connect() as c:
                start = time.monotonic()
                c.send(text.encode("latin-1") + b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
                answer = c.answer()
                self.assertEqual(answer.status, 400, name)
                self.assertLess(time.monotonic() - start, 0.5 * SLOW)
                if "host" in name:  # well-formed, but not for us: the connection may go on
                    self.assertEqual(answer.headers["content-type"], "application/json")
                    continue
                self.assertEqual(answer.headers["connection"], "close")
                self.assertTrue(c.is_closed())

    def test_other_versions(self):
        for text in ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "GET /health HTTP/2.0\r\nHost: localhost\r\n\r\n",
                     "GET /health\r\n\r\n"):
            with self.server.connect() as c:
                c.send(text)
                self.assertEqual((c.answer().status, c.is_closed()), (505, True))

    def test_everything_too_large(self):
        for text, status in (("GET /" + "a" * 9000 + " HTTP/1.1\r\n\r\n", 414),
                             ("GET / HTTP/1.1\r\nA: " + "b" * 20000 + "\r\n\r\n", 431),
                             ("GET / HTTP/1.1\r\n" + "A: b\r\n" * 101 + "\r\n", 431),
                             (POSTED + "Content-Length: 10000000000000\r\n\r\n", 413),
                             ("POST /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 65537\r\n\r\n", 405),
                             ("GET /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 65537\r\n\r\n", 413),
                             (CHUNKED + "1;" + "x" * 9000, 400)):
            with self.server.connect() as c:
                c.send(text)
                answer = c.answer()
                self.assertEqual((answer.status, answer.headers["connection"]), (status, "close"))
                self.assertTrue(c.is_closed())

    def test_an_endless_body_is_cut_off_and_the_refusal_arrives(self):
        with self.server.connect() as c:
            c.send(CHUNKED)
            chunk = b"100000\r\n" + b"x" * (1 << 20) + b"\r\n"
            try:
                for _ in range(64):
                    c.send(chunk)
            except OSError:
                pass
            self.assertEqual(c.answer().status, 413)

    def test_control_characters_reach_neither_headers_nor_logs(self):
        with Server("--log-level", "debug") as s:
            for target in ("/health/?a=%0d%0aEvil:%20x", "/x\x7f", "/%0d%0aEvil:x/", "/\x1b[31m"):
                with s.connect() as c:
                    c.send(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode("latin-1"))
                    self.assertNotIn("evil", c.answer().headers)
            for text in ("a\nlevel=error msg=forged", "\x1b[2J"):
                s.post("/embed", json.dumps({"texts": [text], "pooling": text}))
            s.stop()
            lines = s.stderr().splitlines()
            self.assertTrue(lines[0].startswith("pillion "))
            self.assertEqual(sum(line.startswith("try: curl ") for line in lines), 1)
            for line in (line for line in lines[1:] if not line.startswith("try: curl ")):
                self.assertRegex(line, r'^ts=\S+ level=(debug|info) role="server" pid=\d+ msg=')
                self.assertNotIn("forged", line)


class WebPages(Case):
    args = ("--allow-host", "pillion.internal")

    def test_only_known_hosts_are_served(self):
        port = self.server.address[1]
        for host in ("localhost", "LOCALHOST", "127.0.0.1", f"127.0.0.1:{port}", "localhost:1", "localhost:",
                     "pillion.internal",
                     "Pillion.Internal:80"):
            for method, path in (("GET", "/health"), ("POST", "/embed")):
                answer = self.server.call(method, path, BODY if method == "POST" else None, JSON, host=host)
                self.assertEqual(answer.status, 200, host)
        for host in ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "evil-localhost",
                     "localhost.", "0.0.0.0",
                     "[::1]", "127.0.0.2", "127.1", "2130706433", "x.internal", "pillion.internal.", "localhost:x",
                     "local host", "localhost:80:80", "[localhost", "user@localhost", "localhost:123456"):
            for method, path in (("GET", "/health"), ("GET", "/"), ("GET", "/nowhere"), ("GET", "/shutdown"),
                                 ("POST", "/embed"), ("OPTIONS", "/embed"), ("HEAD", "/")):
                answer = self.server.call(method, path, BODY if method == "POST" else None, JSON, host=host)
                self.assertEqual(answer.status, 403, (host, method, path))

    def test_pages_of_other_sites_are_refused(self):
        bad = ({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Origin": "http://localhost.evil.example"},
               {"Origin": "https://127.0.0.1"}, {"Origin": "http://127.0.0.1:1"}, {"Origin": "file://"},
               {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": ""},
               {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"})
        for headers in bad:
            for method, path in (("POST", "/embed"), ("OPTIONS", "/embed"), ("GET", "/health"), ("GET", "/info")):
                answer = self.server.call(method, path, BODY if method == "POST" else None, {**JSON, **headers})
                self.assertEqual(answer.status, 403, (headers, method))
                self.assertFalse([h for h in answer.headers if h.startswith("access-control")])
        for headers in ({"Origin": "http://127.0.0.1"}, {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}):
            answer = self.server.call("POST", "/embed", BODY, {**JSON, **headers})
            self.assertEqual(answer.status, 200, headers)
            self.assertFalse([h for h in answer.headers if h.startswith("access-control")])

    def test_a_page_cannot_end_the_server(self):
        for headers in ({"Origin": "http://127.0.0.1"}, {"Referer": "http://127.0.0.1/"}, {"Sec-Fetch-Site": "none"},
                        {"Sec-Fetch-Site": "same-origin"}):
            self.assertEqual(self.server.call("GET", "/shutdown", None, headers).status, 403)
        for method in ("POST", "HEAD", "OPTIONS"):
            self.assertEqual(self.server.call(method, "/shutdown").status, 405)
        self.assertEqual(self.server.get("/livez").status, 200)


class Wildcard(unittest.TestCase):
    def test_the_address_that_was_connected_to_is_a_known_host(self):
        with Server(listen=("--host", "0.0.0.0", "--port", "0", "--without-token")) as s:
            self.assertIn("other machines can reach this server", s.stderr())
            port = s.address[1]
            for address in ("127.0.0.1", "127.0.0.2"):
                s.address = (address, port)
                self.assertEqual(s.get("/health", host=address).status, 200)
                self.assertEqual(s.get("/health", host="127.0.0.3").status, 403)
                self.assertEqual(s.get("/health", host="evil.example").status, 403)

    def test_a_unix_socket_takes_every_host(self):
        path = f"/tmp/pillion-test-{time.monotonic_ns()}.sock"
        with Server(listen=("--listen", f"unix:{path}")) as s:
            self.assertEqual(Path(path).stat().st_mode & 0o777, 0o600)
            self.assertEqual(s.get("/health", host="anything").status, 200)
            self.assertIn(f"--unix-socket {path} http://localhost/embed", s.stderr())
            s.stop()
        self.assertFalse(Path(path).exists())

    def test_a_dead_socket_file_is_replaced_and_a_living_one_is_not(self):
        path = f"/tmp/pillion-test-{time.monotonic_ns()}.sock"
        dead = socket.socket(socket.AF_UNIX)
        dead.bind(path)
        dead.close()
        with Server(listen=("--listen", f"unix:{path}")) as s:
            with Server(listen=("--listen", f"unix:{path}"), ready=False) as second:
                self.assertEqual(second.process.wait(10 * SLOW), 98)
            self.assertEqual(s.get("/livez").status, 200)


class Dawdling(unittest.TestCase):
    def test_slow_clients_are_cut_off_and_others_are_served(self):
        """Headers that take more than 10 seconds, bodies slower than 1 kB/s; meanwhile everybody else is served."""
        with Server() as s:
            slow = [s.connect() for _ in range(60)]
            for i, c in enumerate(slow):
                if i % 3 == 0:
                    c.send("GET /health HTTP/1.1\r\nX: ")
                elif i % 3 == 1:
                    c.send(POSTED + "Content-Length: 100000\r\n\r\n{")
                c.socket.setblocking(i % 3 == 2)
            start = time.monotonic()
            worst, answered, drips = 0, {}, 0
            while time.monotonic() - start < 14:
                asked = time.monotonic()
                self.assertEqual(s.post("/embed", BODY).status, 200)
                worst = max(worst, time.monotonic() - asked)
                for i, c in enumerate(slow):
                    if i % 3 == 2 or i in answered:
                        continue
                    try:
                        c.socket.send(b"x")
                        drips += 1
                        if c.socket.recv(12, socket.MSG_PEEK):
                            c.socket.setblocking(True)
                            answered[i] = (c.answer().status, time.monotonic() - start)
                    except BlockingIOError:
                        pass
                time.sleep(0.25)
            self.assertGreater(drips, 1000)
            self.assertLess(worst, 1 * SLOW)
            self.assertEqual(sorted(answered), [i for i in range(60) if i % 3 != 2])
            for status, after in answered.values():
                self.assertEqual(status, 408)
                self.assertGreater(after, 9.5)
            for i in range(2, 60, 3):  # idle ones have 75 seconds
                slow[i].request("GET", "/livez")
                self.assertEqual(slow[i].answer().status, 200)
            for c in slow:
                c.close()

    def test_answers_that_nobody_reads_do_not_keep_others_waiting(self):
        with Server("--drain", "1") as s:
            stuck = [s.connect() for _ in range(4)]
            body = json.dumps({"texts": ["a"] * 1000})
            for c in stuck:
                c.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                c.request("POST", "/embed", body, JSON)
            time.sleep(3)
            start = time.monotonic()
            self.assertEqual(s.post("/embed", BODY).status, 200)
            self.assertLess(time.monotonic() - start, 10 * SLOW)
            pss = re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{s.process.pid}/smaps_rollup").read_text(), re.M)
            self.assertLess(int(pss[1]), 300000 * SLOW)
            self.assertEqual(s.stop()[0], 0)
            for c in stuck:
                c.close()


if __name__ == "__main__":
    main()
