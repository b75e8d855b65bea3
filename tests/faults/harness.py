"""What every row uses: the table of rows, the servers that they start, and the one judge of a run.

A row is a function with its id in front of its name:

    @row("W1", "CN", "kill -9 of workers at random phases under load")
    def w1_kill_workers(run): ...

The letters are the tiers that it belongs to: C commit, N night, R release. It raises Failed (or any exception) when the
server did what it must not; returns when all is well; raises Skip with a reason when this machine cannot show it. What
it measures goes to run.figure(). Only Python's standard library is used."""
import itertools
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "http"))
import nano  # noqa: E402
import watch  # noqa: E402
from ledger import Book, Ledger, Wire, split_vectors  # noqa: E402
from raw import BIN, MODELS, SLOW, Server, environment  # noqa: E402

ROWS = {}  # id: Row
TIERS = {"commit": "C", "night": "N", "release": "R"}
FORK = multiprocessing.get_context("fork")  # a job needs nothing of what it uses to be pickled
DEATH = re.compile(r'msg="worker (?:died|lied|killed)"[^\n]*')


class Failed(AssertionError):
    pass


class Skip(Exception):
    pass


def preload(name):
    """A library of this folder that is loaded into the program with LD_PRELOAD."""
    library = Path(os.environ.get("PILLION_FAULTS_LIBS", Path(BIN).parent / "tests")) / f"libpil_{name}.so"
    if not library.exists():
        raise Skip(f"{library.name} is not built")
    return library


class Row:
    def __init__(self, name, tiers, about, function):
        self.name, self.tiers, self.about, self.function = name, tiers, about, function
        self.group = Path(function.__code__.co_filename).stem.removeprefix("rows_")


def row(name, tiers, about):
    def add(function):
        assert name not in ROWS, name
        ROWS[name] = Row(name, tiers, about, function)
        return function

    return add


class Fault(Server):
    """A server under observation. Leaving its `with` block normally asks the judge; with an exception it just ends."""

    def __init__(self, run, *args, faults=False, prefix=(), listen=("--port", "0"), env=None, ready=True):
        """faults: the build with markers. prefix: words in front of the command, such as taskset. env: in addition."""
        self.run = run
        self.kills = 0  # deaths of workers that the row has caused: one line of the log for each
        self.seen, self.killed = set(), set()
        self.log, self.out = tempfile.TemporaryFile(), tempfile.TemporaryFile()
        self.started, self.address = time.monotonic(), None
        program = run.faults_program() if faults else BIN
        self.process = subprocess.Popen([*prefix, program, "serve", *listen, *map(str, args)], stdin=subprocess.DEVNULL,
                                        stdout=self.out, stderr=self.log,
                                        env=environment(XDG_CACHE_HOME=run.cache, **(env or {})))
        self.wait(lambda: self.find_address() or self.process.poll() is not None, 30 * SLOW)
        if ready:
            run.check(self.address, f"the server did not start: {self.stderr()[-500:]}")
            self.wait_ready()

    @property
    def pid(self):
        return self.process.pid

    def workers(self):
        found = watch.workers(self.pid)
        self.seen.update(found)
        return found

    def wait_workers(self, n=None, seconds=60):
        """Waits until n workers live (all that were asked for)."""
        n = n or self.run.workers_of(self)
        ok = self.wait(lambda: len(self.workers()) >= n, seconds * SLOW, 0.01)
        self.run.check(ok, f"{len(self.workers())} of {n} workers after {seconds} s")

    def kill(self, pid, signum=signal.SIGKILL):
        """Kills a worker; False when that was done already, or it was gone."""
        life = (pid, watch.born(pid))
        if life in self.killed or watch.state(pid)[1] != self.pid or not watch.is_alive(pid):
            return False
        os.kill(pid, signum)
        self.killed.add(life)
        self.seen.add(pid)
        self.kills += 1
        return True

    def deaths(self):
        return len(self.death_lines())

    def death_lines(self):
        """What the log says about workers that ended unasked."""
        return DEATH.findall(self.stderr())

    @staticmethod
    def _all(f):
        parts, at = [], 0
        while data := os.pread(f.fileno(), 1 << 24, at):
            parts.append(data)
            at += len(data)
        return b"".join(parts).decode(errors="replace")

    def judge(self):
        """Stops the server and says what is left behind."""
        run = self.run
        if self.process.poll() is None:
            self.wait(lambda: not watch.zombies(self.pid), 5 * SLOW, 0.02)
            run.check(not watch.zombies(self.pid), f"zombies: {watch.zombies(self.pid)}")
            self.workers()
            status, seconds = self.stop(seconds=60)
            run.check(status == 0, f"the server ended with status {status} after {seconds:.1f} s")
        left = self.wait(lambda: not [p for p in self.seen if watch.is_alive(p) and b"pillion" in watch.command(p)],
                         5 * SLOW, 0.02)
        run.check(left, f"workers outlived their server: {[p for p in self.seen if watch.is_alive(p)]}")

    def __exit__(self, kind, *rest):
        try:
            if kind is None:
                self.judge()
            else:
                self.run.keep_log(self)
        finally:
            for pid in list(self.seen):
                if watch.is_alive(pid) and b"--role=worker" in watch.command(pid) and watch.state(pid)[1] == self.pid:
                    os.kill(pid, signal.SIGCONT)
            super().__exit__(kind, *rest)


