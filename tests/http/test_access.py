"""Who may ask: hosts, origins, content types, tokens, and the end by GET /shutdown. Rows X1 to X4 and X6 of the plan.

Everything is sent as bytes to a listener without workers (fake_server.c)."""
import json
import signal
import socket
import statistics
import struct
import time
import unittest
from pathlib import Path

from raw import FakeCase, SLOW, Server, main

JSON = {"Content-Type": "application/json"}
BODY = '{"texts":["a"]}'
EVERY_PATH = ("/", "/health", "/livez", "/readyz", "/info", "/embed", "/embed-file", "/ocr/detect", "/ocr/extract",
              "/shutdown", "/metrics", "/debug", "/nowhere", "/health/")
TOKEN = "s3cret-" + "t" * 25


def cors(answer):
    return {k: v for k, v in answer.headers.items() if k.startswith("access-control") or k == "vary"}


class Hosts(FakeCase):
    """X1: no name but the known ones, on every path."""
    args = ("host=pillion.internal",)

    def test_x1_foreign_hosts_are_refused_on_every_path(self):
        bad = ("evil.example", "127.0.0.1.evil", "x.local", "x.internal", "192.168.0.2", "10.0.0.1", "localhost.",
               "127.0.0.1.", "pillion.internal.", "LOCALHOST.", "localhost:8421.", "0", "0x7f.1", "[::ffff:127.0.0.1]")
        for path in EVERY_PATH:
            for method in ("GET", "POST", "HEAD", "OPTIONS"):
                with self.server.connect() as c:
                    for host in bad:
                        c.request(method, path, BODY if method == "POST" else None, JSON, host=host)
                        self.assertEqual(c.answer(method == "HEAD").status, 403, (method, path, host))

    def test_x1_hosts_that_are_missing_empty_twice_or_contradicted_are_refused(self):
        cases = {
            "missing": "GET /health HTTP/1.1\r\n\r\n",
            "empty": "GET /health HTTP/1.1\r\nHost:\r\n\r\n",
            "blank": "GET /health HTTP/1.1\r\nHost:   \r\n\r\n",
            "two": "GET /health HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
            "two alike": "GET /health HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
            "target differs": "GET http://localhost/health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
            "target hides": "GET http://evil.example/health HTTP/1.1\r\nHost: localhost\r\n\r\n",
            "target without": "GET http:///health HTTP/1.1\r\nHost: localhost\r\n\r\n",
            "in 1.0": "GET http://evil.example/health HTTP/1.0\r\nHost: localhost\r\n\r\n",
        }
        for name, text in cases.items():
            with self.subTest(name), self.server.connect() as c:
                c.send(text)
                self.assertEqual(c.answer().status, 400)
        for text in ("GET http://evil.example/health HTTP/1.1\r\nHost: evil.example\r\n\r\n",
                     "GET http://evil.example/health HTTP/1.0\r\n\r\n"):
            with self.server.connect() as c:
                c.send(text)
                self.assertEqual(c.answer().status, 403)

    def test_x1_known_hosts_are_served(self):
        for text in ("GET http://localhost/health HTTP/1.1\r\nHost: localhost\r\n\r\n",
                     "GET HTTP://LocalHost:80/health HTTP/1.1\r\nHost: localhost:80\r\n\r\n",
                     "GET /health HTTP/1.1\r\nHost: pillion.internal:443\r\n\r\n",
                     "GET /health HTTP/1.0\r\n\r\n"):
            with self.server.connect() as c:
                c.send(text)
                self.assertEqual(c.answer().status, 200, text)


