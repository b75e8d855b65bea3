"""What happens when there is too much of something: memory, connections, descriptors, work; and clients that dawdle.
Rows H12, H17, O2, O3, O6, O7 and O10 of the plan. Everything runs against fake_server.c with low ceilings."""
import json
import os
import re
import resource
import socket
import threading
import time
import unittest
from pathlib import Path

from raw import FakeCase, SLOW, Server, at_once, cpu_ticks, main

JSON = {"Content-Type": "application/json"}
HEAD = "POST /embed HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
MIB = 1 << 20


def embed_body(*texts, pad=0):
    return json.dumps({"texts": list(texts), "x": "x" * pad})


def health(server):
    return server.get("/health").json()


def status_kib(pid, field):
    return int(re.search(rf"^{field}:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(), re.M)[1])


class Refusals(FakeCase):
    """Work that cannot be taken is refused with 503 and the time after which to come again."""

    def assert_busy(self, answer, detail):
        self.assertEqual((answer.status, answer.json()), (503, {"detail": detail}))
        self.assertGreaterEqual(int(answer.headers["retry-after"]), 1)

    def test_o6_a_full_queue_answers_one_text_and_many_alike_and_the_connection_goes_on(self):
        with self.server.connect() as c:
            for texts in (["full"], ["full"] * 64, ["a", "full"]):
                c.request("POST", "/embed", embed_body(*texts), JSON)
                self.assert_busy(c.answer(), "Too much work is waiting, please retry shortly")
            c.request("POST", "/embed", embed_body("broken"), JSON)
            self.assert_busy(c.answer(), "Model not loaded")
            c.request("POST", "/embed", embed_body("expire"), JSON)
            self.assert_busy(c.answer(), "Model is still loading, please retry shortly")
            c.request("POST", "/embed", embed_body("a"), JSON)
            self.assertEqual(c.answer().status, 200)

    def test_refusals_and_health_are_quick_while_requests_wait(self):
        """Compared with an idle server on the same machine, not with a clock."""
        def worst(ask):
            times = []
            for _ in range(50):
                start = time.perf_counter()
                ask()
                times.append(time.perf_counter() - start)
            return sorted(times)[48]

        idle = worst(lambda: self.server.get("/health"))
        waiting = [self.server.connect() for _ in range(300)]
        for c in waiting:
            c.request("POST", "/embed", embed_body("wait:4000"), JSON)
        refused = worst(lambda: self.server.post("/embed", embed_body("full")))
        asked = worst(lambda: self.server.get("/health"))
        for c in waiting:
            self.assertEqual(c.answer().status, 200)
            c.close()
        self.assertLess(refused, max(10 * idle, 0.05 * SLOW))
        self.assertLess(asked, max(10 * idle, 0.05 * SLOW))


class Health(FakeCase):
    """O7: /health says what is the case, whatever that is, and never waits."""

    def test_o7_a_model_that_cannot_be_served(self):
        with Server.fake() as s:
            s.post("/embed", embed_body("state:failed"))
            answer = s.get("/health")
            self.assertEqual((answer.status, answer.json()["status"]), (503, "failed"))
            self.assertEqual([s.get(p).status for p in ("/readyz", "/livez", "/info")], [503, 200, 503])

    def test_o7_health_tells_each_state(self):
        for state, code, status, loaded, ready in (
                ("loading", 200, "ok", False, 503), ("ready", 200, "ok", True, 200),
                ("none", 200, "degraded", True, 503), ("ready", 200, "ok", True, 200),
                ("half", 200, "degraded", True, 200), ("open", 503, "failed", True, 503)):
            self.server.post("/embed", embed_body(f"state:{state}"))
            answer = self.server.get("/health")
            seen = answer.json()
            self.assertEqual((answer.status, seen["status"], seen["model_loaded"]), (code, status, loaded), state)
            self.assertEqual(seen["model_loading"], state == "loading")
            words = {"none": "restarting", "half": "breaker_open", "open": "breaker_open"}
            self.assertEqual(seen["state"], words.get(state, state))
            self.assertEqual("reason" in seen, state in words)
            self.assertEqual(self.server.get("/readyz").status, ready)
            self.assertEqual(self.server.get("/livez").status, 200)
        self.assertEqual((seen["workers"], seen["workers_ready"], seen["restarts"], seen["sandbox"], seen["device"],
                          seen["model"], seen["dim"], seen["reason"]),
                         (2, 0, 0, "full", "cpu", "fake/model", 8, "5 workers died within 30 s"))
        with self.server.connect() as c:
            c.send(f"{HEAD}Content-Length: 1000000\r\n\r\n")  # nobody could compute it: the body is not waited for
            answer = c.answer()
            self.assertEqual((answer.status, answer.headers["retry-after"]), (503, "7"))


class Memory(unittest.TestCase):
    """One sum for what all requests and answers hold."""

    def test_large_requests_beyond_the_sum_are_refused_before_their_body_and_small_ones_are_served(self):
        with Server.fake(f"in_flight={8 * MIB}") as s:
            held = [s.connect() for _ in range(4)]
            for c in held:
                c.request("POST", "/embed", embed_body(f"wait:{4000 * SLOW}", pad=2 * MIB), JSON)
            Server.wait(lambda: health(s)["in_flight_bytes"] >= 8 * MIB, 3 * SLOW)
            self.assertGreaterEqual(health(s)["in_flight_bytes"], 8 * MIB)
            for declared in ("Content-Length: 1000000", "Transfer-Encoding: chunked"):
                with s.connect() as c:
                    c.send(f"{HEAD}{declared}\r\n\r\n")
                    answer = c.answer()  # the body was never sent
                    self.assertEqual((answer.status, answer.headers["retry-after"], answer.headers["connection"]),
                                     (503, "1", "close"))
            with s.connect() as c:
                c.send(f"{HEAD}Expect: 100-continue\r\nContent-Length: 1000000\r\n\r\n")
                self.assertEqual(c.answer().status, 503)
            self.assertEqual(s.post("/embed", embed_body("small")).status, 200)
            for c in held:
                self.assertEqual(c.answer().status, 200)
                c.close()
            Server.wait(lambda: health(s)["in_flight_bytes"] < MIB, 20 * SLOW)
            self.assertLess(health(s)["in_flight_bytes"], MIB)
            self.assertEqual(s.post("/embed", embed_body("large", pad=2 * MIB)).status, 200)

    def test_one_request_of_the_largest_size_is_taken_even_above_the_ceiling(self):
        with Server.fake(f"in_flight={MIB}") as s:
            body = embed_body("a", pad=(32 << 20) - 40)
            self.assertEqual(s.post("/embed", body).status, 200)

    def test_a_flood_of_large_bodies_stays_within_the_ceiling(self):
        with Server.fake(f"in_flight={32 * MIB}") as s:
            body = embed_body("wait:300", pad=8 * MIB)
            statuses = at_once([lambda: self.ask_or_none(s, body) for _ in range(24)])
            self.assertIn(200, statuses)
            self.assertIn(503, statuses)
            self.assertLess(status_kib(s.process.pid, "VmHWM"), (32 + 2 * 40 + 40) * 1024 * (4 if SLOW > 1 else 1))
            self.assertEqual(s.post("/embed", body).status, 200)

    @staticmethod
    def ask_or_none(server, body):
        try:
            return server.post("/embed", body).status
        except OSError:
            return None  # cut off while it was still sending

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
                c._fill()
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


class Connections(unittest.TestCase):
    def test_connections_beyond_the_limit_are_told_and_may_read_it(self):
        with Server.fake("connections=10") as s:
            held = [s.connect() for _ in range(10)]
            held[0].request("GET", "/livez")
            self.assertEqual(held[0].answer().status, 200)
            for _ in range(100):
                with s.connect() as c:
                    c.request("POST", "/embed", embed_body("a", pad=100000), JSON)  # unread bytes would cause a reset
                    answer = c.answer()
                    self.assertEqual((answer.status, answer.headers["retry-after"], answer.headers["connection"]),
                                     (503, "1", "close"))
                    self.assertEqual(list(answer.json()), ["detail"])
            held.pop().close()
            Server.wait(lambda: self.is_alive(s), 10 * SLOW)
            self.assertTrue(self.is_alive(s))
            for c in held:
                c.close()

    @staticmethod
    def is_alive(server):
        try:
            return server.get("/livez").status == 200
        except (OSError, EOFError):
            return False

    def test_o2_a_thousand_connections_at_once_are_all_answered_and_cost_little(self):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard < 2100:
            self.skipTest("not enough descriptors for a thousand connections")
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2100), hard))
        with Server.fake() as s:
            self.assertEqual(s.get("/livez").status, 200)
            before = status_kib(s.process.pid, "RssAnon")
            held = [s.connect() for _ in range(1000)]
            for c in held:
                c.request("POST", "/embed", embed_body("a" * 500), JSON)
            self.assertEqual({c.answer().status for c in held}, {200})
            idle = health(s)
            self.assertGreaterEqual(idle["connections"], 1000)
            each = (status_kib(s.process.pid, "RssAnon") - before) / 1000
            if SLOW == 1:
                self.assertLess(each, 32)
            for c in held:
                c.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    def test_o10_without_descriptors_clients_are_told_and_nothing_spins(self):
        """ulimit -n 64 and 200 clients: some are served, the others are turned away, and later all are served again."""
        wrapper = ("sh", "-c", 'ulimit -n 64 && exec "$@"', "sh")
        with Server.fake(wrapper=wrapper) as s:
            clients = [socket.socket() for _ in range(200)]
            for c in clients:
                c.settimeout(30 * SLOW)
                c.connect(s.address)
            first = Server.wait(lambda: self.read_some(clients), 10 * SLOW)
            self.assertIn(b"HTTP/1.1 503 Service Unavailable", first)
            time.sleep(3)  # those that linger are closed by now
            ticks = cpu_ticks(s.process.pid)
            time.sleep(1)
            self.assertLessEqual(cpu_ticks(s.process.pid) - ticks, 10)
            open_ones = len(os.listdir(f"/proc/{s.process.pid}/fd"))
            self.assertLessEqual(open_ones, 64)
            clients[0].sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
            self.assertIn(b"200 OK", clients[0].recv(1000))
            for c in clients:
                c.close()
            self.assertTrue(Server.wait(lambda: self.is_alive(s), 10 * SLOW))

    @staticmethod
    def read_some(clients):
        """What the last client was told, if anything."""
        clients[-1].setblocking(False)
        try:
            return clients[-1].recv(1000)
        except BlockingIOError:
            return None
        finally:
            clients[-1].setblocking(True)


if __name__ == "__main__":
    main(needs_model=False)
