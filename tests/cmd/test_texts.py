"""Where texts come from: arguments, standard input, files; lines and JSON lines; everything that can be wrong there."""
import json
import os
import subprocess
import time

import cli

TEXT_LIMIT = 4 << 20
LINE_LIMIT = 8 << 20


class Sources(cli.Case):
    def test_arguments_standard_input_and_file_give_the_same(self):
        (self.dir / "in").write_text("one\ntwo\n")
        by_args = self.rows("embed", "one", "two")
        self.assertEqual([r["index"] for r in by_args], [0, 1])
        self.assertNotEqual(by_args[0]["embedding"], by_args[1]["embedding"])
        self.assertEqual(by_args, self.rows("embed", stdin=b"one\ntwo\n"))
        self.assertEqual(by_args, self.rows("embed", "-", stdin=b"one\ntwo\n"))
        self.assertEqual(by_args, self.rows("embed", "--input", "-", stdin=b"one\ntwo\n"))
        self.assertEqual(by_args, self.rows("embed", "--input", self.dir / "in"))

    def test_a_file_that_is_standard_input_is_read_from_where_it_stands(self):
        (self.dir / "in").write_text("one\ntwo\n")
        with open(self.dir / "in", "rb") as f:
            os.lseek(f.fileno(), 4, os.SEEK_SET)
            self.assert_same_vectors(self.rows("embed", stdin=f), self.rows("embed", "two"))

    def test_a_named_pipe_is_read(self):
        os.mkfifo(self.dir / "fifo")
        with subprocess.Popen(["sh", "-c", f"echo one > '{self.dir}/fifo'"]):
            self.assert_same_vectors(self.rows("embed", "-i", self.dir / "fifo"), self.rows("embed", "one"))

    def test_texts_after_two_dashes_may_look_like_options(self):
        self.assertEqual(len(self.rows("embed", "--", "--quiet", "-5 degrees")), 2)

    def test_arguments_are_not_searched_for_json(self):
        text = '{"text":"one"}'
        self.assert_same_vectors(self.rows("embed", text),
                                 self.rows("embed", "--input-format", "lines", stdin=text.encode()))

    def test_a_file_name_as_the_only_text_gets_a_note(self):
        (self.dir / "notes.txt").write_text("one\n")
        r = cli.pillion("embed", "notes.txt", cwd=self.dir)
        self.assertEqual(r.returncode, cli.OK)
        self.assertEqual(r.stderr.decode(),
                         "pillion embed: note: 'notes.txt' was taken as a text; --input notes.txt reads the file\n")
        self.assertEqual(cli.pillion("embed", "-q", "notes.txt", cwd=self.dir).stderr, b"")

    def test_memory_does_not_grow_with_the_input(self):
        def peak(n):
            """Of the resident set in KiB, when n texts pass by."""
            with subprocess.Popen([cli.BIN, "tokenize", "-t", "1"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                                  env=cli.environment(ASAN_OPTIONS="quarantine_size_mb=1")) as p:
                p.stdin.write(b"some words that are a text of ordinary length\n" * n)
                p.stdin.close()
                _, status, usage = os.wait4(p.pid, 0)
                p.returncode = status
                return usage.ru_maxrss
        self.assertLess(peak(200000), 1.5 * peak(20000))

    def test_two_sources_at_once_are_refused(self):
        self.fails(cli.USAGE, "embed", "one", "--input", "x", says="both as arguments and with --input")

    def test_a_missing_file_and_a_directory_are_named(self):
        self.fails(cli.NOT_FOUND, "embed", "-i", self.dir / "none", says=[f"{self.dir}/none", "No such file"])
        self.fails(cli.FAILURE, "embed", "-i", self.dir, says=[str(self.dir), "is a directory"])
        self.fails(cli.USAGE, "embed", "--input=", says="the file name is empty")

    def test_no_standard_input_at_all_is_an_error(self):
        r = subprocess.run(["sh", "-c", 'exec "$0" embed <&-', cli.BIN], capture_output=True, check=False,
                           env=cli.environment())
        self.assertEqual(r.returncode, cli.FAILURE)
        self.assertIn(b"standard input: cannot read", r.stderr)

    def test_a_written_line_is_answered_before_the_next(self):
        with subprocess.Popen([cli.BIN, "embed"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              env=cli.environment()) as p:
            for i in range(3):
                p.stdin.write(b"a line\n")
                p.stdin.flush()
                self.assertEqual(json.loads(p.stdout.readline())["index"], i)
            p.stdin.close()
            self.assertEqual(p.wait(), cli.OK)

    def test_a_line_may_arrive_in_pieces(self):
        with subprocess.Popen([cli.BIN, "embed"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              env=cli.environment()) as p:
            for piece in (b"caf", b"\xc3", b"\xa9 ", b"au lait"):
                p.stdin.write(piece)
                p.stdin.flush()
                time.sleep(0.05)
            p.stdin.close()
            rows = [json.loads(line) for line in p.stdout]
        self.assert_same_vectors(rows, self.rows("embed", "café au lait"))

    def test_thousands_of_texts_keep_their_order_over_blocks(self):
        n = 3000
        words = ["alpha", "beta", "gamma", "delta", "epsilon"]
        rows = self.rows("embed", stdin="\n".join(words[i % 5] for i in range(n)).encode())
        self.assertEqual([r["index"] for r in rows], list(range(n)))
        expected = [r["embedding"] for r in self.rows("embed", *words)]
        self.assertTrue(all(r["embedding"] == expected[i % 5] for i, r in enumerate(rows)))


class Lines(cli.Case):
    def embed(self, data, *args):
        return self.rows("embed", *args, stdin=data)

    def test_the_last_line_needs_no_line_feed(self):
        self.assertEqual(self.embed(b"one\ntwo"), self.embed(b"one\ntwo\n"))

    def test_carriage_returns_before_line_feeds_are_not_text(self):
        self.assertEqual(self.embed(b"one\r\ntwo\r\n"), self.embed(b"one\ntwo\n"))

    def test_an_empty_line_is_a_text_so_that_lines_keep_their_numbers(self):
        rows = self.embed(b"\none\n\n")
        self.assertEqual(len(rows), 3)
        self.assertEqual(rows[0]["embedding"], rows[2]["embedding"])
        self.assert_same_vectors(rows[:1], self.rows("embed", ""))

    def test_no_input_is_no_text(self):
        r = cli.pillion("embed", stdin=b"")
        self.assertEqual((r.returncode, r.stdout), (cli.OK, b""))
        self.assertEqual(r.stderr, b"pillion embed: standard input: no texts\n")
        self.assertEqual(cli.pillion("embed", "-q", stdin=b"").stderr, b"")

    def test_a_byte_order_mark_is_not_text(self):
        self.assertEqual(self.embed(b"\xef\xbb\xbfone\n"), self.embed(b"one\n"))
        self.assertEqual(self.embed(b'\xef\xbb\xbf{"text":"one"}\n'), self.embed(b"one\n"))

    def test_a_nul_byte_is_part_of_its_text(self):
        rows = self.embed(b"one\0two\nthree\n")
        self.assertEqual(len(rows), 2)

    def test_a_long_line_is_one_text(self):
        line = b"word " * (1 << 18)  # more than one read
        rows = self.embed(line + b"\nshort\n", "-q")
        self.assertEqual(len(rows), 2)
        self.assertTrue(rows[0]["truncated"])
        self.assertFalse(rows[1]["truncated"])

    def test_a_text_over_the_limit_is_refused_with_its_line(self):
        self.fails(cli.INPUT, "embed", stdin=b"x\n" + b"y" * (TEXT_LIMIT + 1) + b"\n",
                   says=["line 2", f"{TEXT_LIMIT + 1} bytes", f"the limit is {TEXT_LIMIT}"])

    def test_an_endless_line_is_refused_before_memory_ends(self):
        with open("/dev/zero", "rb") as zero:
            self.fails(cli.INPUT, "embed", stdin=zero, says=["line 1", f"longer than {LINE_LIMIT} bytes"])

    def test_truncation_is_counted_whatever_is_asked_for(self):
        longest = cli.show()["max_tokens"]
        text = ("word " * (longest + 1)).encode()
        for flags in ([], ["-q"], ["-f", "npy"]):
            r = cli.pillion("embed", *flags, stdin=text + b"\nshort\n" + text)
            self.assertEqual(r.returncode, cli.OK)
            self.assertEqual(r.stderr.decode(), f"pillion embed: cut to the model's {longest} tokens: 2 of 3 texts\n")
        rows = self.embed(text + b"\nshort\n")
        self.assertEqual([r["truncated"] for r in rows], [True, False])
        self.assertEqual(rows[0]["tokens"], longest)

    def test_truncation_can_be_refused(self):
        longest = cli.show()["max_tokens"]
        text = ("word " * (longest + 1)).encode()
        self.fails(cli.INPUT, "embed", "--no-truncate", stdin=b"a\n" + text,
                   says=["text 2", f"the model takes {longest}"])


class Json(cli.Case):
    def test_json_lines_are_recognised_by_the_first_line_that_is_not_blank(self):
        plain = self.rows("embed", "one", "two")
        lines = b'\n \t\n{"text":"one"}\n\n{"more":7,"text":"two"}\n'
        self.assertEqual(self.rows("embed", stdin=lines), plain)
        self.assertEqual(self.rows("embed", "--input-format", "jsonl", stdin=lines), plain)

    def test_an_id_is_given_back_with_its_text(self):
        ids = [7, "a-7", -(1 << 63), "é\n\"\u0000", "", None, 1.5, True, [7], {"a": 7}, "x" * 1024, "\x01" * 1024]
        lines = "".join(json.dumps({"id": i, "text": f"text {n}"}) + "\n" for n, i in enumerate(ids)).encode()
        wanted = [i if isinstance(i, str) or (isinstance(i, int) and i is not True) else "none" for i in ids]
        for args in (("embed",), ("tokenize",)):
            rows = self.rows(*args, stdin=lines)
            self.assertEqual([row.get("id", "none") for row in rows], wanted)
            self.assertEqual([row["index"] for row in rows], list(range(len(ids))))
        array = json.loads(self.ok("embed", "-f", "json", stdin=lines))
        self.assertEqual([row.get("id", "none") for row in array], wanted)
        csv = self.ok("embed", "-f", "csv", stdin=b'{"text":"a","id":1}\n')
        self.assertEqual(csv, self.ok("embed", "-f", "csv", "a"))
        self.assertNotIn("id", self.rows("embed", "a")[0])
        for many in (3000, 9000):  # over several blocks
            lines = "".join(json.dumps({"id": f"n{i}", "text": "t"}) + "\n" for i in range(many)).encode()
            self.assertEqual([row["id"] for row in self.rows("tokenize", stdin=lines)], [f"n{i}" for i in range(many)])
        self.fails(cli.INPUT, "embed", stdin=b'{"text":"a"}\n{"text":"b","id":"%s"}\n' % (b"x" * 1025),
                   says=["line 2", "the id has 1025 bytes, the limit is 1024"])

    def test_escapes_are_text(self):
        rows = self.rows("embed", stdin=b'{"text":"caf\\u00e9 \\ud83d\\ude00"}\n{"text":"a\\nb"}\n{"text":"\\u0000"}\n')
        self.assertEqual(len(rows), 3)
        self.assert_same_vectors(rows[:1], self.rows("embed", "café 😀"))

    def test_a_first_line_that_only_looks_like_json_is_text(self):
        for first in (b"{ not json", b"[1,2]", b'"a string"', b"12"):
            self.assertEqual(len(self.rows("embed", stdin=first + b"\n{}\n")), 2)

    def test_lines_can_be_forced(self):
        self.assertEqual(len(self.rows("embed", "--input-format", "lines", stdin=b'{"text":"one"}\n\n')), 2)

    def test_malformed_lines_are_named(self):
        head = b'{"text":"one"}\n'
        self.fails(cli.INPUT, "embed", stdin=head + b'{"text":\n', says=["standard input: line 2: malformed JSON"])
        self.fails(cli.INPUT, "embed", stdin=head + b'{"txt":"x"}\n',
                   says='line 2: not a JSON object with a string "text"')
        self.fails(cli.INPUT, "embed", stdin=head + b'{"text":7}\n', says="line 2")
        self.fails(cli.INPUT, "embed", stdin=head + b"\n[]\n", says="line 3")
        self.fails(cli.INPUT, "embed", stdin=b'{"title":"x"}\n', says=["line 1", "--input-format lines"])
        self.fails(cli.INPUT, "embed", stdin=head + b'{"text":"\\ud800"}\n', says="line 2")
        self.fails(cli.INPUT, "embed", stdin=head + b'{"text":"a","text":"b"}\n', says="line 2")
        self.fails(cli.INPUT, "embed", stdin=head + b"[" * 100000 + b"\n", says=["line 2", "nested deeper"])

    def test_a_line_of_too_many_values_is_refused_and_not_taken_as_a_text(self):
        few, many = (b'{"text":"one","vector":[' + b"0," * n + b"0]}\n" for n in (4096, 262144))
        self.assertEqual(len(self.rows("embed", stdin=few)), 1)
        for source in (many, b" \t" + many):
            self.fails(cli.INPUT, "embed", stdin=source, says=[
                "standard input: line 1: more than 262144 values in one line of JSON", "--input-format lines"])
        self.fails(cli.INPUT, "embed", stdin=few + many, says="line 2: more than 262144 values")
        row, = self.rows("tokenize", "--input-format", "lines", stdin=many)
        self.assertTrue(row["truncated"])


class Utf8(cli.Case):
    def test_invalid_bytes_are_named_by_line_and_offset(self):
        self.fails(cli.INPUT, "embed", stdin=b"good\r\nab\xffcd\n",
                   says="standard input: line 2: invalid UTF-8: byte 0xFF at offset 2 of the line, 8 of the input")
        (self.dir / "in").write_bytes(b"\xef\xbb\xbfok\xc3\n")
        self.fails(cli.INPUT, "embed", "-i", self.dir / "in",
                   says=[f"{self.dir}/in: line 1", "byte 0xC3 at offset 5 of the line, 5 of the input"])

    def test_every_kind_of_invalid_sequence_is_refused(self):
        for bad in (b"\xc0\x80", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\xf0\x80\x80\x80", b"\x80", b"\xe2\x82"):
            self.fails(cli.INPUT, "embed", stdin=b"a" + bad + b"\n", says="offset 1 of the line")
            self.fails(cli.INPUT, "embed", stdin=b'{"text":"x"}\n{"text":"' + bad + b'"}\n',
                       says="line 2: invalid UTF-8")

    def test_utf_16_is_recognised(self):
        self.fails(cli.INPUT, "embed", stdin="text\n".encode("utf-16"), says=["line 1", "iconv -f UTF-16"])

    def test_an_invalid_argument_is_named_by_its_number(self):
        r = subprocess.run([os.fsencode(cli.BIN), b"embed", b"good", b"a\xff"], capture_output=True, check=False,
                           env=cli.environment())
        self.assertEqual(r.returncode, cli.INPUT)
        self.assertEqual(r.stdout, b"")
        self.assertIn(b"text 2 of the arguments: invalid UTF-8: byte 0xFF at offset 1", r.stderr)

    def test_an_invalid_line_leaves_no_output_file(self):
        self.fails(cli.INPUT, "embed", "-o", self.dir / "out.npy", stdin=b"good\n" * 2000 + b"\xff\n", says="line 2001")
        self.assertEqual(list(self.dir.iterdir()), [])


if __name__ == "__main__":
    cli.main()
