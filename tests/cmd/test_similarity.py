"""`pillion similarity`: cosines that agree with the vectors of `pillion embed`."""
import json
import math

import cli

TEXTS = ["a cat sleeps on the sofa", "a kitten naps on the couch", "quarterly tax report", "un chat dort"]


class Similarity(cli.Case):
    def cosines(self):
        v = [r["embedding"] for r in self.rows("embed", *TEXTS)]
        return [math.fsum(a * b for a, b in zip(v[0], other)) for other in v[1:]]

    def test_two_texts_give_one_number(self):
        out = self.ok("similarity", TEXTS[0], TEXTS[1]).decode()
        self.assertRegex(out, r"\A-?\d\.\d{6}\n\Z")
        self.assertAlmostEqual(float(out), self.cosines()[0], places=5)
        self.assertEqual(self.ok("similarity", "same", "same"), b"1.000000\n")

    def test_more_texts_give_a_line_for_each(self):
        lines = self.ok("similarity", *TEXTS).decode().splitlines()
        for line, text, cosine in zip(lines, TEXTS[1:], self.cosines(), strict=True):
            number, said = line.split("\t")
            self.assertEqual(said, text)
            self.assertAlmostEqual(float(number), cosine, places=5)

    def test_the_others_may_come_from_standard_input_or_a_file(self):
        expected = self.ok("similarity", *TEXTS)
        lines = "\n".join(TEXTS[1:]).encode()
        (self.dir / "in").write_bytes(lines)
        self.assertEqual(self.ok("similarity", TEXTS[0], stdin=lines), expected)
        self.assertEqual(self.ok("similarity", TEXTS[0], "-", stdin=lines), expected)
        self.assertEqual(self.ok("similarity", TEXTS[0], "-i", self.dir / "in"), expected)

    def test_the_best_come_first(self):
        cosines = self.cosines()
        best = sorted(range(3), key=lambda i: -cosines[i])
        rows = self.rows("similarity", "--json", "--top", "2", *TEXTS)
        self.assertEqual([r["index"] for r in rows], best[:2])
        self.assertEqual([r["text"] for r in rows], [TEXTS[1 + i] for i in best[:2]])
        self.assertEqual(len(self.rows("similarity", "--json", "-n", "99", *TEXTS)), 3)

    def test_equal_texts_keep_their_order_among_the_best(self):
        rows = self.rows("similarity", "-jn", "3", "x", stdin=b"same\n" * 10)
        self.assertEqual([r["index"] for r in rows], [0, 1, 2])

    def test_a_text_stays_one_line(self):
        out = self.ok("similarity", "x", "a\x1b[31m\tb\nc", "d").decode()
        self.assertEqual(out.splitlines()[0].split("\t")[1], "a [31m b c")
        row = json.loads(self.ok("similarity", "--json", "x", "a\tb").decode())
        self.assertEqual(row["text"], "a\tb")

    def test_no_best_text_is_no_answer(self):
        self.fails(cli.USAGE, "similarity", "--top", "0", "x", "y", says=["--top", "from 1 to 10000"])

    def test_errors_name_the_text(self):
        self.fails(cli.INPUT, "similarity", "x", stdin=b"a\n\xff\n", says="line 2: invalid UTF-8")


if __name__ == "__main__":
    cli.main()