class Run:
    """One row's run: its seed, its scratch folder, what it checks and what it measures."""

    models, books = {}, {}  # made once for all rows of a process

    def __init__(self, row, options):
        self.row, self.options = row, options
        self.seed = options.seed
        self.random = random.Random(f"{options.seed}/{row.name}")
        self.tier = options.tier
        self.figures = {}
        self.out = Path(options.out).parent
        self.scratch = Path(tempfile.mkdtemp(prefix=f"pillion-{row.name}-"))
        self.cache = self.out / "cache"
        self.names = itertools.count()
        self.apart = []

    def close(self):
        for a in self.apart:
            a.kill()
        shutil.rmtree(self.scratch, ignore_errors=True)

    # ── amounts ──

    def count(self, commit, night, release=None):
        """How many, by tier; --scale multiplies. The commit tier does a quarter of it under sanitizers."""
        n = {"commit": commit, "night": night, "release": release or night}[self.tier]
        if SLOW > 1 and self.tier == "commit":
            n = n // 4
        return max(1, round(n * self.options.scale))

    def seconds(self, commit, night, release=None):
        """A duration; --minutes overrides it."""
        if self.options.minutes is not None:
            return 60 * self.options.minutes
        return {"commit": commit, "night": night, "release": release or night}[self.tier]

    # ── judging ──

    def check(self, ok, message):
        if not ok:
            raise Failed(message)

    def figure(self, name, value):
        self.figures[name] = round(value, 4) if isinstance(value, float) else value

    def book_of(self, result, prefix=""):
        """Takes the figures of a ledger's result and fails on any entry that nobody can explain."""
        for name, value in result.summary().items():
            if value and (not prefix or name in ("texts", "p99_ms")):
                self.figure(prefix + name, value)
        problems = result.problems()
        self.check(not problems, "; ".join(problems[:8]) + (f"; {len(problems) - 8} more" if problems[8:] else ""))

    def causes(self, server, slack=0):
        """Each death of a worker has one line of the log."""
        server.wait(lambda: server.deaths() >= server.kills, 10 * SLOW, 0.02)
        found = server.deaths()
        self.figure("deaths", found)
        self.check(abs(found - server.kills) <= slack, f"{server.kills} workers were killed, the log knows of {found}")

    def keep_log(self, server):
        """Keeps what a server said whose run failed."""
        path = self.out / f"{self.row.name}-{next(self.names)}.log"
        path.write_text(server.stderr()[-(1 << 20):])
        print(f"    log of the server: {path}", file=sys.stderr)

    # ── what is tested ──

    def faults_program(self):
        if not self.options.faults_bin:
            raise Skip("no build with fault markers: make build-faults/pillion, or --faults-bin")
        return self.options.faults_bin

    def nano(self, kind="wordpiece", tokens=512):
        """A compiled NANO model, made once."""
        key = f"nano-{kind}-{tokens}"
        if key not in self.models:
            folder = Path(tempfile.mkdtemp(prefix="pillion-nano-"))
            try:
                origin = nano.write(folder / "model", kind, tokens)
                path = self.out / f"{key}-{os.getpid()}.safetensors"
                subprocess.run([BIN, "compile", folder / "model", path], check=True, capture_output=True,
                               env=environment(XDG_CACHE_HOME=folder / "cache"))
            finally:
                shutil.rmtree(folder)
            self.models[key] = (path, origin)
        path, origin = self.models[key]
        self.figure("tokenizer", origin)
        return path

    def real(self):
        """Arguments for the built-in model, a real one."""
        return ()

    def serve(self, *args, model="nano", **more):
        """A server with a NANO model, ready. model: "nano", "unigram", "real", or a path."""
        if model in ("nano", "unigram"):
            model = self.nano("wordpiece" if model == "nano" else "unigram")
        words = () if model == "real" else ("--model", model)
        if SLOW == 1 and "--log-level" not in args:
            words += ("--log-level", "info")
        return Fault(self, *words, *args, **more)

    @staticmethod
    def workers_of(server):
        found = re.search(r'msg="ready".* workers=(\d+)', server.stderr())
        return int(found[1]) if found else len(os.sched_getaffinity(0))

    def book(self, n, model="nano", tokens=(1, 48), marks=None):
        """A book whose vectors an untouched server has computed, made once for its size and model."""
        key = (self.seed, n, model, tokens, tuple(sorted((marks or {}).items())))
        if key not in self.books:
            with self.serve(model=model) as s:
                self.books[key] = Book(self.seed, n, tokens, marks).learn(s.address)
        return self.books[key]

    def marked(self, *args, times=None, env=None, **more):
        """A server of the build with fault markers. times: what PILLION_FAULT_TIMES gets, in milliseconds."""
        env = {"PILLION_FAULT_STATE": self.scratch / f"state-{next(self.names)}", **(env or {})}
        if times:
            env["PILLION_FAULT_TIMES"] = ",".join(f"{k}={v}" for k, v in times.items())
        return self.serve(*args, faults=True, env=env, **more)

    def ledger(self, server, book, **more):
        more.setdefault("timeout", 90 * SLOW)
        return Ledger(server.address, book, **more)

    def beside(self, job):
        """Runs job(until) in a process of its own; end() sets `until` and gives the result."""
        self.apart.append(Apart(job))
        return self.apart[-1]

    def bulk(self, server, book, **more):
        """A ledger that has started, as a load beside which something is measured."""
        self.apart.append(Bulk(self.ledger(server, book, **more)))
        return self.apart[-1]


