"""What a person at a terminal sees, through a pseudo-terminal: progress on long work, silence otherwise."""
import os
import pty
import re
import select
import signal
import subprocess
import time

import cli


class Terminal(cli.Case):
    def start(self, *args, on_terminal=("stderr",), **kw):
        """Starts it with these streams on a pseudo-terminal of 100 columns; the rest is a pipe or as in kw."""
        self.master, slave = pty.openpty()
        os.set_inheritable(slave, False)
        subprocess.run(["stty", "cols", "100"], stdin=slave, check=True)
        streams = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
        streams.update(kw)
        streams.update({name: slave for name in on_terminal})
        p = subprocess.Popen([cli.BIN, *map(str, args)], env=cli.environment(TERM="xterm"), cwd=self.dir, **streams)
        os.close(slave)
        self.addCleanup(self.finish, p)
        return p

    def finish(self, p):
        p.kill()
        with p:  # closes its pipes and waits
            os.close(self.master)

    def screen(self, until=None, timeout=120):
        """What was drawn until the program closed the terminal, or until a pattern was seen."""
        seen, end = b"", time.monotonic() + timeout
        while time.monotonic() < end and not (until and re.search(until, seen)):
            if not select.select([self.master], [], [], 0.1)[0]:
                continue
            try:
                piece = os.read(self.master, 65536)
            except OSError:  # the other side is closed
                break
            if not piece:
                break
            seen += piece
        return seen

    def test_no_texts_on_a_terminal_says_what_to_do(self):
        p = self.start("embed", on_terminal=("stdin",))
        self.assertEqual(p.wait(timeout=60), cli.USAGE)
        said = p.stderr.read().decode()
        for words in ("no texts", "pipe them in", "--input FILE"):
            self.assertIn(words, said)

    def test_typed_lines_are_read_when_asked_for(self):
        p = self.start("embed", "--input", "-", on_terminal=("stdin",), stdout=subprocess.PIPE)
        os.write(self.master, b"one\n")
        self.assertIn(b'"index":0', p.stdout.readline())
        os.write(self.master, b"\x04")
        self.assertEqual(p.wait(timeout=60), cli.OK)

    def test_binary_output_is_kept_from_a_terminal(self):
        p = self.start("embed", "-f", "npy", "one", on_terminal=("stdout",))
        self.assertEqual(p.wait(timeout=60), cli.USAGE)
        self.assertIn(b"is not for a terminal", p.stderr.read())

    def test_long_work_from_a_pipe_shows_count_and_rate_and_cleans_up(self):
        p = self.start("embed", "-o", "out.jsonl")
        for _ in range(8):
            p.stdin.write(b"one\n")
            p.stdin.flush()
            time.sleep(0.2)
        p.stdin.close()
        seen = self.screen().decode()
        self.assertEqual(p.wait(timeout=60), cli.OK)
        self.assertRegex(seen, r"\rembedding +\d+ texts  [\d.]+/s")
        self.assertNotIn("%", seen)  # nobody knows how much a pipe will bring
        self.assertRegex(seen, r"\r\x1b\[Kpillion embed: 8 texts, \d+ tokens in \d+\.\d s \(\d+ texts/s\)\r\n\Z")

    def test_long_work_from_a_file_shows_how_far_it_is(self):
        (self.dir / "in").write_text(("word " * 250 + "\n") * 2000)
        p = self.start("embed", "-i", "in", "-o", "out.npy", "--threads", "1")
        seen = self.screen(until=rb"\[=*> *\] +\d+%.* left").decode()
        self.assertRegex(seen, r"embedding \[=*> *\] +\d+%  [\d,]+ texts  [\d.]+/s  \d+:\d\d left")
        for line in re.split(r"[\r\n]", re.sub(r"\x1b\[K", "", seen)):
            self.assertLess(len(line), 100)
        p.send_signal(signal.SIGINT)
        self.assertEqual(p.wait(timeout=60), -signal.SIGINT)
        self.assertEqual(os.listdir(self.dir), ["in"])

    def test_short_work_draws_nothing(self):
        p = self.start("embed", "-o", "out.jsonl", "one")
        p.stdin.close()
        seen = self.screen()
        self.assertEqual(p.wait(timeout=60), cli.OK)
        self.assertEqual(seen, b"")

    def test_quiet_and_pipes_draw_nothing(self):
        p = self.start("embed", "-q", "-o", "out.jsonl")
        for _ in range(5):
            p.stdin.write(b"one\n")
            p.stdin.flush()
            time.sleep(0.2)
        p.stdin.close()
        self.assertEqual(self.screen(), b"")
        self.assertEqual(p.wait(timeout=60), cli.OK)
        with subprocess.Popen([cli.BIN, "embed", "-o", self.dir / "o"], stdin=subprocess.PIPE, stderr=subprocess.PIPE,
                              env=cli.environment()) as quiet:
            for _ in range(5):
                quiet.stdin.write(b"one\n")
                quiet.stdin.flush()
                time.sleep(0.2)
            quiet.stdin.close()
            self.assertEqual(quiet.stderr.read(), b"")

    def test_vectors_on_the_same_terminal_are_not_drawn_over(self):
        p = self.start("embed", on_terminal=("stdout", "stderr"))
        for _ in range(5):
            p.stdin.write(b"one\n")
            p.stdin.flush()
            time.sleep(0.2)
        p.stdin.close()
        seen = self.screen()
        self.assertEqual(seen.count(b'"index"'), 5)
        self.assertNotIn(b"\x1b", seen)


if __name__ == "__main__":
    cli.main()