class Origins(FakeCase):
    """X2: by default no page of another site, and no header that would let it read an answer."""
    bad = ({"Origin": "https://evil.example"}, {"Origin": "null"}, {"Origin": "http://localhost.evil"}, {"Origin": "*"},
           {"Origin": "http://127.0.0.1.evil"}, {"Origin": "http://localhost@evil"}, {"Origin": "//127.0.0.1"},
           {"Origin": "https://app.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"},
           {"Sec-Fetch-Site": "else"}, {"Origin": "http://127.0.0.1", "Sec-Fetch-Site": "cross-site"})

    def test_x2_pages_of_other_sites_are_refused_on_every_path_and_no_cors_header_is_sent(self):
        for headers in self.bad:
            for path in EVERY_PATH:
                for method in ("GET", "POST", "OPTIONS"):
                    extra = {"Access-Control-Request-Method": "POST"} if method == "OPTIONS" else {}
                    answer = self.server.call(method, path, BODY if method == "POST" else None,
                                              {**JSON, **headers, **extra})
                    self.assertEqual((answer.status, cors(answer)), (403, {}), (method, path, headers))

    def test_x2_two_origins_are_refused(self):
        for name, value in (("Origin", "http://localhost"), ("Sec-Fetch-Site", "none")):
            with self.server.connect() as c:
                c.send(f"GET /health HTTP/1.1\r\nHost: localhost\r\n{name}: {value}\r\n{name}: {value}\r\n\r\n")
                self.assertEqual(c.answer().status, 403)

    def test_x2_our_own_page_may_ask_and_gets_no_cors_header(self):
        for headers in ({"Origin": "http://127.0.0.1"}, {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}):
            answer = self.server.post("/embed", BODY, headers)
            self.assertEqual((answer.status, cors(answer)), (200, {}))


class AllowedOrigins(FakeCase):
    """X2: with --allow-origin exactly those, and their preflight."""
    args = ("origin=https://app.example", "origin=http://localhost:3000", f"token={TOKEN}")

    def test_x2_an_allowed_page_may_ask_and_is_named_in_every_answer(self):
        for origin in ("https://app.example", "http://localhost:3000"):
            wanted = {"access-control-allow-origin": origin, "vary": "origin"}
            for token, path, status in ((TOKEN, "/embed", 200), (None, "/embed", 401), (TOKEN, "/nowhere", 404),
                                        (TOKEN, "/health", 405)):
                headers = {"Origin": origin, "Sec-Fetch-Site": "cross-site"}
                if token:
                    headers["Authorization"] = f"Bearer {token}"
                answer = self.server.post(path, BODY, headers)
                self.assertEqual((answer.status, cors(answer)), (status, wanted))

    def test_x2_preflight_is_answered_for_allowed_pages_only(self):
        asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
        answer = self.server.call("OPTIONS", "/embed", None, {"Origin": "https://app.example", **asks})
        self.assertEqual((answer.status, answer.body), (200, b""))
        self.assertEqual(cors(answer), {"access-control-allow-origin": "https://app.example", "vary": "origin",
                                        "access-control-allow-methods": "GET, HEAD, POST",
                                        "access-control-allow-headers": "authorization, content-type, "
                                                                        "x-pillion-partial",
                                        "access-control-max-age": "600"})
        private = self.server.call("OPTIONS", "/embed", None, {"Origin": "https://app.example", **asks,
                                                               "Access-Control-Request-Private-Network": "true"})
        self.assertEqual(private.headers["access-control-allow-private-network"], "true")
        for origin in ("http://app.example", "https://app.example:444", "https://app.example.evil",
                       "https://APP.example", "https://app.example/", "null", "http://localhost:3001",
                       "http://localhost:30000"):
            answer = self.server.call("OPTIONS", "/embed", None, {"Origin": origin, **asks})
            self.assertEqual((answer.status, cors(answer)), (403, {}), origin)

    def test_x2_an_allowed_page_cannot_end_the_server(self):
        answer = self.server.call("GET", "/shutdown", None, {"Origin": "https://app.example",
                                                             "Authorization": f"Bearer {TOKEN}"})
        self.assertEqual(answer.status, 403)

    def test_x2_what_is_no_origin_is_refused_at_the_start(self):
        for origin in ("*", "null", "app.example", "https://app.example/", "https://", "https://app.example/x",
                       "https://App.example", "https://a b", "https://app.example\r\nx: y", ""):
            with Server.fake(f"origin={origin}") as s:
                self.assertEqual(s.process.wait(10 * SLOW), 2, origin)
                self.assertIn("allowed origin", s.stderr())


