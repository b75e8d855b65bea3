"""Everybody has a turn: others are served while a large body is parsed (by a thread) and while a large answer is
written. Against fake_server.c; the one test of the server that is worth running under ThreadSanitizer."""
import json
import platform
import tempfile
import threading
import time
import unittest
from pathlib import Path

from raw import SLOW, Server, at_once, main, without_calls

JSON = {"Content-Type": "application/json"}
MIB = 1 << 20


def embed_body(*texts, pad=0):
    return json.dumps({"texts": list(texts), "x": "x" * pad})


def health(server):
    return server.get("/health").json()


class Turns(unittest.TestCase):
    def test_others_are_served_while_large_answers_are_written(self):
        """An answer of 4 million numbers takes the listener some 300 ms. Nobody waits for the whole of it."""
        with Server.fake("dim=1024") as s, s.connect() as c:
            def ask():
                start = time.perf_counter()
                s.post("/embed", {"texts": ["a"] * 4096})
                return time.perf_counter() - start

            thread = threading.Thread(target=lambda: took.append(ask()))
            took, waits = [], []
            thread.start()
            while thread.is_alive():
                start = time.perf_counter()
                c.request("GET", "/health")
                self.assertEqual(c.answer().status, 200)
                waits.append(time.perf_counter() - start)
            thread.join()
            self.assertGreater(len(waits), 10)
            self.assertLess(max(waits), took[0] / 2)
            with s.connect() as gone:  # and one whose client leaves in the middle of it
                gone.request("POST", "/embed", json.dumps({"texts": ["a"] * 4096}), JSON)
                time.sleep(0.1)
            self.assertTrue(Server.wait(lambda: health(s)["in_flight_bytes"] < MIB, 20 * SLOW))

    def test_others_are_served_while_several_large_answers_are_written(self):
        """They take turns with each other and with everybody else, however many they are."""
        with Server.fake("dim=1024") as s, s.connect() as c:
            writing = [s.connect() for _ in range(4)]
            for w in writing:  # so long that all four are there before one of them is answered
                w.request("POST", "/embed", json.dumps({"texts": [f"wait:{3000 * SLOW}"] + ["a"] * 4095}), JSON)
            threads = [threading.Thread(target=w.answer) for w in writing]
            for t in threads:
                t.start()
            self.assertTrue(Server.wait(lambda: health(s)["texts_waiting"] == 4 * 4096, 20 * SLOW))
            waits, start = [], None
            while any(t.is_alive() for t in threads):
                asked = time.perf_counter()
                c.request("GET", "/health")
                if c.answer().json()["texts_waiting"] < 4 * 4096:
                    start = start or asked
                    waits.append(time.perf_counter() - asked)
            took = time.perf_counter() - start
            for w in writing:
                w.close()
            self.assertGreater(len(waits), 40)
            self.assertLess(max(waits), took / 8)

    def test_others_are_served_while_large_bodies_are_parsed(self):
        """15 MiB take some 150 ms to parse. Nobody waits for the whole of it, and four at once all are answered."""
        with Server.fake() as s, s.connect() as c:
            body = embed_body("a", "x" * (3 * MIB), pad=12 * MIB).encode()
            start = time.perf_counter()
            self.assertEqual(s.post("/embed", body).json()["vectors"][1][0], 3 * MIB)
            alone = time.perf_counter() - start
            answers, waits = [], []
            threads = [threading.Thread(target=lambda: answers.append(s.post("/embed", body))) for _ in range(4)]
            for t in threads:
                t.start()
            while any(t.is_alive() for t in threads):
                start = time.perf_counter()
                c.request("GET", "/health")
                self.assertEqual(c.answer().status, 200)
                waits.append(time.perf_counter() - start)
            self.assertEqual([a.status for a in answers], [200] * 4)
            self.assertGreater(len(waits), 10)
            self.assertLess(max(waits), max(2 * alone, 0.5))

    def ask_for_file(self, c, path):
        c.request("POST", "/embed-file", json.dumps({"path": str(path)}), JSON)

    def test_others_are_served_while_a_large_document_is_digested(self):
        """16 MiB take some 150 ms to parse, to squash and to cut. Their reader gives way to everybody: so do we."""
        with tempfile.TemporaryDirectory(prefix="pillion-turns-") as root, Server.fake(f"root={root}") as s, \
                s.connect() as c, s.connect() as large:
            path = Path(root) / "large.txt"
            path.write_text('many "words" ' * (16 * MIB // 13))
            start = time.perf_counter()
            self.ask_for_file(large, path)
            answers, waits = [], []
            thread = threading.Thread(target=lambda: answers.append(large.answer()))
            thread.start()
            while thread.is_alive():
                asked = time.perf_counter()
                c.request("GET", "/health")
                self.assertEqual(c.answer().status, 200)
                waits.append(time.perf_counter() - asked)
                time.sleep(0.002)
            took = time.perf_counter() - start
            self.assertEqual(len(answers[0].json()["chunks"]), 200)
            self.assertLess(max(waits), took / 8)
            for i in range(4):  # and some whose client leaves at any time
                with s.connect() as gone:
                    self.ask_for_file(gone, path)
                    time.sleep(took * i / 4)
            self.assertTrue(Server.wait(lambda: health(s)["in_flight_bytes"] < MIB, 20 * SLOW))
            self.ask_for_file(large, path)  # the end of the server does not trip over it
            time.sleep(took / 2)
            s.process.terminate()
            self.assertEqual(s.process.wait(20 * SLOW), 0, s.stderr())

    def test_clients_that_leave_while_their_body_is_parsed_harm_nobody(self):
        body = embed_body("a", pad=8 * MIB).encode()
        with Server.fake() as s:
            for i in range(12):
                with s.connect() as c:
                    c.request("POST", "/embed", body, JSON)
                    time.sleep(0.01 * (i % 4))
            self.assertEqual(s.post("/embed", body).status, 200)
            self.assertTrue(Server.wait(lambda: health(s)["in_flight_bytes"] < MIB, 20 * SLOW))
            left = [s.connect() for _ in range(4)]
            for c in left:  # the end of the server does not wait for them, nor trip over them
                c.request("POST", "/embed", body, JSON)
            s.process.terminate()
            self.assertEqual(s.process.wait(20 * SLOW), 0, s.stderr())
            for c in left:
                c.close()

    def test_without_threads_large_bodies_are_parsed_all_the_same(self):
        if platform.machine() != "x86_64" or SLOW > 1:
            self.skipTest("the numbers of clone and clone3 are those of x86-64; a sanitizer needs them itself")
        with Server.fake(wrapper=without_calls(56, 435)) as s:
            answers = at_once([lambda: s.post("/embed", embed_body("a", pad=2 * MIB)) for _ in range(6)])
            self.assertEqual([a.status for a in answers], [200] * 6)
            self.assertEqual(s.post("/embed", "[" * MIB).status, 422)


if __name__ == "__main__":
    main(needs_model=False)
