"""What happens when there is too much of something: memory, connections, descriptors, work. Rows O2, O6, O7 and O10 of
the plan, against fake_server.c with low ceilings."""
import json
import os
import re
import resource
import socket
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

    def test_large_bodies_are_not_read_while_the_queue_is_full_for_their_client(self):
        with self.server.connect() as c:
            c.request("POST", "/embed", embed_body("full"), JSON)
            self.assertEqual(c.answer().status, 503)
            self.assertEqual(self.server.post("/embed", embed_body("a", pad=MIB)).status, 200)  # somebody else's is
            c.send(f"{HEAD}Content-Length: 1000000\r\n\r\n")
            answer = c.answer()
            self.assert_busy(answer, "Too much work is waiting, please retry shortly")
            self.assertEqual(answer.headers["connection"], "close")
        with self.server.connect() as c:
            for body in (embed_body("full"), embed_body("a"), embed_body("a", pad=MIB)):
                c.request("POST", "/embed", body, JSON)
                self.assertEqual(c.answer().status, 503 if "full" in body else 200)

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
                         (2, 0, 2, "full", "cpu", "fake/model", 8, "5 workers died within 30 s"))
        self.assertEqual([seen[k] for k in ("deaths", "retries", "poisoned", "texts_waiting")], [3, 5, 1, 0])
        with self.server.connect() as c:
            c.send(f"{HEAD}Content-Length: 1000000\r\n\r\n")  # nobody could compute it: the body is not waited for
            answer = c.answer()
            self.assertEqual((answer.status, answer.headers["retry-after"]), (503, "7"))


class Memory(unittest.TestCase):
    """One sum for what all requests and answers hold."""

    def test_large_requests_beyond_the_sum_are_refused_before_their_body_and_small_ones_are_served(self):
        with Server.fake(f"in_flight={8 * MIB}") as s:
            held = [s.connect() for _ in range(3)]
            for i, c in enumerate(held):  # one after the other, because it takes more than it keeps to parse one
                c.request("POST", "/embed", embed_body(f"wait:{6000 if SLOW == 1 else 20000}", pad=3 * MIB), JSON)
                kept = (i + 1) * 3 * MIB  # and, unlike what is being received, no power of two
                Server.wait(lambda k=kept: k <= health(s)["in_flight_bytes"] < k + MIB // 2, 4 * SLOW)
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
