"""From the start to the end: what is answered while the model loads, PROGRESS lines, the sidecar's way, options,
draining, signals, and every wrong start."""
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from pathlib import Path

from raw import BIN, MODELS, SLOW, Server, at_once, children, environment, is_alive, main

MINILM = MODELS / "minilm"


def run(*args, env=None, timeout=60):
    return subprocess.run([BIN, *map(str, args)], capture_output=True, env=env or environment(), timeout=timeout * SLOW,
                          stdin=subprocess.DEVNULL, check=False)


def progress(server):
    """The PROGRESS: events, each of which must be a line of its own."""
    events = []
    for line in server.stdout().splitlines():
        assert line.startswith("PROGRESS:{"), line
        events.append(json.loads(line[len("PROGRESS:"):]))
    return events


class Scratch(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory(prefix="pillion-http-")
        self.addCleanup(scratch.cleanup)
        self.dir = Path(scratch.name)


class Start(Scratch):
    def setUp(self):
        super().setUp()
        if not (MINILM / "config.json").exists():
            self.skipTest(f"no model in {MINILM}")
        self.cold = environment(XDG_CACHE_HOME=self.dir / "cache")

    def test_health_is_answered_and_work_is_held_while_the_model_is_compiled(self):
        with Server("--model", MINILM, ready=False, env=self.cold) as s:
            health = s.get("/health").json()
            self.assertEqual((health["status"], health["model_loaded"], health["model_loading"]), ("ok", False, True))
            self.assertEqual(s.get("/readyz").status, 503)
            self.assertEqual(s.get("/livez").status, 200)
            vectors, info = at_once([lambda: s.embed(["held"]), lambda: s.get("/info")])
            self.assertEqual((len(vectors[0]), info.status), (384, 200))
            self.assertEqual(info.json()["model_id"], str(MINILM))
            self.assertEqual(s.get("/health").json()["model_loaded"], True)
            self.assertEqual([e["type"] for e in progress(s)], ["model_cached", "model_loaded"])

    def test_a_compiled_model_starts_at_once_and_computes_the_same(self):
        with Server("--model", MINILM, env=self.cold) as s:
            first = s.embed(["the same"])
        with Server("--model", MINILM, env=self.cold) as s:
            self.assertEqual(s.embed(["the same"]), first)
        compiled = next((self.dir / "cache").rglob("*.safetensors"))
        with Server("--model", compiled, env=self.cold) as s:
            self.assertEqual(s.embed(["the same"]), first)

    def test_a_stop_while_compiling_leaves_nothing(self):
        with Server("--model", MINILM, ready=False, env=self.cold) as s:
            kids = children(s.process.pid)
            status, seconds = s.stop()
            self.assertEqual(status, 0)
            self.assertLess(seconds, 9 * SLOW)
            self.assertFalse([k for k in kids if is_alive(k)])
            self.assertFalse(list((self.dir / "cache").rglob("*.safetensors")))

    def test_damaged_weights_in_the_cache_are_compiled_again(self):
        with Server("--model", MINILM, env=self.cold) as s:
            first = s.embed(["the same"])
        compiled = next((self.dir / "cache").rglob("*.safetensors"))
        with open(compiled, "r+b") as f:
            header = json.loads(f.read(int.from_bytes(f.read(8), "little")))
            data = f.tell()
            f.seek(data + header["layer.0.qkv.weight"]["data_offsets"][0])
            f.write(b"\x7f" * 16)
        with Server("--model", MINILM, env=self.cold) as s:
            self.assertEqual(s.embed(["the same"]), first)
            s.stop()
            warnings = [line for line in s.stderr().splitlines() if "level=warn" in line]
            self.assertIn(f'reason="{compiled}: damaged', "".join(warnings))
        self.assertEqual(run("verify", compiled).returncode, 0)

    def test_a_damaged_compiled_file_is_an_error(self):
        run("compile", MINILM, self.dir / "m.safetensors", env=self.cold)
        data = (self.dir / "m.safetensors").read_bytes()
        (self.dir / "m.safetensors").write_bytes(data[: len(data) // 2])
        r = run("serve", "--port", 0, "--model", self.dir / "m.safetensors")
        self.assertEqual(r.returncode, 4, r.stderr)
        self.assertIn(b"m.safetensors", r.stderr.splitlines()[-1])

    def test_truncated_weights_are_announced_as_no_model_to_try(self):
        broken = self.dir / "broken"
        shutil.copytree(MINILM, broken, ignore=shutil.ignore_patterns("*.bin", "onnx", "openvino"))
        os.truncate(broken / "model.safetensors", 1 << 20)
        with Server("--model", broken, ready=False, env=self.cold) as s:
            self.assertEqual(s.process.wait(20 * SLOW), 4)
            self.assertIn("model.safetensors", s.stderr().splitlines()[-1])
            self.assertNotIn("try: curl", s.stderr())
            self.assertNotIn("model_loaded", s.stdout())
        with Server(env=self.cold) as s:
            self.assertTrue(s.wait(lambda: "try: curl" in s.stderr(), 5 * SLOW))

    def test_a_broken_model_directory_ends_the_server_with_its_reason(self):
        broken = self.dir / "broken"
        shutil.copytree(MINILM, broken, ignore=shutil.ignore_patterns("*.bin", "onnx", "openvino"))
        config = json.loads((broken / "config.json").read_text())
        config["model_type"] = "steam-engine"
        (broken / "config.json").write_text(json.dumps(config))
        with Server("--model", broken, ready=False, env=self.cold) as s:
            try:
                answer = s.post("/embed", '{"texts":["a"]}')
                self.assertEqual((answer.status, answer.json()), (503, {"detail": "Model not loaded"}))
            except (EOFError, OSError):
                pass  # it may be gone already
            self.assertEqual(s.process.wait(20 * SLOW), 4)
            self.assertIn("steam-engine", s.stderr().splitlines()[-1])

    def test_the_model_is_found_by_name_in_the_cache_of_the_hub(self):
        name = "sentence-transformers/paraphrase-multilingual-mpnet-base-v2"
        snapshot = self.dir / "hf/hub" / ("models--" + name.replace("/", "--")) / "snapshots/abc"
        snapshot.parent.mkdir(parents=True)
        snapshot.symlink_to(MINILM)
        (snapshot.parents[1] / "refs").mkdir()
        (snapshot.parents[1] / "refs/main").write_text("abc")
        env = dict(self.cold, HF_HOME=str(self.dir / "hf"))
        script = "/somewhere/embedding_sidecar/embed_server.py"
        with Server(first=(script,), env=env) as s:  # the sidecar's way: this is the default
            self.assertEqual(s.get("/info").json()["model_id"], name)
            cached, loaded = progress(s)
            self.assertEqual(cached, {"type": "model_cached", "data": {"model": name}})
            data = loaded["data"]
            self.assertEqual((loaded["type"], data["model"], data["dimensions"], data["from_cache"]),
                             ("model_loaded", name, 384, True))
            self.assertGreater(data["total_time_ms"], 0)
            self.assertIsInstance(data["load_time_ms"], float)


class Sidecar(Scratch):
    def test_check_deps(self):
        for argument in ("/x/embedding_sidecar/check_deps.py", "check_deps.py"):
            r = run(argument)
            self.assertEqual((r.returncode, r.stderr), (0, b""))
            self.assertEqual(r.stdout.count(b"\n"), 1)
            deps = json.loads(r.stdout)
            self.assertEqual((deps["all_present"], deps["deps"], deps["missing"]), (True, {}, []))
            self.assertIsInstance(deps["python_version"], str)

    def test_its_environment_and_options(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        env = environment(EMBED_MODEL="all-MiniLM-L6-v2", EMBED_HOST="127.0.0.1", EMBED_PORT=port, PYTHONUNBUFFERED=1)
        with Server(first=("x/embed_server.py",), listen=(), env=env) as s:
            self.assertEqual(s.address, ("127.0.0.1", port))
            self.assertEqual(s.get("/info").json()["model_id"], "all-MiniLM-L6-v2")
        with Server(first=("x/embed_server.py",), listen=("--port", "0"),
                    env=env) as s:  # an option beats the environment
            self.assertNotEqual(s.address[1], port)

    def test_it_ends_within_a_second_whatever_it_does(self):
        env = environment(EMBED_MODEL="all-MiniLM-L6-v2")
        with Server(first=("embed_server.py",), env=env) as s:
            with s.connect() as c:
                body = json.dumps({"texts": ["some words " * 100] * 2000})
                c.request("POST", "/embed", body, {"Content-Type": "application/json"})
                time.sleep(0.3)
                workers = s.workers()
                status, seconds = s.stop()
                self.assertEqual(status, 0)
                self.assertLess(seconds, 5 * SLOW)  # half of the usual drain
                answer = c.answer()
                self.assertEqual((answer.status, answer.json()), (503, {"detail": "The server is shutting down"}))
            self.assertFalse([w for w in workers if is_alive(w)])

    def test_the_model_that_is_not_there(self):
        env = environment(HOME=self.dir, HF_HOME=self.dir / "hf")
        r = run("embed_server.py", "--port", 0, env=env)
        self.assertEqual(r.returncode, 3)
        self.assertEqual((r.stdout, r.stderr.count(b"\n")), (b"", 1))
        for words in (b"paraphrase-multilingual-mpnet-base-v2", b"~/hf/hub", b"~/.cache/torch/sentence_transformers"):
            self.assertIn(words, r.stderr)


class End(Scratch):
    @staticmethod
    def is_open(server):
        """Whether it still lets somebody in."""
        try:
            server.connect().close()
        except OSError:
            return False
        return True

    def test_an_idle_server_ends_at_once(self):
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            with Server() as s, s.connect() as idle:
                idle.request("GET", "/health")
                idle.answer()
                workers = s.workers()
                status, seconds = s.stop(signum)
                self.assertEqual(status, 0)
                self.assertLess(seconds, 5 * SLOW)  # half of the drain; 2 ms on an idle machine
                self.assertTrue(idle.is_closed())
                self.assertFalse([w for w in workers if is_alive(w)])
                self.assertNotIn("died", s.stderr())

    def test_requests_in_progress_are_finished(self):
        """The workers stand still until the server is leaving: the requests are in progress then, however fast or slow
        this machine is."""
        with Server("--drain", "60") as s:
            self.assertTrue(s.wait(lambda: (h := s.get("/health").json())["workers"] == h["workers_ready"], 30 * SLOW))
            workers = s.workers()
            for pid in workers:
                os.kill(pid, signal.SIGSTOP)
            body, answers = json.dumps({"texts": ["some words"] * 20}), []

            def ask():
                with s.connect() as c:
                    c.request("POST", "/embed", body, {"Content-Type": "application/json"})
                    asked.release()
                    answers.append(c.answer())

            asked = threading.Semaphore(0)
            threads = [threading.Thread(target=ask) for _ in range(3)]
            for t in threads:
                t.start()
                asked.acquire()
            for _ in range(2):  # between the first answer and the second the server has read all that came before
                s.get("/health")
            s.process.send_signal(signal.SIGTERM)
            self.assertTrue(s.wait(lambda: not self.is_open(s), 30 * SLOW))
            self.assertEqual(answers, [])
            for pid in workers:
                os.kill(pid, signal.SIGCONT)
            self.assertEqual(s.process.wait(60 * SLOW), 0)
            for t in threads:
                t.join()
            self.assertEqual([a.status for a in answers], [200] * 3)
            self.assertEqual([a.headers["connection"] for a in answers], ["close"] * 3)

    def test_the_drain_has_an_end_and_a_second_signal_is_one(self):
        body = json.dumps({"texts": ["some words " * 100] * 3000})
        for twice in (False, True):
            with Server("--drain", "60" if twice else "1") as s, s.connect() as c:
                c.request("POST", "/embed", body, {"Content-Type": "application/json"})
                time.sleep(0.2)
                s.process.send_signal(signal.SIGTERM)
                time.sleep(0.2)
                start = time.monotonic()
                if twice:
                    s.process.send_signal(signal.SIGTERM)
                self.assertEqual(s.process.wait(30 * SLOW), 0)
                self.assertLess(time.monotonic() - start, 20 * SLOW)
                if not twice:
                    self.assertEqual(c.answer().status, 503)

    def test_shutdown_by_request(self):
        with Server() as s:
            self.assertEqual(s.get("/shutdown").json(), {"ok": True})
            self.assertEqual(s.process.wait(5 * SLOW), 0)

    def test_with_parent(self):
        starter = ("import os,subprocess,sys,time\n"
                   "p=subprocess.Popen(sys.argv[1:],stderr=sys.stdout,stdout=subprocess.DEVNULL)\n"
                   "os.write(1,b'%d\\n'%p.pid)\ntime.sleep(1000)")  # in one write: print may make two of it
        parent = subprocess.Popen([sys.executable, "-c", starter, BIN, "serve", "--port", "0", "--with-parent"],
                                  stdout=subprocess.PIPE, env=environment())
        self.addCleanup(parent.kill)
        lines = []  # the server's and one of its parent, in any order
        while not (any(line.strip().isdigit() for line in lines) and any(b" on http://" in line for line in lines)):
            lines.append(parent.stdout.readline())
            self.assertTrue(lines[-1], lines)
        pid = int(next(line for line in lines if line.strip().isdigit()))
        self.addCleanup(lambda: is_alive(pid) and os.kill(pid, signal.SIGKILL))
        parent.kill()
        parent.wait()
        parent.stdout.close()
        self.assertTrue(Server.wait(lambda: not is_alive(pid), 10 * SLOW))

    def test_a_closed_output_does_not_matter(self):
        read, write = os.pipe()
        os.close(read)
        with Server() as s:  # for its port only
            port = s.address[1]
        p = subprocess.Popen([BIN, "serve", "--port", str(port)], stdout=write, stderr=write, env=environment())
        os.close(write)
        try:
            s.address = ("127.0.0.1", port)

            def works():
                try:
                    return s.get("/readyz").status == 200
                except OSError:
                    return False

            self.assertTrue(Server.wait(works, 10 * SLOW))
        finally:
            p.terminate()
            self.assertEqual(p.wait(), 0)


class Wrong(Scratch):
    def fails(self, status, *args, says, env=None):
        r = run("serve", *args, env=env)
        message = r.stderr.decode()
        self.assertEqual(r.returncode, status, message)
        self.assertEqual(message.count("\n"), 1, message)
        self.assertTrue(message.startswith("pillion serve: "), message)
        self.assertIn(says, message)
        self.assertEqual(r.stdout, b"")

    def test_wrong_options(self):
        self.fails(2, "--port", "x", says="--port")
        self.fails(2, "--port", "65536", says="65535")
        self.fails(2, says="EMBED_PORT", env=environment(EMBED_PORT="eighty"))
        self.fails(2, "--workers", "100000", says="--workers")
        self.fails(2, "--precision", "f64", says="f64")
        self.fails(2, "--listen", "8421", says="HOST:PORT")
        self.fails(2, "--listen", "::1:80", says="[IPV6]:PORT")
        self.fails(2, "--listen", "x:99999", says="HOST:PORT")
        self.fails(2, "--listen", "unix:", says="unix:/path")
        self.fails(2, "--host", "no.such.host.invalid", says="no such host")
        self.fails(2, "text", says="unexpected argument")
        self.fails(2, "--nonsense", says="--nonsense")
        self.fails(4, "--precision", "int8", says="not in int8")
        self.fails(1, "--listen", "unix:" + "x" * 200, says="too long")

    def test_missing_models_and_folders(self):
        self.fails(3, "--model", self.dir / "nothing", says="no such model")
        self.fails(3, "--model", self.dir, says="config.json")
        self.fails(3, "--model", "org/unknown", says="org/unknown")
        self.fails(2, "--model", "a/b/c/d", says="a/b/c/d")
        self.fails(3, "--files-root", self.dir / "nothing", says="files root")
        (self.dir / "file").write_text("")
        self.fails(1, "--files-root", self.dir / "file", says="files root")

    def test_an_address_in_use(self):
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            start = time.monotonic()
            self.fails(98, "--port", other.getsockname()[1], says="address already in use")
            self.assertLess(time.monotonic() - start, 10 * SLOW)

    def test_an_address_that_was_just_left(self):
        with Server() as s:
            with s.connect() as c:
                c.request("GET", "/health", headers={"Connection": "close"})
                c.answer()
            port = s.address[1]
            s.stop()
        with Server(listen=("--port", str(port))) as s:
            self.assertEqual(s.address[1], port)

    def test_several_addresses(self):
        path = self.dir / "socket"
        with Server(listen=("--listen", "127.0.0.1:0", "--listen", "[::1]:0", "--listen", f"unix:{path}")) as s:
            self.assertEqual(s.stderr().count(" on "), 3)
            vectors = s.embed(["x"])
            s.address = str(path)
            self.assertEqual(s.embed(["x"]), vectors)


if __name__ == "__main__":
    main()
