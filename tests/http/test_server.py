"""Connections and concurrency: keep-alive, pipelining, 100-continue, requests side by side, clients that leave, and
workers killed under load."""
import json
import os
import random
import signal
import threading
import time
import unittest

from raw import Case, Server, SLOW, at_once, children, command, cpu_ticks, is_alive, main

JSON = {"Content-Type": "application/json"}


def embed_body(texts):
    return json.dumps({"texts": texts})


class Connections(Case):
    def test_a_connection_is_kept(self):
        with self.server.connect() as c:
            for i in range(20):
                c.request("POST", "/embed", embed_body([f"text {i}"]), JSON)
                answer = c.answer()
                self.assertEqual(answer.status, 200)
                self.assertEqual(answer.headers["keep-alive"], "timeout=70")
                self.assertNotIn("connection", answer.headers)

    def test_a_connection_is_closed_when_the_client_says_so(self):
        for version, header, closes in (("1.1", "close", True), ("1.0", None, True), ("1.0", "keep-alive", False),
                                        ("1.1", "keep-alive", False)):
            with self.server.connect() as c:
                extra = f"Connection: {header}\r\n" if header else ""
                c.send(f"GET /health HTTP/{version}\r\nHost: localhost\r\n{extra}\r\n")
                answer = c.answer()
                self.assertEqual(answer.status, 200)
                self.assertEqual(answer.headers.get("connection"),
                                 "close" if closes else header if version == "1.0" else None)
                if closes:
                    self.assertTrue(c.is_closed())
                else:
                    c.request("GET", "/health")
                    self.assertEqual(c.answer().status, 200)

    def test_requests_sent_ahead_are_answered_in_order(self):
        with self.server.connect() as c:
            wanted = []
            for i in range(200):
                if i % 3 == 0:
                    c.request("POST", "/embed", embed_body(["a"] * (i % 4)), JSON)
                    wanted.append(200 if i % 4 else 422)
                else:
                    c.request("GET", "/health" if i % 3 == 1 else f"/nowhere/{i}")
                    wanted.append(200 if i % 3 == 1 else 404)
            self.assertEqual([c.answer().status for _ in wanted], wanted)

    def test_requests_in_single_bytes(self):
        with self.server.connect() as c:
            body = embed_body(["é"])
            for b in (f"POST /embed HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                      f"Content-Length: {len(body)}\r\n\r\n{body}").encode():
                c.send(bytes([b]))
            self.assertEqual(c.answer().status, 200)

    def test_chunked_requests(self):
        body = embed_body(["chunked"]).encode()
        chunks = b"".join(b"1\r\n%c\r\n" % b for b in body) + b"0\r\nX-Trailer: 1\r\n\r\n"
        with self.server.connect() as c:
            for _ in range(2):
                c.send(b"POST /embed HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                       b"Transfer-Encoding: chunked\r\n\r\n" + chunks)
                self.assertEqual(c.answer().json()["vectors"], self.server.embed(["chunked"]))

    def test_100_continue(self):
        body = embed_body(["x"])
        with self.server.connect() as c:
            c.send("POST /embed HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                   f"Expect: 100-Continue\r\nContent-Length: {len(body)}\r\n\r\n")
            self.assertEqual(c.answer().status, 100)
            c.send(body)
            self.assertEqual(c.answer().status, 200)
            c.request("GET", "/health")
            self.assertEqual(c.answer().status, 200)
        for path, host, size, status in (("/nowhere", "localhost", 10, 404), ("/health", "localhost", 10, 405),
                                         ("/embed", "evil.example", 10, 403), ("/embed", "localhost", 1 << 40, 413)):
            with self.server.connect() as c:
                c.send(f"POST {path} HTTP/1.1\r\nHost: {host}\r\nExpect: 100-continue\r\n"
                       f"Content-Length: {size}\r\n\r\n")
                answer = c.answer()
                self.assertEqual((answer.status, answer.headers["connection"]), (status, "close"))
                self.assertTrue(c.is_closed())
        with self.server.connect() as c:
            c.send("POST /embed HTTP/1.1\r\nHost: localhost\r\nExpect: a miracle\r\nContent-Length: 2\r\n\r\n{}")
            self.assertEqual(c.answer().status, 417)

    def test_a_body_of_exactly_the_limit(self):
        head, tail = b'{"texts":["a"],"x":"', b'"}'
        for extra, status in ((0, 200), (1, 413)):
            size = (32 << 20) + extra
            with self.server.connect() as c:
                c.send(f"POST /embed HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                       f"Content-Length: {size}\r\n\r\n")
                try:
                    c.send(head + b"x" * (size - len(head) - len(tail)) + tail)
                except OSError:
                    self.assertEqual(status, 413)
                self.assertEqual(c.answer().status, status)

    def test_many_connections(self):
        connections = [self.server.connect() for _ in range(300)]
        for i, c in enumerate(connections):
            c.request("POST", "/embed", embed_body([f"text {i % 7}"]), JSON)
        answers = [c.answer().json()["vectors"][0] for c in connections]
        for i in range(7, 300):
            self.assertEqual(answers[i], answers[i % 7])
        for c in connections:
            c.close()

    def test_the_1025th_connection_is_turned_away(self):
        held = []
        try:
            for _ in range(1024):
                held.append(self.server.connect())
            held[-1].request("GET", "/livez")
            self.assertEqual(held[-1].answer().status, 200)
            with self.server.connect() as c:
                self.assertEqual((c.answer().status, c.is_closed()), (503, True))
        finally:
            for c in held:
                c.close()
        self.assertTrue(Server.wait(lambda: self.works(), 5))

    def works(self):
        try:
            return self.server.get("/livez").status == 200
        except (EOFError, OSError):
            return False

    def test_files_and_connections_do_not_pile_up(self):
        fds = f"/proc/{self.server.process.pid}/fd"
        self.server.embed(["warm"])
        time.sleep(0.1)
        before = len(os.listdir(fds))
        for i in range(400):
            with self.server.connect() as c:
                if i % 2:
                    c.request("GET", "/health")
                    if i % 4 == 1:
                        c.answer()
        self.assertTrue(Server.wait(lambda: len(os.listdir(fds)) <= before, 5), os.listdir(fds))


class Concurrency(Case):
    args = ("--workers", "2")
    long = ["the same words again and again " * 40] * 64

    def test_requests_run_side_by_side(self):
        """A short request that comes behind a long one is answered first."""
        order = []

        def ask(name, texts):
            self.server.embed(texts)
            order.append(name)

        first = threading.Thread(target=ask, args=("long", self.long * 2))
        first.start()
        time.sleep(0.1)
        ask("short", ["hello"])
        first.join()
        self.assertEqual(order, ["short", "long"])

    def test_both_workers_work_on_one_request(self):
        before = [cpu_ticks(pid) for pid in self.server.workers()]
        self.server.embed(self.long)
        used = [cpu_ticks(pid) - b for pid, b in zip(self.server.workers(), before, strict=True)]
        used = sorted(used)[-2:]  # beside these two there is one for short work
        self.assertGreater(min(used), max(used) / 4)

    def test_the_same_text_at_once_gives_the_same_bits(self):
        wanted = self.server.embed(["one text"])
        for got in at_once([lambda: self.server.embed(["one text"]) for _ in range(32)]):
            self.assertEqual(got, wanted)

    def test_health_is_answered_while_the_workers_are_busy(self):
        busy = threading.Thread(target=lambda: self.server.embed(self.long * 2))
        busy.start()
        with self.server.connect() as c:
            for _ in range(20):
                start = time.monotonic()
                c.request("GET", "/health")
                self.assertEqual(c.answer().status, 200)
                self.assertLess(time.monotonic() - start, 0.3 * SLOW)
        busy.join()

    def test_a_client_that_leaves_ends_its_work(self):
        for half in (False, True):
            c = self.server.connect()
            c.request("POST", "/embed", embed_body(self.long * 8), JSON)
            time.sleep(0.3)
            if half:
                c.socket.shutdown(1)  # the end of what a client sends is a cancel
                self.assertTrue(c.is_closed())
            c.close()
            start = time.monotonic()
            self.server.embed(["hello"])
            self.assertLess(time.monotonic() - start, 3 * SLOW)
            time.sleep(0.7 * SLOW)
            before = sum(map(cpu_ticks, self.server.workers()))
            time.sleep(0.5)
            self.assertLessEqual(sum(map(cpu_ticks, self.server.workers())) - before, 2, "the workers still compute")


class Deaths(Case):
    args = ("--workers", "2", "--log-level", "error")

    def test_workers_killed_under_load_fail_no_request(self):
        wanted = {n: self.server.embed([f"text {n} {i}" for i in range(16)]) for n in range(4)}
        stop = threading.Event()
        rng = random.Random(5)
        kills = 0

        def client(n):
            done = 0
            while not stop.is_set():
                got = self.server.embed([f"text {n} {i}" for i in range(16)])
                assert got == wanted[n]
                done += 1
            return done

        def killer():
            nonlocal kills
            end = time.monotonic() + 6
            while time.monotonic() < end:
                time.sleep(rng.random() * 0.25)
                for pid in rng.sample(self.server.workers() or [0], 1):
                    if pid:
                        os.kill(pid, signal.SIGKILL)
                        kills += 1
            stop.set()
            return 1

        done = at_once([lambda n=n: client(n) for n in range(4)] + [killer])
        self.assertGreater(kills, 10)
        self.assertGreater(min(done), 0)
        self.server.wait_ready()

    def test_all_workers_killed_at_once(self):
        wanted = self.server.embed(["text"] * 200)
        thread_result = []
        thread = threading.Thread(target=lambda: thread_result.append(self.server.embed(["text"] * 200)))
        thread.start()
        time.sleep(0.05)
        for pid in self.server.workers():
            os.kill(pid, signal.SIGKILL)
        thread.join()
        self.assertEqual(thread_result, [wanted])

    def test_a_stopped_and_killed_worker_is_replaced(self):
        before = set(self.server.workers())
        for pid in before:
            os.kill(pid, signal.SIGSTOP)
            os.kill(pid, signal.SIGKILL)
        self.assertTrue(Server.wait(lambda: len(set(self.server.workers()) - before) == len(before), 10 * SLOW))
        self.server.embed(["text"])
        zombies = [p for p in children(self.server.process.pid) if not command(p)]
        self.assertEqual(zombies, [])

    def test_workers_end_with_the_server(self):
        with Server("--workers", "3") as s:
            workers = s.workers()
            self.assertEqual(len(workers), 4)  # and one for short work
            s.process.kill()
            s.process.wait()
            self.assertTrue(Server.wait(lambda: not any(is_alive(p) for p in workers), 1 * SLOW))


if __name__ == "__main__":
    main()
