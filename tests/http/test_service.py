"""A server among its surroundings: service manager, hosts that start it, files of options, handshake and token, who may
listen where, other users, broken outputs and broken places."""
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from pathlib import Path

from raw import BIN, MODELS, SLOW, Server, at_once, children, environment, is_alive, main

ROOT = os.geteuid() == 0
NOBODY = 65534
MINILM = MODELS / "minilm"


def run(*args, env=None, timeout=60, **popen):
    return subprocess.run([BIN, *map(str, args)], capture_output=True, env=env or environment(), timeout=timeout * SLOW,
                          stdin=subprocess.DEVNULL, check=False, **popen)


class Case(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory(prefix="pillion-service-")
        self.addCleanup(scratch.cleanup)
        self.dir = Path(scratch.name)

    def fails(self, status, *args, says, env=None, **popen):
        r = run("serve", *args, env=env, **popen)
        message = r.stderr.decode()
        self.assertEqual(r.returncode, status, message)
        self.assertEqual(message.count("\n"), 1, message)
        self.assertTrue(message.startswith("pillion serve: "), message)
        for words in [says] if isinstance(says, str) else says:
            self.assertIn(words, message)
        self.assertEqual(r.stdout, b"")
        return message

    def until(self, done, seconds=30):
        value = Server.wait(done, seconds * SLOW)
        self.assertTrue(value)
        return value


class Manager:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, name):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(name)
        self.path = name.replace("\0", "@")
        self.heard = []

    def close(self):
        self.socket.close()

    def hear(self, line, seconds=30):
        """Waits for a message with this line; gives the seconds it took, or None."""
        start = time.monotonic()
        while (left := start + seconds - time.monotonic()) > 0:
            self.socket.settimeout(left)
            try:
                message = self.socket.recv(4096).decode()
            except TimeoutError:
                break
            self.heard.append(message)
            if line in message.split("\n"):
                return time.monotonic() - start
        return None