class Apart:
    """A job in a process of its own: threads of one Python process take each other's time, so that what is measured
    in one would be the work of the others."""

    def __init__(self, job, nice=0):
        self.until = FORK.Event()
        self.here, there = FORK.Pipe()
        self.process = FORK.Process(target=self._run, args=(job, nice, there), daemon=True)
        self.process.start()
        there.close()

    def _run(self, job, nice, there):
        os.nice(nice)
        try:
            there.send((job(self.until), None))
        except Exception as e:  # raised again where it is asked for
            there.send((None, e))

    def end(self):
        """What the job gave, or its exception."""
        self.until.set()
        result, error = self.here.recv()
        self.process.join()
        if error:
            raise error
        return result

    def kill(self):
        self.process.kill()
        self.process.join()


class Bulk(Apart):
    """A ledger of which nothing but the load is felt: its bodies are made before the first is sent, and it has the
    lowest priority, below the workers that it keeps busy."""

    def __init__(self, ledger):
        self.ledger = ledger.prepare()
        self.numbers = FORK.Value("q", 0)
        super().__init__(self._load, nice=19)

    def _load(self, until):
        self.ledger.start()
        while not until.wait(0.02):
            self.numbers.value = self.ledger.sent()
        return self.ledger.stop()

    def sent(self):
        return self.numbers.value


class Asker:
    """One connection that is asked for vectors and gives them as the bytes that came."""

    def __init__(self, server, timeout=90):
        self.wire = Wire(server.address, timeout * SLOW)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.wire.close()

    def raw(self, body, extra=b""):
        """(status, header, body) of a POST /embed; body: bytes as they are, anything else as JSON."""
        self.wire.post(body if isinstance(body, bytes) else json.dumps(body).encode(), extra)
        return self.wire.answer()

    def vectors(self, texts):
        status, _, body = self.raw({"texts": texts})
        found = split_vectors(body) if status == 200 else None
        if found is None or len(found) != len(texts):
            raise Failed(f"status {status} for {len(texts)} texts: {body[:200]!r}")
        return found

    def partial(self, texts):
        """(vectors with None in place, {index: code}) of a request that takes partial answers."""
        status, _, body = self.raw({"texts": texts}, b"X-Pillion-Partial: 1\r\n")
        found = split_vectors(body) if status == 200 else None
        if found is None or len(found) != len(texts):
            raise Failed(f"status {status} for {len(texts)} texts: {body[:200]!r}")
        errors = {e["index"]: e["code"] for e in json.loads(body).get("errors", ())} if None in found else {}
        if {i for i, v in enumerate(found) if v is None} != set(errors):
            raise Failed(f"the errors do not fit the nulls: {errors}")
        return found, errors

    def vector(self, text):
        return self.vectors([text])[0]


def side_by_side(jobs):
    """Runs functions in threads and gives their results in order; the first exception is raised here."""
    with ThreadPoolExecutor(len(jobs)) as pool:
        return [f.result() for f in [pool.submit(j) for j in jobs]]


class Idle:
    """Latency of one-text requests on a quiet server, to hold others against: n of them, or as many as there are
    before `until` is set."""

    def __init__(self, server, n=100, until=None, text="how do I return a library book"):
        self.seconds = []
        with server.connect() as c:
            while not until.is_set() if until else len(self.seconds) < n:
                body = json.dumps({"texts": [f"{text} {len(self.seconds)}"]})
                began = time.monotonic()
                c.request("POST", "/embed", body, {"Content-Type": "application/json"})
                assert c.answer().status == 200
                self.seconds.append(time.monotonic() - began)


def cleanup():
    for path, _ in Run.models.values():
        path.unlink(missing_ok=True)
