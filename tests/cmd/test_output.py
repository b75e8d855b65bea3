"""Where results go: a file is complete or absent, whatever happens; standard output behaves as a filter's does."""
import json
import os
import resource
import shutil
import signal
import stat
import subprocess

import cli


BEGUN = b"one\n" * 4000  # much more than a pipe of 4 KiB: once it is written, the program is at work


class Files(cli.Case):
    def test_a_file_is_replaced_and_keeps_its_permissions(self):
        path = self.dir / "out"
        path.write_text("old")
        path.chmod(0o600)
        self.ok("embed", "-o", path, "one")
        self.assertEqual(json.loads(path.read_text())["index"], 0)
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
        self.assertEqual(os.listdir(self.dir), ["out"])

    def test_a_symbolic_link_keeps_pointing(self):
        (self.dir / "real").write_text("old")
        (self.dir / "link").symlink_to("real")
        self.ok("embed", "-o", self.dir / "link", "one")
        self.assertTrue((self.dir / "link").is_symlink())
        self.assertEqual(json.loads((self.dir / "real").read_text())["index"], 0)

    def test_a_link_to_a_file_that_is_not_there_yet_is_followed(self):
        (self.dir / "a/b").mkdir(parents=True)
        (self.dir / "other").mkdir()
        (self.dir / "a/out").symlink_to("b/link")
        (self.dir / "a/b/link").symlink_to("../../other/absolute")
        (self.dir / "other/absolute").symlink_to(self.dir / "real")
        (self.dir / "folder").symlink_to("a")
        self.ok("embed", "-o", "folder/out", "one", cwd=self.dir)
        for name in ("a/out", "a/b/link", "other/absolute"):
            self.assertTrue((self.dir / name).is_symlink(), name)
        self.assertEqual(json.loads((self.dir / "real").read_text())["index"], 0)
        self.assertFalse((self.dir / "real").is_symlink())
        (self.dir / "nowhere").symlink_to("no/folder")
        self.fails(cli.NOT_FOUND, "embed", "-o", "nowhere", "one", cwd=self.dir, says=["no/folder", "No such file"])
        (self.dir / "loop").symlink_to("loop")
        self.fails(cli.FAILURE, "embed", "-o", "loop", "one", cwd=self.dir, says=["loop", "levels of symbolic links"])
        self.fails(cli.FAILURE, "embed", "-o", "./" * 3000 + "x", "one", cwd=self.dir, says="name too long")

    def test_a_dash_is_standard_output(self):
        self.assertEqual(self.ok("embed", "-o", "-", "one", cwd=self.dir), self.ok("embed", "one"))
        self.assertEqual(os.listdir(self.dir), [])

    def test_a_file_in_the_working_directory_needs_no_path(self):
        self.ok("embed", "-o", "out.npy", "one", cwd=self.dir)
        self.assertEqual(os.listdir(self.dir), ["out.npy"])

    def test_places_that_cannot_be_written_are_named(self):
        self.fails(cli.NOT_FOUND, "embed", "-o", self.dir / "none/out", "one",
                   says=[f"{self.dir}/none/out", "No such file"])
        self.fails(cli.FAILURE, "embed", "-o", self.dir, "one", says=[str(self.dir), "is a directory"])

    def test_a_directory_without_permission_is_named(self):
        if os.geteuid() == 0:
            self.skipTest("root may write everywhere")
        self.dir.chmod(0o500)
        self.fails(cli.FAILURE, "embed", "-o", self.dir / "out", "one", says=[f"{self.dir}/out", "Permission denied"])
        self.dir.chmod(0o700)

    def test_a_device_is_written_directly_and_stays_a_device(self):
        self.ok("embed", "-o", "/dev/null", "one")
        self.ok("embed", "-o", "/dev/null", "-f", "npy", "one")
        self.assertTrue(stat.S_ISCHR(os.stat("/dev/null").st_mode))

    def test_a_full_disk_is_reported_and_leaves_nothing(self):
        for name in ("jsonl", "json", "csv", "npy", "f32"):
            self.fails(cli.FAILURE, "embed", "-f", name, "-o", "/dev/full", "one",
                       says="/dev/full: cannot write: No space")
            with open("/dev/full", "wb") as full:
                self.fails(cli.FAILURE, "embed", "-f", name, "one", stdout=full,
                           says="pillion embed: standard output: cannot write: No space left on device")

    def test_a_file_that_may_not_grow_leaves_nothing(self):
        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        r = subprocess.run([cli.BIN, "embed", "-o", "out.npy", *["x"] * 100], cwd=self.dir, capture_output=True,
                           check=False, preexec_fn=limit, env=cli.environment())
        self.assertEqual(r.returncode, cli.FAILURE, r.stderr)
        self.assertIn(b"out.npy: cannot write: File too large", r.stderr)
        self.assertEqual(os.listdir(self.dir), [])

    def test_small_outputs_report_a_full_disk_too(self):
        for args in (["show"], ["show", "--json"], ["--help"], ["--version"], ["completion", "bash"],
                     ["tokenize", "one"], ["similarity", "a", "b"], ["verify"]):
            with open("/dev/full", "wb") as full:
                r = cli.pillion(*args, stdout=full)
            self.assertEqual(r.returncode, cli.FAILURE, args)
            self.assertIn(b"cannot write: No space", r.stderr, args)

    def test_a_closed_standard_output_is_an_error_and_never_the_input_file(self):
        (self.dir / "in").write_text("one\n")
        r = subprocess.run(["sh", "-c", 'exec "$0" embed -i in >&-', cli.BIN], cwd=self.dir, capture_output=True,
                           check=False, env=cli.environment())
        self.assertEqual(r.returncode, cli.FAILURE)
        self.assertIn(b"standard output: cannot write", r.stderr)
        self.assertEqual((self.dir / "in").read_text(), "one\n")