class Systemd(Case):
    def manager(self, name=None):
        m = Manager(name or str(self.dir / "notify"))
        self.addCleanup(m.close)
        return m

    def test_ready_and_stopping_are_told(self):
        for name in (None, f"\0pillion-test-{os.getpid()}"):
            m = self.manager(name)
            with Server(env=environment(NOTIFY_SOCKET=m.path)) as s:
                self.assertIsNotNone(m.hear("READY=1", 30 * SLOW))
                self.assertIn(f"MAINPID={s.process.pid}", m.heard[-1])
                self.assertEqual(s.stop()[0], 0)
                self.assertIsNotNone(m.hear("STOPPING=1", 5 * SLOW))

    def test_the_watchdog_hears_of_a_server_that_can_compute_only(self):
        m = self.manager()
        with Server("--workers", "1", env=environment(NOTIFY_SOCKET=m.path, WATCHDOG_USEC=300000)) as s:
            for _ in range(3):
                self.assertIsNotNone(m.hear("WATCHDOG=1", 10 * SLOW))
            stop = threading.Event()

            def kill():
                while not stop.is_set():
                    for w in s.workers():
                        try:
                            os.kill(w, signal.SIGKILL)
                        except ProcessLookupError:
                            pass
                    time.sleep(0.001)

            killer = threading.Thread(target=kill)
            killer.start()
            try:  # nobody lives for long: sooner or later the pauses between starts are longer than the beat
                start, silent = time.monotonic(), False
                while not silent and time.monotonic() - start < 60 * SLOW:
                    silent = m.hear("WATCHDOG=1", 0.45) is None
                self.assertTrue(silent)
            finally:
                stop.set()
                killer.join()
            self.assertIsNotNone(m.hear("WATCHDOG=1", 60 * SLOW))
            s.process.send_signal(signal.SIGSTOP)  # and of a loop that turns
            while m.hear("WATCHDOG=1", 0.5) is not None:
                pass
            s.process.send_signal(signal.SIGCONT)
            self.assertIsNotNone(m.hear("WATCHDOG=1", 30 * SLOW))

    def activated(self, listener, *args, pid="$$", **env):
        """A server that finds the listener as descriptor 3, as systemd starts it."""
        fd = listener.fileno()
        os.set_inheritable(fd, True)
        script = f'exec 3<&{fd}; export LISTEN_PID={pid} LISTEN_FDS=1; exec "$0" serve "$@"'
        return Server("-c", script, BIN, *args, first=(), listen=(), program="/bin/sh", env=environment(**env),
                      pass_fds=(fd,))

    def test_a_socket_that_was_passed_is_listened_on(self):
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            address = listener.getsockname()
            early = socket.create_connection(address)  # before anybody is there to take it
            self.addCleanup(early.close)
            with self.activated(listener, "--port", "1") as s:
                self.assertEqual(s.address, address)
                early.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
                self.assertIn(b"alive", early.recv(4096))
                self.assertEqual(len(s.embed(["x"])), 1)
                self.assertEqual(s.stop()[0], 0)
            with socket.create_connection(address):
                pass  # the manager's socket is still open: the next start serves it

    def test_a_unix_socket_that_was_passed_stays(self):
        path = self.dir / "s"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen()
            with self.activated(listener) as s:
                self.assertEqual(s.address, str(path))
                self.assertEqual(len(s.embed(["x"])), 1)
                self.assertEqual(s.stop()[0], 0)
            self.assertTrue(path.exists())

    def test_a_unix_socket_that_was_passed_stays_after_upgrades(self):
        path, file = self.dir / "s", self.dir / "h.json"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen()
            with self.activated(listener, "--handshake", file) as s:
                pids = [s.process.pid]
                for _ in range(2):
                    os.kill(pids[-1], signal.SIGUSR2)
                    self.until(lambda: json.loads(file.read_text())["pid"] != pids[-1], 60)
                    self.until(lambda: not is_alive(pids[-1]))
                    pids.append(json.loads(file.read_text())["pid"])
                os.kill(pids[-1], signal.SIGTERM)
                self.until(lambda: not is_alive(pids[-1]))
                self.assertEqual(s.process.wait(), 0, s.stderr())
            self.assertTrue(path.exists())
            self.assertFalse(file.exists())

    def test_sockets_for_another_process_are_left_alone(self):
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            with self.activated(listener, "--port", "0", pid="1") as s:
                self.assertNotEqual(s.address, listener.getsockname())

    def test_what_is_no_listening_socket_is_refused(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other, self.activated(other) as s:
            self.assertEqual(s.process.wait(30 * SLOW), 2)
            self.assertIn("not a listening socket", s.stderr())

    def test_the_units_are_what_the_program_understands(self):
        source = Path(__file__).resolve().parents[2]
        service = (source / "deploy/pillion.service.in").read_text()
        start = next(line for line in service.splitlines() if line.startswith("ExecStart="))
        args = start.partition("=")[2].split()[1:]
        help_text = run("serve", "--help").stdout.decode()
        for arg in (a for a in args if a.startswith("--")):
            self.assertIn(arg.partition("=")[0], help_text)
        if shutil.which("systemd-analyze"):
            shutil.copy(source / "deploy/pillion.socket", self.dir)
            (self.dir / "pillion.service").write_text(service.replace("@PILLION_BIN@/pillion", BIN))
            r = subprocess.run(["systemd-analyze", "verify", self.dir / "pillion.service", self.dir / "pillion.socket"],
                               capture_output=True, text=True, check=False)
            complaints = [line for line in r.stderr.splitlines() if "pillion." in line and "'man " not in line]
            self.assertEqual(complaints, [])


class Handshake(Case):
    def test_a_host_finds_its_server(self):
        file = self.dir / "a folder" / "händ shake.json"
        file.parent.mkdir()
        with Server("--handshake", file, "--listen", f"unix:{self.dir}/s", "--listen", "127.0.0.1:0", listen=(),
                    umask=0) as s:
            told = json.loads(self.until(lambda: file.exists() and file.read_text()))
            self.assertEqual(stat.S_IMODE(file.stat().st_mode), 0o600)
            self.assertEqual(stat.S_IMODE(file.with_name(file.name + ".lock").stat().st_mode), 0o600)
            self.assertEqual(stat.S_IMODE((self.dir / "s").stat().st_mode), 0o600)
            self.assertEqual((told["pid"], told["host"], told["unix"], told["token"]),
                             (s.process.pid, "127.0.0.1", [f"{self.dir}/s"], None))
            self.assertEqual(told["url"], f"http://127.0.0.1:{told['port']}")
            s.address = (told["host"], told["port"])
            self.assertEqual(s.get("/livez").status, 200)
            s.stop()
            self.assertEqual(list(file.parent.iterdir()), [])

    def test_a_socket_that_json_cannot_name_is_refused(self):
        path = self.dir / os.fsdecode(b"caf\xe9")
        self.fails(2, "--handshake", self.dir / "h.json", "--listen", f"unix:{path}", says=["--handshake", "not UTF-8"])
        self.assertEqual(list(self.dir.iterdir()), [])
        with Server(listen=("--listen", f"unix:{path}"), wait=False) as s:
            self.until(path.is_socket)
            self.assertEqual(s.stop()[0], 0)

    def test_one_of_two_starts_wins(self):
        file = self.dir / "h.json"
        for _ in range(5):
            servers = at_once([lambda: Server("--handshake", file, ready=False) for _ in range(2)])
            try:
                self.until(lambda: any(s.process.poll() is not None for s in servers))
                loser, winner = sorted(servers, key=lambda s: s.process.poll() is None)
                self.assertIsNone(winner.process.poll())
                self.assertEqual(loser.process.returncode, 98)
                self.assertIn(f"in use by another pillion (pid {winner.process.pid})", loser.stderr())
                self.until(file.exists)
                self.assertEqual(json.loads(file.read_text())["pid"], winner.process.pid)
                self.assertEqual(winner.stop()[0], 0)
            finally:
                for s in servers:
                    s.__exit__()
            self.assertEqual(list(self.dir.iterdir()), [])

    def test_what_a_killed_server_leaves_does_not_matter(self):
        file, path = self.dir / "h.json", self.dir / "s"
        for _ in range(2):
            with Server("--handshake", file, "--listen", f"unix:{path}", listen=()) as s:
                self.assertEqual(json.loads(file.read_text())["pid"], s.process.pid)
                s.process.kill()
                s.process.wait()
            self.assertTrue(file.exists() and path.exists())
        with Server("--handshake", file, "--listen", f"unix:{path}", listen=()) as s:
            s.stop()
        self.assertEqual(list(self.dir.iterdir()), [])

    def test_a_file_that_somebody_else_has_written_stays(self):
        file = self.dir / "h.json"
        with Server("--handshake", file) as s:
            file.unlink()
            file.write_text("mine")
            self.assertEqual(s.stop()[0], 0)
        self.assertEqual(file.read_text(), "mine")

    def test_places_that_cannot_be_written(self):
        self.fails(1, "--port", 0, "--handshake", self.dir / "no" / "h", says="No such file or directory")
        self.fails(1, "--port", 0, "--handshake", "x" * 300, says=["xxx", "name too long"])
        self.fails(2, "--port", 0, "--handshake", "/x" * 3000, says="too long")
        self.fails(2, "--port", 0, "--handshake", "", says="empty")
        (self.dir / "folder").mkdir()
        self.fails(1, "--port", 0, "--handshake", self.dir / "folder", says="folder")
        self.assertEqual(list((self.dir / "folder").iterdir()), [])
        self.assertEqual([p.name for p in self.dir.iterdir()], ["folder"])


class Token(Case):
    SECRET = "a-Secret-of-this-Test/123"

    def test_it_comes_from_a_file_the_environment_or_chance(self):
        file, h = self.dir / "token", self.dir / "h.json"
        file.touch(mode=0o640)
        file.write_text(self.SECRET + "\n")
        for args, env in ((("--token-file", file), {}), ((), {"PILLION_TOKEN": self.SECRET})):
            with Server("--handshake", h, *args, "--log-level", "debug", env=environment(**env)) as s:
                self.assertEqual(json.loads(h.read_text())["token"], self.SECRET)
                self.assertNotIn(self.SECRET, s.stderr() + s.stdout())
                self.assertNotIn("can read the token", s.stderr())
                self.assertNotIn(self.SECRET.encode(), Path(f"/proc/{s.process.pid}/cmdline").read_bytes())
        made = set()
        for _ in range(2):
            with Server("--handshake", h, "--generate-token") as s:
                made.add(json.loads(h.read_text())["token"])
                self.assertNotIn(made.copy().pop(), s.stderr() + s.stdout())
        self.assertEqual([len(t) for t in made], [64, 64])

    def test_a_file_that_everybody_can_read_is_warned_of(self):
        file = self.dir / "token"
        file.write_text(self.SECRET)
        file.chmod(0o644)
        with Server("--token-file", file) as s:
            self.assertIn(f'msg="every user of this machine can read the token" file="{file}" mode=0644', s.stderr())
            self.assertNotIn(self.SECRET, s.stderr())

    def test_wrong_ones_are_refused_without_repeating_them(self):
        file = self.dir / "token"
        file.touch(mode=0o600)
        for content, says in (("", "empty"), (" \n", "empty"), ("two words", "character 4"), ("a\0b", "character 2"),
                              ("x" * 513, "longer than 512"), ("schlüssel", "character 5")):
            file.write_text(content)
            message = self.fails(2, "--port", 0, "--token-file", file, says=says)
            if content.strip():
                self.assertNotIn(content.strip("\0"), message)
        self.fails(3, "--port", 0, "--token-file", self.dir / "none", says="No such file")
        self.fails(2, "--port", 0, says="PILLION_TOKEN: the token is empty", env=environment(PILLION_TOKEN=""))
        file.write_text("x")
        self.fails(2, "--port", 0, "--token-file", file, says="use one of them", env=environment(PILLION_TOKEN="y"))
        self.fails(2, "--port", 0, "--generate-token", says="--handshake")
        self.fails(2, "--port", 0, "--generate-token", "--handshake", self.dir / "h", "--token-file", file,
                   says="there is a token already")
        self.fails(2, "--port", 0, "--token", "x", says="unknown option '--token'")

    def test_other_machines_need_one(self):
        says = ["can be reached from other machines", "--token-file", "--without-token"]
        for args, env in ((("--host", "0.0.0.0", "--port", 0), {}), (("--host", "::", "--port", 0), {}),
                          (("--listen", "127.0.0.1:0", "--listen", "0.0.0.0:0"), {}),
                          (("--port", 0), {"EMBED_HOST": "0.0.0.0"})):
            self.fails(2, *args, says=says, env=environment(**env))
        for args in (("--without-token",), ("--generate-token", "--handshake", self.dir / "h")):
            with Server("--host", "0.0.0.0", *args) as s:
                self.assertEqual("nothing asks them" in s.stderr(), args == ("--without-token",))


class Config(Case):
    def write(self, text):
        (self.dir / "pillion.conf").write_text(text)
        return self.dir / "pillion.conf"

    def test_the_command_line_beats_the_environment_and_that_the_file(self):
        path = self.dir / "s"
        config = self.write(f"# a remark\n\n  workers = 1 \r\nlisten = unix:{path}\nlisten=127.0.0.1:0\nreplace = no\n"
                            "model = from-the-file\n")
        env = environment(EMBED_MODEL="all-MiniLM-L6-v2")
        with Server("--config", config, listen=(), env=env) as s:
            self.assertEqual(s.stderr().count(" on "), 2)
            self.assertEqual(len(s.workers()), len(children(s.process.pid)))
            self.assertEqual(s.address, str(path))
            self.assertEqual(s.get("/info").json()["model_id"], "all-MiniLM-L6-v2")
        env = environment(PILLION_CONFIG=config, EMBED_MODEL="from-the-environment")
        with Server("--model", "all-MiniLM-L6-v2", "--listen", "127.0.0.1:0", listen=(), env=env) as s:
            self.assertEqual(s.address[0], "127.0.0.1")
            self.assertEqual(s.get("/info").json()["model_id"], "all-MiniLM-L6-v2")

    def test_what_is_wrong_in_a_file_is_named_with_its_line(self):
        for text, says in (("workers = many", "pillion.conf:1: workers: 'many' is not a whole number"),
                           ("\n\nwrokers = 1", "pillion.conf:3: unknown option 'wrokers'; did you mean workers?"),
                           ("workers", "pillion.conf:1: 'workers' is not name = value"),
                           ("port = 70000", "70000"), ("with-parent = maybe", "'maybe' is not yes or no"),
                           ("config = other", "unknown option 'config'"), ("token = x", "unknown option 'token'"),
                           ("log-level = loud", "error, warn, info or debug"), ("handshake =", "empty"),
                           ("port = 1\0", "not a text file"), ("= 1", "unknown option ''")):
            self.fails(2, "--config", self.write(text), "--port", 0, says=says)
        self.fails(3, "--config", self.dir / "none", says="No such file")
        self.fails(1, "--config", self.dir, says="not a regular file")
        self.fails(2, "--config", self.write("allow-host = \x1b[31mx\nx"), says="x")

    def test_reading_again_changes_what_may_change(self):
        config, token = self.write("allow-host = one.example\nworkers = 1\n"), self.dir / "token"
        with Server("--config", config) as s:
            def asks(host):
                return s.get("/info", host=host).status

            def again(line):
                before = s.stderr().count(line)
                s.process.send_signal(signal.SIGHUP)
                self.until(lambda: s.stderr().count(line) > before)

            self.assertEqual((asks("one.example"), asks("two.example")), (200, 403))
            self.write("allow-host = two.example\nworkers = 2\nlog-level = info\n")
            again("options read again")
            self.assertEqual((asks("one.example"), asks("two.example")), (403, 200))
            self.assertIn('options that need a new start" names="workers"', s.stderr())
            self.assertEqual(len(s.workers()), 2)  # and one for short work
            for wrong in ("allow-host = three.example\nworkers = many\n", "files-root = /nowhere/at/all\n",
                          f"token-file = {token}\n"):
                self.write(wrong)
                again("options refused, the old ones stay")
                self.assertEqual((asks("two.example"), asks("three.example")), (200, 403))
            config.unlink()
            again("options refused, the old ones stay")
            token.write_text("first-token")
            self.write(f"allow-host = two.example\ntoken-file = {token}\nlog-level = info\n")
            again("options read again")
            self.assertEqual(asks("two.example"), 401)
            auth = {"Authorization": "Bearer first-token"}
            self.assertEqual(s.call("GET", "/info", headers=auth).status, 200)
            token.write_text("second-token")
            again("options read again")
            self.assertEqual(s.call("GET", "/info", headers=auth).status, 401)
            self.assertEqual(s.stop()[0], 0)

    def test_reading_again_does_not_open_a_server_to_everybody(self):
        token = self.dir / "token"
        token.write_text("a-token")
        says = "options refused, the old ones stay"
        with Server("--host", "0.0.0.0", "--config", self.write(f"token-file = {token}\n")) as s:
            self.assertEqual(s.get("/info").status, 401)
            self.write(f"# token-file = {token}\n")
            s.process.send_signal(signal.SIGHUP)
            self.until(lambda: says in s.stderr())
            self.assertIn("0.0.0.0 can be reached from other machines", s.stderr())
            self.assertEqual(s.get("/info").status, 401)
            self.assertEqual(s.call("GET", "/info", headers={"Authorization": "Bearer a-token"}).status, 200)
        config = self.write(f"without-token = yes\ntoken-file = {token}\nlog-level = info\n")
        with Server("--host", "0.0.0.0", "--config", config) as s:  # it was asked to serve everybody
            self.write("log-level = info\n")
            s.process.send_signal(signal.SIGHUP)
            self.until(lambda: "options read again" in s.stderr())
            self.assertEqual(s.get("/info").status, 200)

    def test_who_follows_the_handshake_file_learns_of_a_new_token(self):
        token, file = self.dir / "token", self.dir / "h.json"
        token.write_text("first-token")
        config = self.write(f"token-file = {token}\nhandshake = {file}\nlog-level = info\n")
        with Server("--config", config, listen=("--port", "0")) as s:
            before = json.loads(file.read_text())
            self.assertEqual(before["token"], "first-token")
            token.write_text("second-token")
            s.process.send_signal(signal.SIGHUP)
            self.until(lambda: "options read again" in s.stderr())
            after = json.loads(file.read_text())
            self.assertEqual(after, {**before, "token": "second-token"})
            self.assertEqual(stat.S_IMODE(file.stat().st_mode), 0o600)
            auth = {"Authorization": f"Bearer {after['token']}"}
            self.assertEqual(s.call("GET", "/info", headers=auth).status, 200)
            self.assertEqual(s.stop()[0], 0)
        self.assertFalse(file.exists())

    def test_without_a_file_the_terminal_ends_the_server_unless_it_was_told_not_to(self):
        with Server() as s:
            self.assertEqual(s.stop(signal.SIGHUP)[0], 0)
        ignore = f"import os,signal,sys; signal.signal(signal.SIGHUP, signal.SIG_IGN); os.execv({BIN!r}, sys.argv[1:])"
        with Server("-c", ignore, BIN, "serve", "--port", "0", first=(), listen=(), program=sys.executable) as s:
            s.process.send_signal(signal.SIGHUP)
            time.sleep(0.2)
            self.assertEqual(s.get("/readyz").status, 200)
            self.assertEqual(s.stop()[0], 0)


class InUse(Case):
    def test_the_holder_of_an_address_is_named(self):
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            message = self.fails(98, "--port", other.getsockname()[1], says=["address already in use",
                                                                           f"pid {os.getpid()}"])
            self.assertNotIn("--replace", message)
        with Server() as s:
            start = time.monotonic()
            self.fails(98, "--port", s.address[1],
                       says=["address already in use by pillion", f"pid {s.process.pid}", "--replace"])
            self.assertLess(time.monotonic() - start, 20 * SLOW)

    def test_one_of_two_starts_on_one_port_wins(self):
        for _ in range(5):
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = str(free.getsockname()[1])
            servers = at_once([lambda: Server(ready=False, listen=("--port", port)) for _ in range(2)])
            try:
                self.until(lambda: any(s.process.poll() is not None for s in servers))
                loser, winner = sorted(servers, key=lambda s: s.process.poll() is None)
                self.assertEqual((loser.process.returncode, winner.process.poll()), (98, None))
                self.assertEqual(winner.stop()[0], 0)
            finally:
                for s in servers:
                    s.__exit__()

    def test_a_unix_socket_in_use(self):
        path = self.dir / "s"
        with Server(listen=("--listen", f"unix:{path}")) as s:
            self.fails(98, "--listen", f"unix:{path}", says="address already in use")
            self.assertEqual(s.get("/livez").status, 200)
        path.unlink(missing_ok=True)
        path.write_text("not a socket")
        self.fails(2, "--listen", f"unix:{path}", says=[str(path), "it is there, and is not a socket"])
        self.assertEqual(path.read_text(), "not a socket")


class Host(Case):
    def test_it_ends_with_its_standard_input(self):
        for how in ("pipe", "socket"):
            if how == "socket":
                ours, theirs = socket.socketpair()
            else:
                theirs, ours = (os.fdopen(fd, mode) for fd, mode in zip(os.pipe(), ("rb", "wb"), strict=True))
            with Server("--with-stdin", stdin=theirs) as s:
                theirs.close()
                if how == "pipe":
                    ours.write(b"words that nobody reads" * 1000)
                    ours.flush()
                    time.sleep(0.1)
                self.assertEqual(s.get("/readyz").status, 200)
                ours.close()
                self.assertEqual(s.process.wait(10 * SLOW), 0)

    def test_standard_input_must_be_something_that_can_end(self):
        self.fails(2, "--port", 0, "--with-stdin", says="--with-stdin: standard input is not a pipe or a socket")

    def test_it_ends_with_its_parent(self):
        for _ in range(3):
            starter = ("import subprocess,sys,time\np=subprocess.Popen(sys.argv[1:],stdout=subprocess.DEVNULL)\n"
                       "print(p.pid,flush=True)\ntime.sleep(1000)")
            file = self.dir / "h.json"
            parent = subprocess.Popen([sys.executable, "-c", starter, BIN, "serve", "--port", "0", "--with-parent",
                                       "--handshake", file], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                      env=environment())
            with parent:
                pid = int(parent.stdout.readline())
                self.until(file.exists)
                parent.kill()
            self.assertTrue(Server.wait(lambda: not is_alive(pid), 10 * SLOW))
            self.assertFalse(file.exists())


@unittest.skipUnless(ROOT, "needs root to become another user")
class OtherUser(Case):
    def is_denied(self, attempt):
        """Whether another user may not do it."""
        child = os.fork()
        if child == 0:
            status = 1
            try:
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
                attempt()
            except PermissionError:
                status = 0
            finally:
                os._exit(status)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

    def test_it_cannot_use_what_is_private(self):
        self.dir.chmod(0o755)
        path, file = self.dir / "s", self.dir / "h"
        with Server("--handshake", file, listen=("--listen", f"unix:{path}"), umask=0):
            with socket.socket(socket.AF_UNIX) as client:
                self.assertTrue(self.is_denied(lambda: client.connect(str(path))))
            for name in (file, f"{file}.lock"):
                self.assertTrue(self.is_denied(lambda name=name: os.open(name, os.O_RDONLY)))
            self.assertFalse(self.is_denied(lambda: os.open("/etc/passwd", os.O_RDONLY)))

    def test_a_place_that_belongs_to_somebody_else_is_an_error_at_once(self):
        self.dir.chmod(0o755)
        program = self.dir / "pillion"  # the user may not be allowed to where it was built
        shutil.copy(BIN, program)
        env = environment(HOME="/nonexistent", XDG_CACHE_HOME=self.dir / "cache")
        nobody = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        for args in (("--handshake", self.dir / "h"), ("--listen", f"unix:{self.dir}/s")):
            r = subprocess.run([program, "serve", "--port", "0", *args], capture_output=True, env=env, check=False,
                               timeout=60 * SLOW, **nobody)
            self.assertEqual((r.returncode, r.stderr.count(b"\n")), (1, 1), r.stderr)
            self.assertIn(b"ermission denied", r.stderr)
        self.assertEqual([p.name for p in self.dir.iterdir()], ["pillion"])
        with Server(env=environment(HOME="/nonexistent"), program=program, **nobody) as s:
            self.assertEqual(len(s.embed(["the built-in model needs no folder"])), 1)
            self.assertEqual(s.stop()[0], 0)


class Broken(Case):
    def works(self, port, **popen):
        """Serves although its outputs are of no use; the log is as loud as can be."""
        p = subprocess.Popen([BIN, "serve", "--port", str(port), "--log-level", "debug"], env=environment(),
                             stdin=subprocess.DEVNULL, **popen)
        self.addCleanup(p.kill)
        s = Server.__new__(Server)
        s.address, s.process = ("127.0.0.1", port), p

        def ready():
            try:
                return s.get("/readyz").status == 200
            except OSError:
                return False

        self.until(ready)
        for _ in range(600):  # some 100 KiB of log
            self.assertEqual(s.get("/livez").status, 200)
        self.assertEqual(len(s.embed(["x"])), 1)
        p.terminate()
        self.assertEqual(p.wait(20 * SLOW), 0)

    def free_port(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            return free.getsockname()[1]

    def test_a_log_that_cannot_be_written_does_not_stop_it(self):
        with open("/dev/full", "wb") as full:
            self.works(self.free_port(), stdout=full, stderr=full)
        self.works(self.free_port(), preexec_fn=lambda: (os.close(1), os.close(2)))
        read, write = os.pipe()
        self.works(self.free_port(), stdout=write, stderr=write)  # nobody reads: it must not wait for that
        os.close(read)
        self.works(self.free_port(), stdout=write, stderr=write)  # nobody is left who could
        os.close(write)

    def test_a_cache_that_cannot_be_made_is_an_error_that_names_it(self):
        if not (MINILM / "config.json").exists():
            self.skipTest(f"no model in {MINILM}")
        (self.dir / "file").write_text("")
        for variables, says in (({"XDG_CACHE_HOME": "/proc/nothing"}, "/proc/nothing"),
                                ({"XDG_CACHE_HOME": "", "HOME": ""}, "neither XDG_CACHE_HOME nor HOME"),
                                ({"XDG_CACHE_HOME": self.dir / "file"}, "file/pillion: cannot make directory"),
                                ({"XDG_CACHE_HOME": self.dir / ("x" * 300)}, "File name too long")):
            with Server("--model", MINILM, ready=False, env=environment(**variables)) as s:
                self.assertEqual(s.process.wait(60 * SLOW), 1)
                self.assertIn(says, s.stderr().splitlines()[-1])
                if len(str(variables["XDG_CACHE_HOME"])) < 100:
                    self.assertIn("set XDG_CACHE_HOME to a folder that can be written", s.stderr().splitlines()[-1])
        self.assertEqual([p.name for p in self.dir.iterdir()], ["file"])

    def test_names_of_every_kind_are_served(self):
        if not (MINILM / "config.json").exists():
            self.skipTest(f"no model in {MINILM}")
        place = self.dir / "två ord — 語"
        place.mkdir()
        (place / "a model").symlink_to(MINILM)
        cache = Path(*[self.dir, *["d" * 100] * 12])  # 1,200 characters
        for model, home in ((place / "a model", place / "c"), (place / "a model", cache)):
            with Server("--model", model, env=environment(XDG_CACHE_HOME=home)) as s:
                self.assertEqual(s.get("/info").json()["model_id"], str(model))
                self.assertEqual(len(s.embed(["x"])), 1)
            self.assertTrue(list(home.rglob("*.safetensors")))
        place = self.dir / os.fsdecode(b"caf\xe9 100%")  # no UTF-8
        place.mkdir()
        (place / "a model").symlink_to(MINILM)
        file, env = self.dir / "h.json", environment(XDG_CACHE_HOME=place / "c")
        with Server("--model", place / "a model", "--handshake", file, env=env) as s:
            name = f"{self.dir}/caf? 100%/a model"
            self.assertEqual(s.get("/info").json()["model_id"], name)
            self.assertEqual(json.loads(file.read_bytes())["model"], name)
            for line in s.stdout().splitlines():
                self.assertEqual(json.loads(line.removeprefix("PROGRESS:"))["data"]["model"], name)
            self.assertEqual(len(s.embed(["x"])), 1)
        for name in ("x" * 300, f"/tmp/{'x' * 300}", str(place / ("x" * 300))):
            self.assertIn(run("serve", "--port", 0, "--model", name).returncode, (2, 3))

    @unittest.skipUnless(ROOT, "needs root to mount")
    def test_a_full_disk_is_an_error_and_leaves_nothing(self):
        full = self.dir / "full"
        full.mkdir()
        mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", full], capture_output=True)
        if mount.returncode or not (MINILM / "config.json").exists():
            self.skipTest("no mount, or no model")
        self.addCleanup(subprocess.run, ["umount", full])
        env = environment(XDG_CACHE_HOME=full)
        with Server("--model", MINILM, ready=False, env=env) as s:
            self.assertEqual(s.process.wait(60 * SLOW), 1, s.stderr())
            self.assertIn("No space left", s.stderr().splitlines()[-1])
        self.assertFalse([p for p in full.rglob("*.safetensors*") if p.suffix != ".lock"])
        (full / "filler").write_bytes(b"x" * (1 << 20) if shutil.disk_usage(full).free > 1 << 20 else b"")
        with open(full / "more", "wb", buffering=0) as f:
            try:
                while f.write(b"x" * 4096):
                    pass
            except OSError:
                pass
        self.fails(1, "--port", 0, "--handshake", full / "h.json", says="No space left")
        self.assertFalse((full / "h.json").exists())


if __name__ == "__main__":
    main()
