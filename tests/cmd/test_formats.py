"""The formats of `pillion embed`: the same numbers in each, and files that other programs can read."""
import ast
import csv
import io
import json
import math
import struct

import cli

TEXTS = ["a first text", "ein zweiter Text", "", "한국어 문장"]


def read_npy(data):
    """The rows of a float32 array in NumPy's format 1.0, by the letter of its specification."""
    magic, major, minor, header_bytes = struct.unpack_from("<6sBBH", data)
    assert (magic, major, minor) == (b"\x93NUMPY", 1, 0), data[:10]
    assert (10 + header_bytes) % 64 == 0 and data[9 + header_bytes] == ord("\n")
    header = ast.literal_eval(data[10:10 + header_bytes].decode("latin-1"))
    assert header["descr"] == "<f4" and header["fortran_order"] is False, header
    rows, columns = header["shape"]
    values = struct.unpack(f"<{rows * columns}f", data[10 + header_bytes:])
    return [list(values[i * columns:(i + 1) * columns]) for i in range(rows)]


def as_f32(value):
    return struct.unpack("<f", struct.pack("<f", value))[0]


class Formats(cli.Case):
    def setUp(self):
        super().setUp()
        self.dim = cli.show()["dim"]
        self.vectors = read_npy(self.ok("embed", "-f", "npy", *TEXTS))

    def test_npy_holds_one_unit_vector_for_each_text(self):
        self.assertEqual([len(v) for v in self.vectors], [self.dim] * len(TEXTS))
        for v in self.vectors:
            self.assertAlmostEqual(math.fsum(x * x for x in v), 1, places=5)

    def test_json_lines_bring_back_the_same_floats(self):
        rows = self.rows("embed", "-f", "jsonl", *TEXTS)
        self.assertEqual([[as_f32(x) for x in r["embedding"]] for r in rows], self.vectors)
        for i, row in enumerate(rows):
            self.assertEqual(list(row), ["index", "embedding", "tokens", "truncated"])
            self.assertEqual(row["index"], i)
            self.assertIs(row["truncated"], False)
            self.assertGreater(row["tokens"], 0)

    def test_json_is_an_array_of_the_same_objects(self):
        self.assertEqual(json.loads(self.ok("embed", "-f", "json", *TEXTS)), self.rows("embed", *TEXTS))

    def test_csv_has_a_header_and_the_same_floats(self):
        rows = list(csv.reader(io.StringIO(self.ok("embed", "-f", "csv", *TEXTS).decode())))
        self.assertEqual(rows[0], ["index", "tokens", "truncated"] + [f"v{i}" for i in range(self.dim)])
        self.assertEqual([[as_f32(float(x)) for x in r[3:]] for r in rows[1:]], self.vectors)
        self.assertEqual([r[0] for r in rows[1:]], ["0", "1", "2", "3"])

    def test_f32_is_the_bare_values(self):
        data = self.ok("embed", "-f", "f32", *TEXTS)
        self.assertEqual(list(struct.unpack(f"<{len(data) // 4}f", data)), [x for v in self.vectors for x in v])

    def test_files_hold_what_standard_output_shows(self):
        for name in ("jsonl", "json", "csv", "npy", "f32"):
            path = self.dir / f"out.{name}"
            self.assertEqual(self.ok("embed", "-f", name, "-o", path, *TEXTS), b"")
            self.assertEqual(path.read_bytes(), self.ok("embed", "-f", name, *TEXTS), name)

    def test_the_ending_of_the_name_chooses_the_format(self):
        for ending, name in (("npy", "npy"), ("CSV", "csv"), ("json", "json"), ("ndjson", "jsonl"), ("f32", "f32"),
                             ("bin", "f32"), ("txt", "jsonl")):
            path = self.dir / f"x.{ending}"
            self.ok("embed", "-o", path, "one")
            self.assertEqual(path.read_bytes(), self.ok("embed", "-f", name, "one"), ending)
        self.ok("embed", "-o", self.dir / "y.npy", "-f", "csv", "one")
        self.assertTrue((self.dir / "y.npy").read_bytes().startswith(b"index,"))

    def test_no_texts_are_a_valid_file_in_every_format(self):
        self.assertEqual(read_npy(self.ok("embed", "-qf", "npy")), [])
        self.assertEqual(json.loads(self.ok("embed", "-qf", "json")), [])
        self.assertEqual(self.ok("embed", "-qf", "csv").count(b"\n"), 1)
        self.assertEqual(self.ok("embed", "-qf", "f32"), b"")

    def test_many_blocks_make_one_array(self):
        data = self.ok("embed", "-f", "npy", stdin=b"a\nb\n" * 1500)
        rows = read_npy(data)
        self.assertEqual(len(rows), 3000)
        self.assertEqual(rows[0::2], [rows[0]] * 1500)
        self.assertEqual(rows[1::2], [rows[1]] * 1500)

    def test_the_vector_of_a_text_depends_on_nothing_else(self):
        alone = self.rows("embed", TEXTS[0])
        for options in (["--threads", "1"], ["--threads", "3"], ["--batch-tokens", "7"]):
            self.assert_same_vectors(self.rows("embed", *options, *TEXTS)[:1], alone)


if __name__ == "__main__":
    cli.main()