class Signals(cli.Case):
    def interrupt(self, number, *args):
        """Lets it begin to write, sends the signal, gives its status as wait(2) tells it."""
        command = [cli.BIN, "embed", "-o", "out.jsonl", *args]
        with subprocess.Popen(command, cwd=self.dir, stdin=subprocess.PIPE, stderr=subprocess.PIPE, pipesize=4096,
                              env=cli.environment()) as p:
            p.stdin.write(BEGUN)
            p.stdin.flush()
            p.send_signal(number)
            p.stdin.close()
            p.wait(timeout=60)
            return p.returncode

    def test_an_interrupted_command_leaves_no_file(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self.assertEqual(self.interrupt(number), -number)
            self.assertEqual(os.listdir(self.dir), [])

    def test_a_temporary_file_with_a_name_is_removed(self):
        """Without /proc a file cannot be named late, so it has a name from the start, as where O_TMPFILE is unknown."""
        hide = ["unshare", "--map-root-user", "--mount", "sh", "-c", 'mount -t tmpfs none /proc && exec "$@"', "sh"]
        if not shutil.which("unshare") or subprocess.run([*hide, "true"], capture_output=True, check=False).returncode:
            self.skipTest("no mount namespace may be made here")
        if os.environ.get("PILLION_SANITIZE"):
            self.skipTest("sanitizers need /proc")
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            with subprocess.Popen([*hide, cli.BIN, "embed", "-o", "out.jsonl"], cwd=self.dir, stdin=subprocess.PIPE,
                                  pipesize=4096, env=cli.environment()) as p:
                p.stdin.write(BEGUN)
                p.stdin.flush()
                self.assertRegex(" ".join(os.listdir(self.dir)), r"\Aout\.jsonl\.\w+\Z")
                p.send_signal(number)
                p.stdin.close()
                self.assertEqual(p.wait(timeout=60), -number)
            self.assertEqual(os.listdir(self.dir), [])
        r = subprocess.run([*hide, cli.BIN, "embed", "-o", "out.jsonl", "one"], cwd=self.dir, check=False,
                           capture_output=True, env=cli.environment())
        # a sanitizer's run time complains that it cannot read /proc
        said = [l for l in r.stderr.splitlines() if b"reading executable name failed" not in l]
        self.assertEqual((r.returncode, said), (cli.OK, []))
        self.assertEqual(os.listdir(self.dir), ["out.jsonl"])

    def test_a_shell_sees_130(self):
        script = 'trap : INT; "$0" embed -o out.jsonl; echo $?'
        with subprocess.Popen(["sh", "-c", script, cli.BIN], cwd=self.dir, stdin=subprocess.PIPE, pipesize=4096,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=cli.environment(),
                              start_new_session=True) as p:
            p.stdin.write(BEGUN)
            p.stdin.flush()
            os.killpg(p.pid, signal.SIGINT)
            last = p.stdout.read().decode().split()[-1]
        self.assertEqual(last, "130")
        self.assertEqual(os.listdir(self.dir), [])

    def test_what_was_there_before_stays(self):
        (self.dir / "out.jsonl").write_text("old")
        self.assertEqual(self.interrupt(signal.SIGINT), -signal.SIGINT)
        self.assertEqual((self.dir / "out.jsonl").read_text(), "old")
        self.assertEqual(os.listdir(self.dir), ["out.jsonl"])

    def test_a_reader_that_leaves_ends_it_quietly(self):
        with subprocess.Popen([cli.BIN, "embed"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              env=cli.environment(), restore_signals=True) as p:
            p.stdin.write(b"one\n")
            p.stdin.flush()
            p.stdout.readline()
            p.stdout.close()
            try:
                p.stdin.write(b"two\n" * 100000)
                p.stdin.close()
            except BrokenPipeError:
                pass
            self.assertEqual(p.wait(timeout=60), -signal.SIGPIPE)
            self.assertEqual(p.stderr.read(), b"")


if __name__ == "__main__":
    cli.main()
