"""pillion replay: recorded batches in every shape, 100 % of a hostile corpus, deaths of workers, texts that fail."""
import json
import os
import signal
import subprocess
import time
import unittest
from pathlib import Path

import cli
import make_replay_corpus as corpus

FAULTS_BIN = Path(os.environ.get("PILLION_FAULTS_BIN", cli.SOURCE / "build-faults/pillion"))
TOO_LARGE = 4 * 1024 * 1024 + 1  # bytes of a text, one beyond the limit
VALUES_MAX = 4_000_000  # of a file


def children_of(pid):
    """Process ids of the workers that this process has started."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
            if int(fields[1]) == pid and b"--role=worker" in (stat.parent / "cmdline").read_bytes():
                found.append(int(stat.parent.name))
        except (OSError, IndexError):
            continue
    return found


class Corpus(cli.Case):
    def setUp(self):
        super().setUp()
        self.files, self.batches = corpus.make(self.dir / "corpus", seed=int(os.environ.get("PILLION_SEED", 1)))

    def check(self, lines, texts_failed=0):
        """The lines of --json against what was recorded."""
        *batches, total = map(json.loads, lines)
        self.assertEqual(len(batches), corpus.BATCHES)
        for got, wanted in zip(batches, self.batches):
            self.assertTrue(got["ok"], got)
            self.assertEqual([t["characters"] for t in got["texts"]], [len(t) for t in wanted])
            self.assertEqual([t["index"] for t in got["texts"]], list(range(len(wanted))))
            self.assertTrue(all(t["ok"] and t["tokens"] >= 2 for t in got["texts"]), got)
        self.assertEqual([total[k] for k in ("ok", "batches", "batches_failed", "texts", "texts_failed", "characters")],
                         [True, 15, 0, 133, 0, 220_369])
        return total

    def test_every_text_of_the_corpus_succeeds(self):
        out = self.ok("replay", *self.files).decode()
        self.assertIn("15 of 15 batches and 133 of 133 texts succeeded (220,369 characters) in ", out)
        self.assertRegex(out, r"\n    1 +31 +[\d,]+ +[\d.]+  ok  .*01-array\.json\n")
        self.assertIn("12-13-14-lines.jsonl (batch 3 in it)\n", out)
        self.assertEqual(out.count("\n"), 17)

    def test_json_has_a_line_for_each_batch_and_one_for_all(self):
        self.assertEqual(self.check(self.ok("replay", "--json", *self.files).splitlines())["deaths"], 0)

    def test_workers_that_are_killed_meanwhile_cost_no_text(self):
        command = [cli.BIN, "replay", "--json", "--workers", "2", *map(str, self.files)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                              env=cli.environment()) as replay:
            lines, killed = [], 0
            for line in replay.stdout:
                lines.append(line)
                if len(lines) in (1, 4, 8):  # in the midst of the next batch
                    time.sleep(0.02)
                    for pid in children_of(replay.pid)[:1]:
                        os.kill(pid, signal.SIGKILL)
                        killed += 1
            self.assertEqual(replay.wait(timeout=250), cli.OK)
        total = self.check(lines)
        self.assertGreater(killed, 0)
        self.assertLessEqual(total["deaths"], killed)


@unittest.skipUnless(FAULTS_BIN.exists(), f"no test build in {FAULTS_BIN} (cmake --preset faults)")
class Poison(cli.Case):
    """The test build: a text with a marker does to its worker what the marker says."""

    def replay(self, batches, **env):
        path = self.dir / "batch.json"
        path.write_text(json.dumps(batches))
        r = subprocess.run([FAULTS_BIN, "replay", "--json", path], capture_output=True, timeout=250,
                           env=cli.environment(**env), check=False)
        return r, [json.loads(line) for line in r.stdout.splitlines()]

    def test_texts_that_kill_fail_alone(self):
        texts = [f"text {i}" for i in range(24)]
        poisoned = [*texts[:7], "bad \x01fault:segv", *texts[7:]]
        mixed = ["a", "\x01fault:nan", "\x01fault:abort", "b"]
        r, (first, second, third, total) = self.replay([texts, poisoned, mixed])
        self.assertEqual(r.returncode, cli.FAILURE)
        self.assertEqual([t["index"] for t in second["texts"] if not t["ok"]], [7])
        self.assertEqual([t["index"] for t in third["texts"] if not t["ok"]], [1, 2])
        self.assertEqual(third["texts"][1]["error"], "result is not a finite vector")
        self.assertEqual((first["deaths"], second["deaths"], first["ok"]), (0, 2, True))
        self.assertEqual([total[k] for k in ("batches_failed", "texts", "texts_failed")], [2, 53, 3])

    def test_workers_that_never_start_end_the_replay_with_a_reason(self):
        r, lines = self.replay(["a"], PILLION_FAULT_START="segv")
        self.assertEqual((r.returncode, lines), (cli.FAILURE, []))
        self.assertIn(b"pillion replay: ", r.stderr)


class Shapes(cli.Case):
    def replay(self, content, *options, status=cli.OK):
        """The report of one file, without its last line."""
        path = self.dir / "batch.json"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        r = cli.pillion("replay", "--json", *options, path)
        self.assertEqual(r.returncode, status, r.stderr)
        return [json.loads(line) for line in r.stdout.splitlines()][:-1]

    def test_what_is_a_batch(self):
        for content, sizes in (
                ('["a","b"]', [2]), ('"a"', [1]), ('{"text":"a"}', [1]), ('{"prompt":"a","model":"m"}', [1]),
                ('{"texts":["a","b"]}', [2]), ('{"input":"a"}', [1]), ('{"input":["a"]}', [1]),
                ('{"batch":["a"]}', [1]), ('{"batch":3,"chunks":["a"]}', [1]), ('[["a"],["b","c"]]', [1, 2]),
                ('["a",["b"],"c"]', [1, 1, 1]), ('{"batches":[{"input":["a"]},{"texts":["b"]}]}', [1, 1]),
                ('{"request":{"body":{"data":["a","b"]}}}', [2]), ('{"text":"a"}\n{"text":"b"}\n', [2]),
                ('"a"\n\n["b"]\r\n"c"\n"d"', [1, 1, 2]), ('\ufeff["a"]', [1]), ('[[],["a"]]', [1]),
                ('["", " ", "\\u0000"]', [3])):
            with self.subTest(content):
                batches = self.replay(content)
                self.assertEqual([len(b["texts"]) for b in batches], sizes)
                self.assertEqual([b["batch"] for b in batches], list(range(1, len(sizes) + 1)))

    def test_a_dash_is_standard_input(self):
        batch, total = map(json.loads, self.ok("replay", "--json", "-", stdin=b'["a","b"]').splitlines())
        self.assertEqual((batch["file"], len(batch["texts"]), total["ok"]), ("standard input", 2, True))

    def test_texts_alone_have_times_of_their_own(self):
        batch, = self.replay('["a","b","a longer text"]', "--alone")
        self.assertTrue(all(t["ms"] > 0 for t in batch["texts"]), batch)
        self.assertGreaterEqual(batch["ms"] + 0.2, sum(t["ms"] for t in batch["texts"]))

    def test_a_text_that_fails_fails_alone(self):
        for options in ((), ("--alone",)):
            first, second = self.replay(json.dumps([["a", "x" * TOO_LARGE, "b"], ["c"]]), *options, status=cli.FAILURE)
            self.assertEqual([t["ok"] for t in first["texts"]], [True, False, True])
            self.assertEqual((first["ok"], first["failed"], first["texts"][1]["error"]), (False, 1, "over a limit"))
            self.assertTrue(second["ok"])
        out = cli.pillion("replay", self.dir / "batch.json").stdout.decode()
        self.assertIn("1 of 3 failed", out)
        self.assertIn("       text 2, 4,194,305 characters: over a limit\n", out)
        self.assertIn("1 of 2 batches and 3 of 4 texts succeeded", out)

    def test_what_is_no_recording_is_refused_with_its_place(self):
        good = self.dir / "good.json"
        good.write_text('["a"]')
        for content, says in (
                ('["ok",1]', "batch 1, behind 1 texts: a number where texts were expected"),
                ('["ok",null]', "null where"), ("true", "a boolean where"), ('{"a":1}', "an object without texts"),
                ('{"texts":3}', "an object without texts"), ("[]", "there is no text in it"), ("", "is empty"),
                (" \n", "is empty"),
                ('["a"', "byte 4: "), ('["a"]\n["b"', "line 2, byte 4: "), ('"a"\n7\n', "line 2: a number where"),
                ('{"texts":["a"],"texts":[]}', "duplicate"), (b'["\xff"]', "byte 2: invalid UTF-8"),
                ('["\\ud800"]', "byte "), ("[" * 40 + "]" * 40, "nested deeper")):
            with self.subTest(content):
                path = self.dir / "bad.json"
                path.write_bytes(content if isinstance(content, bytes) else content.encode())
                r = self.fails(cli.INPUT, "replay", good, path, says=["pillion replay: ", "bad.json: ", says])
                self.assertEqual(r.stdout, b"")
        self.fails(cli.INPUT, "replay", "-", says="pillion replay: standard input: is empty")
        self.fails(cli.INPUT, "replay", "-", stdin=b"[1]", says="standard input: batch 1, behind 0 texts: a number")
        self.fails(cli.NOT_FOUND, "replay", self.dir / "gone.json", says="gone.json")
        self.fails(cli.USAGE, "replay", says="an argument is missing")
        r = cli.pillion("replay", "-m", good, good)
        self.assertEqual(r.returncode, cli.MODEL)
        self.assertIn(b"pillion replay: ", r.stderr)
        self.assertIn(b"good.json", r.stderr)
        self.fails(cli.NOT_FOUND, "replay", "-m", "./gone", good, says="gone")
        self.fails(cli.MODEL, "replay", "--precision", "int8", good, says="the built-in model computes in f32")

    def test_a_file_of_more_values_than_fit_into_memory_is_refused_before_they_are_built(self):
        path = self.dir / "many.json"
        for name, content in (("one document", b"[" + b"0," * VALUES_MAX + b"0]"),
                              ("lines of texts", b'""\n' * (VALUES_MAX + 1)),
                              ("lines before a bad one", b'["",""]\n' * (VALUES_MAX // 2 + 1) + b"[" * 40)):
            with self.subTest(name):
                path.write_bytes(content)
                self.fails(cli.INPUT, "replay", path,
                           says=[f"pillion replay: {path}: more than {VALUES_MAX} values; split it into several files"])

    @unittest.skipUnless(os.path.exists("/dev/full"), "there is no /dev/full")
    def test_an_output_that_takes_nothing_is_a_failure(self):
        good = self.dir / "good.json"
        good.write_text('["a"]')
        with open("/dev/full", "wb") as full:
            r = cli.pillion("replay", good, stdout=full)
        self.assertEqual(r.returncode, cli.FAILURE)
        self.assertIn(b"standard output: cannot write", r.stderr)


if __name__ == "__main__":
    cli.main()
