"""One server takes the place of another under load: no request fails, and what cannot start changes nothing. Row L9 of
tests/faults does it more often."""
import contextlib
import hashlib
import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import unittest
from pathlib import Path

from raw import BIN, SLOW, Connection, Server, environment, is_alive, main

UPGRADES = 6
BODY = json.dumps({"texts": ["one text", "and another"]})


class Load:
    """Clients that ask again and again: half of them keep their connection, half open one for each request. A kept
    connection that is closed between two requests is opened again; everything else that goes wrong is a failure."""

    def __init__(self, address, clients=4):
        self.address, self.answers, self.failures, self.ended = address, 0, [], False
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self._run, args=(i % 2 == 0,)) for i in range(clients)]

    def __enter__(self):
        for t in self.threads:
            t.start()
        return self

    def __exit__(self, *_):
        self.ended = True
        for t in self.threads:
            t.join()

    def _ask(self, c):
        c.request("POST", "/embed", BODY, {"Content-Type": "application/json"})
        answer = c.answer()
        if answer.status != 200 or len(answer.json()["vectors"]) != 2:
            raise AssertionError(answer)
        return answer.headers.get("connection") == "close"

    def _run(self, keeps):
        c = None
        while not self.ended:
            try:
                c = c or Connection(self.address, 60 * SLOW)
                closes = self._ask(c)
                with self.lock:
                    self.answers += 1
                if closes or not keeps:
                    c.close()
                    c = None
            except Exception as e:  # every kind of it is what this is about
                with self.lock:
                    self.failures.append(repr(e))
                c = None
        if c:
            c.close()


