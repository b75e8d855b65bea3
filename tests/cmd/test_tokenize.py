"""`pillion tokenize`: ids and tokens of the built-in model."""
import json

import cli


class Tokenize(cli.Case):
    def test_ids_and_tokens_go_together(self):
        rows = self.rows("tokenize", "Hello, unbelievable world!", "")
        self.assertEqual(rows[0], {
            "index": 0,
            "ids": [101, 7592, 1010, 23653, 2088, 999, 102],
            "tokens": ["[CLS]", "hello", ",", "unbelievable", "world", "!", "[SEP]"],
            "truncated": False,
        })
        self.assertEqual(rows[1], {"index": 1, "ids": [101, 102], "tokens": ["[CLS]", "[SEP]"], "truncated": False})

    def test_texts_are_given_as_for_embed(self):
        self.assertEqual(self.rows("tokenize", "one", "two"),
                         self.rows("tokenize", stdin=b'{"text":"one"}\n{"text":"two"}\n'))
        self.fails(cli.INPUT, "tokenize", stdin=b"a\n\xff\n", says="line 2: invalid UTF-8")

    def test_tokens_agree_with_what_embed_counts(self):
        text = "counting tokens of a sentence with some uncommon wordlets"
        self.assertEqual(len(self.rows("tokenize", text)[0]["ids"]), self.rows("embed", text)[0]["tokens"])

    def test_long_texts_are_cut_and_counted_unless_all_is_asked_for(self):
        longest = cli.show()["max_tokens"]
        text = "word " * (longest + 10)
        r = cli.pillion("tokenize", text)
        row = json.loads(r.stdout)
        self.assertEqual((len(row["ids"]), row["truncated"]), (longest, True))
        self.assertEqual(r.stderr.decode(), f"pillion tokenize: cut to the model's {longest} tokens: 1 of 1 texts\n")
        r = cli.pillion("tokenize", "--no-truncate", text)
        row = json.loads(r.stdout)
        self.assertEqual((len(row["ids"]), row["truncated"]), (longest + 12, False))
        self.assertEqual(r.stderr, b"")

    def test_special_tokens_can_be_left_out(self):
        self.assertEqual(self.rows("tokenize", "--no-special", "hello")[0]["tokens"], ["hello"])

    def test_output_goes_to_a_file(self):
        self.assertEqual(self.ok("tokenize", "-o", self.dir / "out", "one"), b"")
        self.assertEqual((self.dir / "out").read_bytes(), self.ok("tokenize", "one"))
        self.fails(cli.FAILURE, "tokenize", "-o", "/dev/full", "one", says="cannot write: No space")


if __name__ == "__main__":
    cli.main()