class ContentTypes(FakeCase):
    """X3: what a form or a picture of a web page could send has no effect."""

    def test_x3_other_content_types_are_refused_before_the_body_is_read_as_json(self):
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "json",
                     "text/json", "application/jsonp", "application/json-seq", "image/png", "application/"):
            for path in ("/embed", "/embed-file", "/ocr/detect", "/ocr/extract"):
                answer = self.server.call("POST", path, BODY, {"Content-Type": kind})
                self.assertEqual(answer.status, 422, kind)
                error, = answer.json()["detail"]
                self.assertEqual((error["type"], error["loc"], error["input"]),
                                 ("model_attributes_type", ["body"], BODY))

    def test_x3_nothing_but_shutdown_changes_anything_by_get_or_head(self):
        for method in ("GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
            for path in ("/embed", "/embed-file", "/ocr/detect", "/ocr/extract"):
                self.assertEqual(self.server.call(method, path).status, 405)
        for method in ("HEAD", "POST", "OPTIONS"):
            self.assertEqual(self.server.call(method, "/shutdown").status, 405)

    def test_x3_pages_cannot_end_the_server_and_programs_can(self):
        with Server.fake() as s:
            for headers in ({"Origin": "http://127.0.0.1"}, {"Referer": "http://127.0.0.1/"}, {"Referer": ""},
                            {"Sec-Fetch-Site": "none"}, {"Sec-Fetch-Site": "same-origin"}):
                self.assertEqual(s.call("GET", "/shutdown", None, headers).status, 403, headers)
            answer = s.get("/shutdown")
            self.assertEqual((answer.status, answer.json()), (200, {"ok": True}))
            self.assertEqual(s.process.wait(10 * SLOW), 0)

    def test_x3_a_client_that_resets_its_connection_before_it_is_accepted_is_not_of_this_machine(self):
        """Its address cannot be told any more, while what it has sent can still be read."""
        with Server.fake() as s:
            s.process.send_signal(signal.SIGSTOP)
            gone = [s.connect() for _ in range(4)]
            for i, c in enumerate(gone):
                c.request("GET", ("/shutdown", "/livez")[i % 2])
                c.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                c.close()
            s.process.send_signal(signal.SIGCONT)
            time.sleep(0.3 * SLOW)
            self.assertIsNone(s.process.poll())
            self.assertEqual(json.loads(s.get("/health").body)["connections"], 1)


class Tokens(FakeCase):
    """X4: nothing but probes without the token."""
    args = (f"token={TOKEN}",)

    def ask(self, path, authorization, method="GET"):
        headers = {} if authorization is None else {"Authorization": authorization}
        return self.server.call(method, path, BODY if method == "POST" else None, {**JSON, **headers})

    def test_x4_without_the_token_nothing_is_served(self):
        wrong = (None, "", "Bearer", "Bearer ", f"Bearer {TOKEN[:-1]}", f"Bearer {TOKEN}x", f"Bearer {TOKEN} x",
                 f"Bearer {TOKEN.upper()}", f"Basic {TOKEN}", TOKEN, f"Bearer{TOKEN}", f"Bearer {TOKEN}{TOKEN}",
                 "Bearer " + "s" * 9000)
        for path, method in (("/embed", "POST"), ("/info", "GET"), ("/", "GET"), ("/nowhere", "GET"),
                             ("/metrics", "GET"), ("/shutdown", "GET"), ("/embed-file", "POST"), ("/embed", "GET"),
                             ("/health", "POST"),
                             (f"/info?token={TOKEN}", "GET"), (f"/info?access_token={TOKEN}", "GET")):
            for authorization in wrong:
                answer = self.ask(path, authorization, method)
                self.assertEqual(answer.status, 401, (path, authorization))
                self.assertEqual(answer.headers["www-authenticate"], 'Bearer realm="pillion"' +
                                 ("" if authorization is None else ', error="invalid_token"'))
                self.assertNotIn(TOKEN, repr(answer))

    def test_x4_two_authorizations_are_refused(self):
        with self.server.connect() as c:
            c.send("GET /info HTTP/1.1\r\nHost: localhost\r\n" + f"Authorization: Bearer {TOKEN}\r\n" * 2 + "\r\n")
            self.assertEqual(c.answer().status, 401)

    def test_x4_with_the_token_everything_is(self):
        for authorization in (f"Bearer {TOKEN}", f"bearer {TOKEN}", f"BEARER   {TOKEN}"):
            self.assertEqual(self.ask("/embed", authorization, "POST").status, 200)
            self.assertEqual(self.ask("/info", authorization).status, 200)
            self.assertEqual(self.ask("/nowhere", authorization).status, 404)

    def test_x4_probes_are_answered_without_the_token_and_tell_no_details(self):
        self.assertEqual(self.ask("/livez", None).json(), {"status": "alive"})
        self.assertEqual(self.ask("/readyz", None).json(), {"status": "ready"})
        self.assertEqual(self.ask("/health", None).json(),
                         {"status": "ok", "model_loaded": True, "model_loading": False})
        self.assertEqual(self.ask("/health", f"Bearer {TOKEN}").json()["sandbox"], "full")

    def test_x4_a_large_body_is_not_read_from_somebody_without_the_token(self):
        for size in ("Content-Length: 30000000", "Transfer-Encoding: chunked"):
            with self.server.connect() as c:
                c.send(f"POST /embed HTTP/1.1\r\nHost: localhost\r\n{size}\r\n\r\n")
                answer = c.answer()
                self.assertEqual((answer.status, answer.headers["connection"]), (401, "close"))

    def test_x4_a_wrong_token_takes_as_long_wherever_it_is_wrong(self):
        """The comparison itself is shorter than any network could show; this sees a comparison that stops early only
        if it is grossly slow. What matters is in access.c: no branch depends on the secret."""
        times = {0: [], len(TOKEN) - 1: []}
        with self.server.connect() as c:
            for i in range(600):
                at = (0, len(TOKEN) - 1)[i % 2]
                wrong = TOKEN[:at] + "#" + TOKEN[at + 1:]
                start = time.perf_counter()
                c.request("GET", "/info", None, {"Authorization": f"Bearer {wrong}"})
                self.assertEqual(c.answer().status, 401)
                times[at].append(time.perf_counter() - start)
        first, last = (statistics.median(t) for t in times.values())
        self.assertLess(max(first, last), 2 * min(first, last))

    def test_x4_the_token_is_neither_logged_nor_in_an_error(self):
        for path in ("/info", f"/{TOKEN}"):
            self.ask(path, f"Bearer {TOKEN}")
        self.assertNotIn(TOKEN, self.server.stderr())
        for bad in ("a b", "ü", "x" * 1025, "tab\there"):
            with Server.fake(f"token={bad}") as s:
                self.assertEqual(s.process.wait(10 * SLOW), 2)
                self.assertIn("the token must be", s.stderr())
                self.assertNotIn(bad, s.stderr())


class Bind(unittest.TestCase):
    def test_x6_only_loopback_by_default(self):
        with Server(ready=False) as s:
            inodes = {p.readlink() for p in Path(f"/proc/{s.process.pid}/fd").iterdir() if p.is_symlink()}
            found = []
            for table in ("tcp", "tcp6"):
                for line in Path(f"/proc/{s.process.pid}/net/{table}").read_text().splitlines()[1:]:
                    fields = line.split()
                    if fields[3] == "0A" and Path(f"socket:[{fields[9]}]") in inodes:
                        found.append(fields[1].split(":")[0])
            self.assertEqual(found, ["0100007F"])

    def test_x6_the_host_of_the_listener_is_that_of_the_connection(self):
        with Server.fake() as s:
            self.assertEqual(s.get("/health", host="127.0.0.1").status, 200)
            self.assertEqual(s.get("/health", host="127.0.0.2").status, 403)
            self.assertEqual(json.loads(s.get("/health").body)["status"], "ok")


if __name__ == "__main__":
    main(needs_model=False)
