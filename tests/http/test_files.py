"""/embed-file and /ocr: what may be read, chunks, errors, documents that hang, and tools that are not there. Rows X7
and X8 of the plan."""
import json
import os
import random
import shutil
import signal
import socket
import statistics
import subprocess
import tempfile
import threading
import time
import unittest
from pathlib import Path

from raw import SLOW, Server, at_once, children, command, environment, main, state, without_calls

OPENAT2 = 437  # the same on every architecture
POPPLER = all(map(shutil.which, ("pdfinfo", "pdftotext")))
OCR = POPPLER and all(map(shutil.which, ("pdftoppm", "tesseract")))


def pdf(*pages, size=24, last_box="612 792"):
    """A PDF with one line of ASCII text of that size on each page; a page of None has no text. last_box: how large the
    last page is."""
    objects = [b"<</Type/Catalog/Pages 2 0 R>>",
               b"<</Type/Pages/Kids[%s]/Count %d>>" % (b" ".join(b"%d 0 R" % (4 + 2 * i)
                                                       for i in range(len(pages))), len(pages)),
               b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"]
    for i, text in enumerate(pages):
        stream = b"BT /F1 %d Tf 50 700 Td (%s) Tj ET" % (size, text.encode()) if text is not None else b""
        objects.append(
            b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 %s]/Resources<</Font<</F1 3 0 R>>>>"
            b"/Contents %d 0 R>>" % ((last_box if i == len(pages) - 1 else "612 792").encode(), 5 + 2 * i))
        objects.append(b"<</Length %d>>stream\n%s\nendstream" % (len(stream), stream))
    out, places = b"%PDF-1.4\n", []
    for i, body in enumerate(objects):
        places.append(len(out))
        out += b"%d 0 obj%s endobj\n" % (i + 1, body)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1) + \
                                                   b"".join(b"%010d 00000 n \n" % p for p in places)
    return out + b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, start)


def chunks(text, size=800, overlap=100, limit=200):
    """The sidecar's rule, in the words of its protocol."""
    text, found, start = " ".join(text.split()), [], 0
    while start < len(text):
        end = min(start + size, len(text))
        found.append(text[start:end])
        if end == len(text):
            break
        start = max(end - overlap, start + 1)
    return found[:limit]


