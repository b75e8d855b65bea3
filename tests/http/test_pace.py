"""Clients that dawdle, and clients that end their side: rows H6, H10, H12, H15, H17 and O3 of the plan, against
fake_server.c with short times. tests/http/test_hostile.py has the true times."""
import json
import socket
import time
import unittest

from raw import FakeCase, SLOW, Server, main

JSON = {"Content-Type": "application/json"}
HEAD = "POST /embed HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
MIB = 1 << 20


def embed_body(*texts, pad=0):
    return json.dumps({"texts": list(texts), "x": "x" * pad})


def health(server):
    return server.get("/health").json()


class Readers(unittest.TestCase):
    def test_answers_count_and_slow_readers_give_their_memory_back(self):
        """H17: answers that nobody reads are bounded in sum, and end; others are served meanwhile."""
        with Server.fake(f"in_flight={16 * MIB}", "dim=1024", "stall_ms=2000") as s:
            texts = ["a"] * 1000
            stuck = []
            for _ in range(12):
                c = s.connect()
                c.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                c.request("POST", "/embed", embed_body(*texts), JSON)
                stuck.append(c)
            Server.wait(lambda: health(s)["in_flight_bytes"] >= 16 * MIB, 20 * SLOW)
            peak = health(s)["in_flight_bytes"]
            self.assertGreaterEqual(peak, 16 * MIB)
            self.assertLess(peak, 16 * MIB + 1000 * 1024 * 16 + 12 * 128 * 1024 + MIB)
            self.assertEqual(s.post("/embed", embed_body(*texts)).status, 503)
            self.assertEqual(s.post("/embed", embed_body("a")).status, 200)
            Server.wait(lambda: health(s)["in_flight_bytes"] < MIB, 30 * SLOW)
            self.assertLess(health(s)["in_flight_bytes"], MIB)
            self.assertEqual(len(s.post("/embed", embed_body(*texts)).json()["vectors"]), 1000)
            for c in stuck:
                c.close()

    def test_h17_a_reader_that_is_only_unhurried_is_served(self):
        with Server.fake("dim=1024", "stall_ms=1500") as s, s.connect() as c:
            c.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            c.request("POST", "/embed", embed_body(*["a"] * 1000), JSON)
            start = time.monotonic()
            while time.monotonic() - start < 5:
                c.bytes += c.socket.recv(16384)  # less than 1 MB/s of some 11 MB
                time.sleep(0.02)
            self.assertEqual(len(c.answer().json()["vectors"]), 1000)


class Dawdlers(unittest.TestCase):
    """O3 with short times: what is slow is told so, or closed; what is quick is not harmed."""

    def test_o3_headers_and_bodies_that_do_not_get_on_are_408(self):
        with Server.fake("header_ms=1500") as s:
            chunked = f"{HEAD}Transfer-Encoding: chunked\r\n\r\n"
            stalls = {"header": "GET /health HTTP/1.1\r\nX: ", "no body": f"{HEAD}Content-Length: 9\r\n\r\n",
                      "body": f"{HEAD}Content-Length: 100000\r\n\r\n{{", "chunks": chunked + "1\r\n{\r\n",
                      "fast, then nothing": f"{HEAD}Content-Length: 9000000\r\n\r\n" + "x" * 3000000,
                      "trailers": chunked + "2\r\n{}\r\n0\r\nX: y\r\n"}
            held = {name: s.connect() for name in stalls}
            start = time.monotonic()
            for name, text in stalls.items():
                held[name].send(text)
            for name, c in held.items():
                self.addCleanup(c.close)
                self.assertEqual(c.answer().status, 408, name)
                self.assertGreater(time.monotonic() - start, 1.4)
                self.assertTrue(c.is_closed(5 * SLOW), name)
            self.assertLess(time.monotonic() - start, 60 * SLOW)

    def test_o3_a_body_that_gets_on_may_take_its_time(self):
        with Server.fake("header_ms=1000") as s, s.connect() as c:
            body = embed_body("a", pad=40000)
            c.send(f"{HEAD}Content-Length: {len(body)}\r\n\r\n")
            for at in range(0, len(body), 4000):
                c.send(body[at:at + 4000])
                time.sleep(0.4)
            self.assertEqual(c.answer().status, 200)

    def test_idle_connections_are_closed_in_silence_and_later_than_announced(self):
        with Server.fake("idle_ms=8000") as s, s.connect() as c:
            c.request("GET", "/livez")
            told = int(c.answer().headers["keep-alive"].removeprefix("timeout="))
            start = time.monotonic()
            self.assertTrue(c.is_closed(60 * SLOW))
            self.assertEqual(told, 3)
            self.assertGreater(time.monotonic() - start, told + 1)

    def test_h15_the_announced_time_is_five_seconds_short_of_the_true_one(self):
        with Server.fake() as s:
            self.assertEqual(s.get("/livez").headers["keep-alive"], "timeout=70")


class Ends(FakeCase):
    def test_h12_the_end_before_the_answer_is_a_cancel(self):
        with self.server.connect() as c:
            c.request("POST", "/embed", embed_body("wait:2000"), JSON)
            c.socket.shutdown(socket.SHUT_WR)
            self.assertTrue(c.is_closed(1.5 * SLOW))

    def test_h12_an_answer_that_is_on_its_way_arrives_in_spite_of_the_end(self):
        with Server.fake("dim=1024") as s, s.connect() as c:
            c.request("POST", "/embed", embed_body(*["a"] * 1000), JSON)
            c._fill()
            c.socket.shutdown(socket.SHUT_WR)
            self.assertEqual(len(c.answer().json()["vectors"]), 1000)
            self.assertTrue(c.is_closed())

    def test_h12_requests_sent_ahead_are_dropped_with_the_end(self):
        with self.server.connect() as c:
            for _ in range(3):
                c.request("POST", "/embed", embed_body("wait:1000"), JSON)
            c.socket.shutdown(socket.SHUT_WR)
            self.assertTrue(c.is_closed(1 * SLOW))

    def test_h6_a_request_that_ends_too_early_is_told_so(self):
        for text in ("GET /health HT", f"{HEAD}Content-Length: 10\r\n\r\n{{}}",
                     f"{HEAD}Transfer-Encoding: chunked\r\n\r\n9\r\n"):
            with self.server.connect() as c:
                c.send(text)
                c.socket.shutdown(socket.SHUT_WR)
                answer = c.answer()
                self.assertEqual((answer.status, answer.headers["connection"]), (400, "close"))
                self.assertTrue(c.is_closed())

    def test_h10_requests_sent_ahead_are_answered_in_order_each_once(self):
        with self.server.connect() as c:
            for i in range(200):
                if i % 5 == 4:
                    c.request("GET", f"/nowhere/{i}")
                else:
                    c.request("POST", "/embed", embed_body("t" * (i + 1), f"wait:{i % 3}"), JSON)
            for i in range(200):
                answer = c.answer()
                if i % 5 == 4:
                    self.assertEqual(answer.status, 404)
                else:
                    self.assertEqual(answer.json()["vectors"][0][0], i + 1)
            self.assertFalse(c.bytes)


if __name__ == "__main__":
    main(needs_model=False)