class Case(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory(prefix="pillion-upgrade-")
        self.addCleanup(scratch.cleanup)
        self.dir = Path(scratch.name)

    @staticmethod
    def free_port():
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            return free.getsockname()[1]

    def successor(self, old, *args):
        """Starts a server on the old one's address with --replace and gives it once it serves."""
        return Server("--replace", "--log-level", "info", *args, listen=("--port", str(old.address[1])))

    def ends(self, server, seconds=30):
        self.assertEqual(server.process.wait(seconds * SLOW), 0, server.stderr())


class Replace(Case):
    def test_no_request_fails_while_servers_are_replaced(self):
        servers = [Server()]
        address = servers[0].address
        try:
            with Load(address) as load:
                for _ in range(UPGRADES):
                    seen = load.answers
                    Server.wait(lambda: load.answers > seen + 4 or load.failures, 60 * SLOW)
                    servers.append(self.successor(servers[-1]))
                    self.ends(servers[-2])
            self.assertEqual(load.failures, [])
            self.assertGreater(load.answers, 4 * UPGRADES)
            self.assertEqual(servers[-1].stop()[0], 0)
            with self.assertRaises(OSError):
                Connection(address)
        finally:
            for s in servers:
                s.__exit__()

    def test_a_signal_starts_the_program_file_that_is_there_now(self):
        program = self.dir / "pillion here"
        shutil.copy(BIN, program)
        file = self.dir / "handshake.json"
        pids = []
        with Server("--handshake", file, program=program) as first:
            address = first.address
            pid = first.process.pid
            try:
                with Load(address) as load:
                    for _ in range(2):
                        other = self.dir / "new"
                        shutil.copy(BIN, other)
                        os.rename(other, program)  # a new file of that name, as packages do it
                        os.kill(pid, signal.SIGUSR2)
                        self.assertTrue(Server.wait(lambda: json.loads(file.read_text())["pid"] != pid, 60 * SLOW),
                                        first.stderr())
                        pid = json.loads(file.read_text())["pid"]
                        pids.append(pid)
                        self.assertEqual(os.readlink(f"/proc/{pid}/exe"), str(program))
                self.assertEqual(load.failures, [])
                self.ends(first)
                told = json.loads(file.read_text())
                self.assertEqual((told["port"], told["pid"]), (address[1], pids[-1]))
            finally:
                for p in pids:
                    if is_alive(p):
                        os.kill(p, signal.SIGTERM)
            self.assertTrue(Server.wait(lambda: not any(map(is_alive, pids)), 30 * SLOW))
            self.assertEqual(sorted(p.name for p in self.dir.iterdir()), ["pillion here"])

    def test_a_successor_that_cannot_start_changes_nothing(self):
        with Server("--log-level", "info") as old:
            port = str(old.address[1])
            bad = self.dir / "bad.conf"
            bad.write_text("workers = many\n")
            damaged = self.dir / "m.safetensors"
            damaged.write_bytes(b"\x08\0\0\0\0\0\0\0{}      ")
            with Load(old.address) as load:
                for status, args in ((3, ("--model", self.dir / "none")), (2, ("--config", bad)),
                                     (4, ("--model", damaged))):
                    seen = load.answers
                    with Server("--replace", *args, listen=("--port", port)) as new:
                        self.assertEqual(new.process.wait(30 * SLOW), status, new.stderr())
                    Server.wait(lambda: load.answers > seen + 4 or load.failures, 60 * SLOW)
            self.assertEqual(load.failures, [])
            self.assertIsNone(old.process.poll())
            # the one with the damaged model came as far as that:
            self.assertIn("the successor ended before it was ready", old.stderr())
            with self.successor(old) as new:  # and a good one is still welcome
                self.ends(old)
                self.assertEqual(new.stop()[0], 0)

    def test_a_successor_that_is_killed_while_it_starts_changes_nothing(self):
        with Server("--log-level", "info") as old:
            for _ in range(3):
                with Server("--replace", ready=False, listen=("--port", str(old.address[1])), wait=False) as new:
                    Server.wait(lambda: "a successor starts" in old.stderr(), 30 * SLOW, 0.0005)
                    new.process.kill()
                    new.process.wait()
                if old.process.poll() is not None:
                    return  # it was ready before it was killed: then the old one has rightly left
                self.assertEqual(old.get("/readyz").status, 200)

    def test_unix_sockets_and_several_addresses_go_over(self):
        path = self.dir / "socket"
        with Server(listen=("--listen", "127.0.0.1:0", "--listen", f"unix:{path}")) as old:
            port = old.address[1]
            inode = path.stat().st_ino
            listen = ("--listen", f"127.0.0.1:{port}", "--listen", f"unix:{path}")
            with Server("--replace", listen=listen) as new:
                self.ends(old)
                self.assertEqual(path.stat().st_ino, inode)
                vectors = new.embed(["x"])
                new.address = str(path)
                self.assertEqual(new.embed(["x"]), vectors)
                self.assertEqual(new.stop()[0], 0)
                self.assertFalse(path.exists())

    def test_an_address_that_an_upgrade_adds_does_not_hinder_the_next_ones(self):
        file = self.dir / "h.json"
        with contextlib.ExitStack() as stack:
            servers = [stack.enter_context(Server("--handshake", file))]
            ports = [servers[0].address[1]]
            for place in (1, 0):
                ports.insert(place, self.free_port())  # behind the one that was there, and before all of them
                listen = [word for p in ports for word in ("--listen", f"127.0.0.1:{p}")]
                for _ in range(2):  # the second one has the options of the first
                    new = stack.enter_context(Server("--replace", "--handshake", file, listen=listen))
                    self.assertIsNone(new.process.poll(), new.stderr())
                    self.ends(servers[-1])
                    servers.append(new)
            last = servers[-1]
            os.kill(last.process.pid, signal.SIGUSR2)
            self.ends(last)
            pid = json.loads(file.read_text())["pid"]
            self.assertNotEqual(pid, last.process.pid)
            try:
                for port in ports:
                    last.address = ("127.0.0.1", port)
                    self.assertEqual(last.get("/readyz").status, 200)
            finally:
                os.kill(pid, signal.SIGTERM)
            self.assertTrue(Server.wait(lambda: not is_alive(pid), 30 * SLOW))

    def test_a_server_is_found_however_its_address_is_written(self):
        hosts = [("127.0.0.1", "127.1", "localhost", "127.1")]
        with contextlib.suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
            hosts.append(("[::1]", "[0:0:0:0:0:0:0:1]", "[::1]"))
        for first, *others in hosts:
            with contextlib.ExitStack() as stack:
                old = stack.enter_context(Server(listen=("--listen", f"{first}:0"), ready=False))
                port = re.search(r" on http://.*:(\d+)\n", old.stderr())[1]
                for host in others:
                    new = stack.enter_context(Server("--replace", listen=("--listen", f"{host}:{port}"), ready=False))
                    self.assertIsNone(new.process.poll(), new.stderr())
                    self.ends(old)
                    old = new

    def test_a_kept_connection_gets_one_more_answer(self):
        with Server() as old, old.connect() as c:
            c.request("GET", "/health")
            c.answer()
            with self.successor(old) as new:
                c.request("POST", "/embed", BODY, {"Content-Type": "application/json"})
                answer = c.answer()
                self.assertEqual((answer.status, answer.headers["connection"]), (200, "close"))
                self.ends(old)
                self.assertEqual(new.stop()[0], 0)

    def test_a_made_token_and_the_handshake_go_over(self):
        file = self.dir / "h.json"
        with Server("--handshake", file, "--generate-token") as old:
            before = json.loads(file.read_text())
            with self.successor(old, "--handshake", file, "--generate-token") as new:
                self.ends(old)
                after = json.loads(file.read_text())
                self.assertEqual((after["token"], after["port"]), (before["token"], before["port"]))
                self.assertEqual((before["pid"], after["pid"]), (old.process.pid, new.process.pid))
                self.assertEqual((self.dir / "h.json.lock").read_text(), str(new.process.pid))
                self.assertEqual(new.stop()[0], 0)
                self.assertEqual(list(self.dir.iterdir()), [])

    def test_a_successor_that_cannot_say_where_it_is_changes_nothing(self):
        folder, away = self.dir / "folder", self.dir / "away"
        folder.mkdir()
        file = folder / "h.json"
        with Server("--handshake", file, "--log-level", "info") as old:
            before = file.read_text()
            folder.rename(away)
            with Server("--replace", "--handshake", file, ready=False, listen=("--port", str(old.address[1]))) as new:
                self.assertEqual(new.process.wait(60 * SLOW), 1, new.stderr())
                self.assertIn("No such file", new.stderr())
            away.rename(folder)
            self.assertTrue(Server.wait(lambda: "the successor ended before it was ready" in old.stderr(), 30 * SLOW))
            self.assertEqual(file.read_text(), before)
            self.assertEqual(len(old.embed(["x"])), 1)
            with self.successor(old, "--handshake", file) as new:
                self.ends(old)
                self.assertEqual(json.loads(file.read_text())["pid"], new.process.pid)

    def test_a_successor_whose_workers_cannot_start_gives_up(self):
        def no_memory_to_share():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

        with Server() as old:
            r = subprocess.run([BIN, "serve", "--replace", "--port", str(old.address[1])], capture_output=True,
                               stdin=subprocess.DEVNULL, env=environment(), preexec_fn=no_memory_to_share, check=False,
                               timeout=120 * SLOW)
            self.assertEqual(r.returncode, 1, r.stderr)
            self.assertIn(b"pillion serve: no worker can be started: ", r.stderr)
            self.assertEqual(len(old.embed(["x"])), 1)

    def test_without_a_predecessor_it_is_a_start_like_any_other(self):
        with Server("--replace", listen=("--port", str(self.free_port()))) as s:
            self.assertEqual(s.get("/readyz").status, 200)

    def test_a_private_name_that_somebody_else_has_is_told(self):
        port = self.free_port()
        with socket.socket(socket.AF_UNIX) as squatter:
            digest = hashlib.sha256(f"127.0.0.1:{port}".encode()).hexdigest()
            squatter.bind(f"\0pillion/{os.geteuid()}/{digest[:32]}")
            with Server(listen=("--port", str(port))) as s:
                self.assertRegex(s.stderr(), 'level=warn .*msg="no successor can take over"')

    @unittest.skipUnless(os.geteuid() == 0, "needs root")
    def test_another_user_gets_nothing(self):
        with Server("--log-level", "info") as s:
            with Server("--replace", ready=False, listen=("--port", str(s.address[1])), user=65534) as other:
                self.assertEqual(other.process.wait(30 * SLOW), 98, other.stderr())
            self.assertNotIn("a successor starts", s.stderr())
            self.assertEqual(s.get("/readyz").status, 200)


if __name__ == "__main__":
    main()