class Case(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        scratch = tempfile.TemporaryDirectory(prefix="pillion-files-")
        cls.addClassCleanup(scratch.cleanup)
        cls.dir = Path(scratch.name)
        cls.root = cls.dir / "root"
        cls.root.mkdir()
        cls.make()
        cls.server = Server("--files-root", cls.root, "--files-root", cls.dir / "second")
        cls.addClassCleanup(cls.server.__exit__)

    @classmethod
    def make(cls):
        (cls.dir / "second").mkdir()

    def put(self, name, data):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return str(path)

    def embed_file(self, path, **fields):
        return self.server.post("/embed-file", {"path": str(path), **fields})

    def assert_detail(self, answer, status, *words):
        self.assertEqual(answer.status, status, answer)
        for w in words:
            self.assertIn(w, answer.json()["detail"])

    def assert_chunks(self, answer, wanted, **fields):
        self.assertEqual(answer.status, 200, answer)
        self.assertEqual(list(answer.json()), ["chunks", "vectors"])
        self.assertEqual(answer.json()["chunks"], wanted)
        self.assertEqual(answer.json()["vectors"], self.server.embed(wanted, **fields))


class Texts(Case):
    def test_a_text_is_cut_into_chunks(self):
        rng = random.Random(1)
        text = "".join(rng.choice(["word ", "ünï ", "\n\n", "\t ", "長い文 ", "x" * 30 + " "]) for _ in range(900))
        path = self.put("a.txt", text)
        self.assert_chunks(self.embed_file(path), chunks(text))
        self.assert_chunks(self.embed_file(path, chunk_size=51, chunk_overlap=0, max_chunks=7), chunks(text, 51, 0, 7))
        self.assert_chunks(self.embed_file(path, chunk_size=60, chunk_overlap=2000,
                           max_chunks=9), chunks(text, 60, 2000, 9))
        self.assert_chunks(self.embed_file(path, chunk_size="4000", normalize="no"),
                           chunks(text, 4000), normalize=False)

    def test_small_and_strange_texts(self):
        self.assert_chunks(self.embed_file(self.put("B.TXT", b"caf\xe9 \xff ol\xc3\xa9\0!")), ["caf olé\0!"])
        self.assert_chunks(self.embed_file(self.put("dir with blanks/ü.txt", " one line ")), ["one line"])
        for empty in ("", " \n\t\u3000\u00a0", b"\xff\xfe"):
            self.assert_detail(self.embed_file(self.put("empty.txt", empty)), 400, "Empty text extracted")

    def test_what_is_not_there_or_not_a_document(self):
        missing = str(self.root / "missing.txt")
        self.assert_detail(self.embed_file(missing), 404, "File not found: " + missing)
        self.assert_detail(self.embed_file(self.root / "missing.doc"), 404, "File not found")
        self.assert_detail(self.embed_file(self.put("a.md", "text")), 415, "Unsupported file type: ")
        self.assert_detail(self.embed_file(self.put("txt", "text")), 415)
        (self.root / "folder.txt").mkdir(exist_ok=True)
        self.assert_detail(self.embed_file(self.root / "folder.txt"), 415)
        self.assert_detail(self.embed_file(self.put("a.txt", "x") + "/b.txt"), 404)
        self.assert_detail(self.embed_file(self.root / ("n" * 300 + ".txt")), 404)
        os.mkfifo(self.root / "fifo.txt")
        start = time.monotonic()
        self.assert_detail(self.embed_file(self.root / "fifo.txt"), 415)
        self.assertLess(time.monotonic() - start, 1 * SLOW)

    def test_many_at_once(self):
        paths = [self.put(f"many/{i}.txt", f"text number {i}") for i in range(24)]
        for i, answer in enumerate(at_once([lambda p=p: self.embed_file(p) for p in paths])):
            self.assertEqual(answer.json()["chunks"], [f"text number {i}"])

    def test_a_client_that_leaves_takes_its_reader_along(self):
        path = self.put("big.txt", "many words " * 2000000)
        for _ in range(6):
            with self.server.connect() as c:
                c.request("POST", "/embed-file", '{"path":"%s","max_chunks":10000}' %
                          path, {"Content-Type": "application/json"})
                time.sleep(0.02)
        def readers():
            return [p for p in children(self.server.process.pid) if b"extract" in command(p)]

        self.assertTrue(Server.wait(lambda: not readers(), 5 * SLOW))
        self.assertEqual(self.server.embed(["still here"])[0][:1], self.server.embed(["still here"])[0][:1])


    def test_a_stop_begins_no_further_reader(self):
        path = self.put("long.txt", "many words " * 3000000)
        mark = f"/marked-{os.getpid()}"  # readers get PATH and nothing else
        env = environment(PATH=os.environ["PATH"] + ":" + mark)

        def readers():
            found = []
            for p in Path("/proc").iterdir():
                try:
                    if p.name.isdigit() and b"role=extract" in command(p.name):
                        found += [p.name] if mark.encode() in (p / "environ").read_bytes() else []
                except OSError:
                    pass  # it has just gone
            return found

        with Server("--files-root", self.root, "--drain", "0", env=env) as s:
            waiting = [s.connect() for _ in range(12)]
            for c in waiting:
                c.request("POST", "/embed-file", json.dumps({"path": path, "max_chunks": 10000}),
                          {"Content-Type": "application/json"})
            self.assertTrue(Server.wait(readers, 10 * SLOW))
            self.assertEqual(s.stop()[0], 0)
            for c in waiting:
                c.close()

        self.assertTrue(Server.wait(lambda: not readers(), 5 * SLOW))


class Memory(unittest.TestCase):
    def test_chunks_that_overlap_count_as_often_as_they_are_in_the_answer(self):
        """12,000 characters in 10,000 chunks of 2,000 each: 20 MB of answer, known before anything is computed."""
        mib, fields = 1 << 20, {"chunk_size": 2000, "chunk_overlap": 2000, "max_chunks": 10000}
        with tempfile.TemporaryDirectory(prefix="pillion-files-") as root, \
                Server.fake(f"root={root}", f"in_flight={16 * mib}") as s, s.connect() as c:
            path = Path(root) / "a.txt"
            path.write_text(f"wait:{3000 * SLOW} " + "x" * 12000)
            body = json.dumps({"path": str(path), **fields})
            c.request("POST", "/embed-file", body, {"Content-Type": "application/json"})

            def health():
                return s.get("/health").json()

            self.assertTrue(Server.wait(lambda: health()["texts_waiting"], 10 * SLOW))
            self.assertGreaterEqual(health()["in_flight_bytes"], 10000 * 2000)
            answer = s.post("/embed-file", body)
            self.assertEqual((answer.status, answer.headers["retry-after"]), (503, "1"))
            answer = c.answer()
            self.assertEqual(answer.status, 200)
            text = path.read_text()
            self.assertEqual(answer.json()["chunks"], [text[i:i + 2000] for i in range(10000)])
            self.assertTrue(Server.wait(lambda: health()["in_flight_bytes"] < mib, 10 * SLOW))


def own_address():
    """An address of this machine that is not 127.0.0.1, or None."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        try:
            s.connect(("198.51.100.1", 9))  # nothing is sent
            return s.getsockname()[0]
        except OSError:
            return None


class Queue(unittest.TestCase):
    """Documents that wait for their turn. One that begins with "stop" is never read to its end: see fake_server.c."""

    @classmethod
    def setUpClass(cls):
        scratch = tempfile.TemporaryDirectory(prefix="pillion-files-")
        cls.addClassCleanup(scratch.cleanup)
        cls.root = scratch.name
        for name in ("stop", "text"):
            Path(cls.root, name + ".txt").write_text(name)

    def ask(self, c, route, name, **kw):
        c.request("POST", route, json.dumps({"path": f"{self.root}/{name}.txt"}),
                  {"Content-Type": "application/json"}, **kw)
        return c

    def readers(self, server, n):
        def stopped():
            found = [p for p in children(server.process.pid) if state(p)[0] == "T"]
            return found if len(found) == n else None

        return Server.wait(stopped, 10 * SLOW)

    def test_a_document_whose_turn_does_not_come_is_refused_for_now(self):
        with Server.fake(f"root={self.root}", "document_ms=500") as s:
            running = [self.ask(s.connect(), "/embed-file", "stop") for _ in range(2)]
            self.assertTrue(self.readers(s, 2))
            start = time.monotonic()
            for route in ("/embed-file", "/ocr/detect", "/ocr/extract"):
                with s.connect() as c:
                    answer = self.ask(c, route, "text").answer()
                    self.assertEqual((answer.status, answer.headers["retry-after"]), (503, "5"), answer)
            self.assertGreater(time.monotonic() - start, 1.4)
            for pid in self.readers(s, 2):
                os.kill(pid, signal.SIGKILL)
            self.assertEqual([c.answer().status for c in running], [500, 500])
            self.assertEqual(self.ask(running[0], "/embed-file", "text").answer().status, 200)
            for c in running:
                c.close()

    def test_texts_do_not_wait_for_scans(self):
        with Server.fake(f"root={self.root}") as s, s.connect() as c:
            scans = [self.ask(s.connect(), "/ocr/extract", "stop") for _ in range(3)]
            self.assertTrue(self.readers(s, 1))
            for _ in range(5):
                self.assertEqual(self.ask(c, "/embed-file", "text").answer().status, 200)
            pid, = self.readers(s, 1)  # the others have waited for it
            os.kill(pid, signal.SIGKILL)
            self.assertEqual(scans[0].answer().status, 500)
            self.assertTrue(Server.wait(lambda: (self.readers(s, 1) or [pid]) != [pid], 10 * SLOW))
            for scan in scans:
                scan.close()

    def test_a_client_with_many_documents_leaves_the_others_their_turn(self):
        address = own_address()
        if not address:
            self.skipTest("this machine has no address but 127.0.0.1")
        with Server.fake(f"root={self.root}", "listen=0.0.0.0") as s:
            s.address = address, s.address[1]
            many = [self.ask(s.connect(), "/embed-file", "stop", host=address) for _ in range(12)]
            first = self.readers(s, 2)
            s.address = "127.0.0.1", s.address[1]
            with s.connect(timeout=10) as c:
                self.ask(c, "/embed-file", "text")
                time.sleep(0.2 * SLOW)
                os.kill(first[0], signal.SIGKILL)
                self.assertEqual(c.answer().status, 200)
            for m in many:
                m.close()


class Walls(Case):
    @classmethod
    def make(cls):
        (cls.dir / "second").symlink_to(cls.dir / "real")
        (cls.dir / "real").mkdir()
        (cls.dir / "secret.txt").write_text("secret")
        (cls.dir / "root-but-longer").mkdir()
        (cls.dir / "root-but-longer/a.txt").write_text("secret")

    outside = "Only files below a --files-root folder are read, and no links"

    def test_nothing_outside_is_read_and_nothing_is_told_about_it(self):
        self.put("in.txt", "inside")
        self.put("a/in.txt", "inside")
        (self.root / "out.txt").symlink_to(self.dir / "secret.txt")
        (self.root / "etc").symlink_to("/etc")
        (self.root / "up").symlink_to("..")
        (self.root / "loop.txt").symlink_to("loop.txt")
        (self.root / "nowhere.txt").symlink_to("/nonexistent/x.txt")
        (self.root / "link.txt").symlink_to("in.txt")
        (self.root / "hard.txt").hardlink_to(self.dir / "secret.txt")
        answers = set()
        for path in (self.dir / "secret.txt", self.dir / "missing.txt", "/etc/passwd", "/etc/missing",
                     "/nonexistent/x.txt",
                     self.root / "../secret.txt", self.root / "../missing.txt", self.root / "a/../../secret.txt",
                     self.root / "out.txt", self.root / "up/secret.txt", self.root / "up/missing.txt",
                     self.root / "etc/hostname",
                     self.root / "nowhere.txt", self.root / "loop.txt", self.root / "link.txt", self.root / "hard.txt",
                     self.root, str(self.root) + "/", "%2e%2e/secret.txt", "..\\secret.txt", "/", "",
                     "secret.txt", ".", "..", str(self.root) + "-but-longer/a.txt", "/proc/self/environ",
                     "/proc/self/fd/0", "~/x.txt",
                     "file://" + str(self.root / "in.txt"), str(self.root / "in.txt") + "\0.txt", "\0"):
            for route in ("/embed-file", "/ocr/detect", "/ocr/extract"):
                answer = self.server.post(route, {"path": str(path)})
                answers.add((answer.status, answer.body, tuple(sorted(set(answer.headers) - {"date"}))))
        self.assertEqual(len(answers), 1, answers)
        self.assert_detail(self.embed_file("/etc/passwd"), 403, self.outside)

    def test_every_way_to_the_inside_works(self):
        path = self.put("sub/in.txt", "inside")
        (self.dir / "real/r.txt").write_text("real")
        for good, text in ((path, "inside"), (self.root / "sub/../sub//in.txt", "inside"),
                           (str(self.root) + "//sub/./in.txt", "inside"), (self.dir / "second/r.txt", "real"),
                           (self.dir / "real/r.txt", "real")):
            answer = self.embed_file(good)
            self.assertEqual((answer.status, answer.json().get("chunks")), (200, [text]), good)

    def escapes(self, *wrapper):
        """Asks thousands of times for a file below a folder that is now itself, now a link to the outside. Inside there
        is no such file (404), a link is refused (403); anything else was read outside."""
        (self.root / "swap").mkdir(exist_ok=True)
        (self.root / "swap/folder").mkdir(exist_ok=True)
        (self.dir / "outside").mkdir(exist_ok=True)
        (self.dir / "outside/secret.md").write_text("secret")
        stop = threading.Event()

        def swap():
            folder, link, aside = (self.root / "swap" / n for n in ("folder", "link", "aside"))
            while not stop.is_set():
                link.symlink_to(self.dir / "outside")
                folder.rename(aside)
                link.rename(folder)
                folder.unlink()
                aside.rename(folder)

        body = json.dumps({"path": str(self.root / "swap/folder/secret.md")})
        seen = {}
        with Server.fake(f"root={self.root}", wrapper=wrapper) as s, s.connect() as c:
            thread = threading.Thread(target=swap)
            thread.start()
            try:
                for _ in range(8000 // SLOW):
                    c.request("POST", "/embed-file", body, {"Content-Type": "application/json"})
                    status = c.answer().status
                    seen[status] = seen.get(status, 0) + 1
            finally:
                stop.set()
                thread.join()
        return seen

    def test_x7_a_folder_that_changes_into_a_link_never_leads_out(self):
        for wrapper in ((), without_calls(OPENAT2)):
            seen = self.escapes(*wrapper)
            self.assertEqual(set(seen), {403, 404}, seen)

    def test_x7_without_openat2_the_walls_are_the_same(self):
        self.put("old/in.md", "inside")
        (self.root / "old/link.md").symlink_to("in.md")
        (self.root / "old/up").symlink_to("..")
        with Server.fake(f"root={self.root}", wrapper=without_calls(OPENAT2)) as s:
            for path, status in (("old/in.md", 415), ("old//./in.md", 415), ("old/missing.md", 404),
                                 ("old/link.md", 403), ("old/up/in.md", 403), ("old/in.md/x", 404),
                                 ("old/../in.md", 403), ("../secret.txt", 403), ("old/..", 403),
                                 ("n" * 300, 404), ("old", 415)):
                answer = s.post("/embed-file", {"path": f"{self.root}/{path}"})
                self.assertEqual(answer.status, status, path)

    def test_x7_nothing_of_the_system_is_read_even_if_everything_is_allowed(self):
        with Server.fake("root=/") as s:
            for path in ("/proc/self/environ", "/dev/random", "/dev/zero", "/dev/stdin", "/proc/self/fd/0", "/etc"):
                start = time.monotonic()
                answer = s.post("/embed-file", {"path": path})
                self.assertIn(answer.status, (403, 404, 415), path)
                self.assertLess(time.monotonic() - start, 5 * SLOW)
                self.assertEqual(list(answer.json()), ["detail"])

    def test_x8_what_is_outside_looks_the_same_whether_it_exists_or_not(self):
        times, bodies = {0: [], 1: []}, set()
        with Server.fake(f"root={self.root}") as s, s.connect() as c:
            for i in range(4000 // SLOW):
                body = json.dumps({"path": str(self.dir / ("secret.txt", "absent.txt")[i % 2])})
                start = time.perf_counter()
                c.request("POST", "/embed-file", body, {"Content-Type": "application/json"})
                answer = c.answer()
                times[i % 2].append(time.perf_counter() - start)
                bodies.add((answer.status, answer.body))
        self.assertEqual(len(bodies), 1)
        existing, missing = (statistics.median(t) for t in times.values())
        self.assertLess(abs(existing - missing), 0.001 * SLOW)

    def test_folders_from_the_environment(self):
        (self.dir / "e.txt").write_text("env")
        env = environment(EMBED_FILE_ROOTS=f"{self.root},{self.dir}")
        with Server(env=env) as s:
            self.assertEqual(s.post("/embed-file", {"path": str(self.dir / "e.txt")}).json()["chunks"], ["env"])
        with Server("--files-root", "/") as s:
            self.assertEqual(s.post("/embed-file", {"path": str(self.dir / "e.txt")}).json()["chunks"], ["env"])

    def test_a_path_may_be_relative_to_where_the_server_runs(self):
        self.put("rel.txt", "relative")
        relative = os.path.relpath(self.root / "rel.txt")
        with Server("--files-root", os.path.relpath(self.root)) as s:
            for path in (relative, str(self.root / "rel.txt")):
                self.assertEqual(s.post("/embed-file", {"path": path}).status, 200)


class Documents(Case):
    def test_pdf(self):
        if not POPPLER:
            self.skipTest("poppler-utils is not installed")
        path = self.put("two.PDF", pdf("Hello first page", "and the second"))
        self.assert_chunks(self.embed_file(path), ["Hello first page and the second"])

    def test_scans_are_told_from_texts(self):
        if not POPPLER:
            self.skipTest("poppler-utils is not installed")
        for pages, scanned in ((["x" * 60], False), (["x" * 40], True), ([None, None], True), (["x" * 99, None], True),
                               (["x" * 120, None], False)):
            answer = self.server.post("/ocr/detect", {"path": self.put("d.pdf", pdf(*pages, size=6))})
            self.assertEqual(answer.json(), {"is_scanned": scanned,
                             "page_count": len(pages), "method": "text_extraction"})

    def test_recognition(self):
        if not OCR:
            self.skipTest("tesseract-ocr or poppler-utils is not installed")
        path = self.put("ocr.pdf", pdf("RECOGNISE THIS", "PAGE TWO"))
        answer = self.server.post("/ocr/extract", {"path": path, "recognition_level": "fast"})
        self.assertEqual(answer.status, 200, answer)
        result = answer.json()
        self.assertEqual(list(result), ["text", "pages", "confidence"])
        self.assertEqual([" ".join(p.split()) for p in result["pages"]], ["RECOGNISE THIS", "PAGE TWO"])
        self.assertEqual(result["text"], "\n\n".join(result["pages"]))
        self.assertTrue(0.5 < result["confidence"] <= 1)

    def test_pages_that_cannot_be_recognised_are_named(self):
        if not OCR:
            self.skipTest("tesseract-ocr or poppler-utils is not installed")
        path = self.put("huge.pdf", pdf("PAGE ONE", "TOO LARGE TO DRAW", last_box="14000 14000"))
        answer = self.server.post("/ocr/extract", {"path": path, "recognition_level": "fast"})
        self.assertEqual(answer.status, 200, answer)
        result = answer.json()
        pages = [" ".join(p.split()) for p in result["pages"]]
        self.assertEqual((pages, result["failed_pages"]), (["PAGE ONE", ""], [2]))

    def test_damaged_documents(self):
        if not POPPLER:
            self.skipTest("poppler-utils is not installed")
        whole = pdf("text")
        for data in (b"", b"not a pdf", whole[:30], b"%PDF-1.4\n" + os.urandom(5000)):
            path = self.put("bad.pdf", data)
            for route in ("/embed-file", "/ocr/detect"):
                answer = self.server.post(route, {"path": path})
                self.assertIn(answer.status, (422, 400), answer)
                self.assertIsInstance(answer.json()["detail"], str)
        self.assertEqual(self.server.get("/readyz").status, 200)

    def test_a_language_that_is_not_installed_is_named_with_its_package(self):
        if not OCR:
            self.skipTest("tesseract-ocr or poppler-utils is not installed")
        known = subprocess.run(["tesseract", "--list-langs"], capture_output=True, check=True).stdout.decode().split()
        tag, name = next((t, n) for t, n in (("yi", "yid"), ("dz", "dzo"), ("dv", "div"), ("xx", "")) if n not in known)
        path = self.put("l.pdf", pdf("text"))
        self.assert_detail(self.server.post("/ocr/extract", {"path": path, "language": tag}), 501,
                           f"tesseract-ocr-{name}")
        self.assert_detail(self.server.post("/ocr/extract", {"path": path, "language": "xx"}), 422, "no such language")

    def test_languages_are_names_and_not_options(self):
        path = self.put("l.pdf", pdf("text"))
        for language in ("--timeout-ms=1", "-x", "", "a b", "../x", "en\0US", "x" * 40, "ü"):
            answer = self.server.post("/ocr/extract", {"path": path, "language": language})
            self.assert_detail(answer, 422, "language must look like")

    def test_tools_that_are_not_installed_are_named(self):
        path = self.put("t.pdf", pdf("text"))
        with Server("--files-root", self.root, env=environment(PATH="/nonexistent")) as s:
            for route, package in (("/embed-file", "poppler-utils"), ("/ocr/detect", "poppler-utils"),
                                   ("/ocr/extract", "")):
                self.assert_detail(s.post(route, {"path": path}), 501, "is not installed", package)
            self.assertEqual(s.post("/embed-file", {"path": self.put("t.txt", "text")}).status, 200)


if __name__ == "__main__":
    main()
