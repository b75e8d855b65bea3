"""Model files that are no files, lie about their size, or cost too much: refused with one line, in time, in memory."""
import json
import os
import resource
import socket
import struct
import subprocess
import unittest

import cli

MINILM = cli.MODELS / "minilm"
FILES = ("config.json", "tokenizer.json", "model.safetensors", "modules.json", "1_Pooling/config.json",
         "sentence_bert_config.json")
HANG_S = 60  # what is refused takes milliseconds; this only tells a busy machine from a hang
NOBODY = 65534
SANITIZED = bool(os.environ.get("PILLION_SANITIZE"))


def header(text, data_bytes=0):
    return struct.pack("<Q", len(text)) + text + bytes(data_bytes)


def tensor(name, dtype, shape, begin, end):
    return '"%s":{"dtype":"%s","shape":%s,"data_offsets":[%d,%d]}' % (name, dtype, shape, begin, end)


class Refused(cli.Case):
    def refused(self, *args, says="", memory_mib=64, user=None):
        """Runs it with at most so much memory of its own. It must end by itself with one line, which is given."""
        def limit():
            if not SANITIZED:
                resource.setrlimit(resource.RLIMIT_DATA, (memory_mib << 20, memory_mib << 20))

        p = subprocess.run([cli.BIN, *map(str, args)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                           stdin=subprocess.DEVNULL, env=cli.environment(XDG_CACHE_HOME=self.dir / "cache"),
                           timeout=HANG_S, preexec_fn=limit, user=user, check=False)
        line = p.stderr.decode()
        self.assertIn(p.returncode, (cli.FAILURE, cli.USAGE, cli.NOT_FOUND, cli.MODEL, cli.INPUT), line)
        self.assertEqual(line.count("\n"), 1, line)
        self.assertNotIn("out of memory", line)
        self.assertIn(says, line)
        return line


class Strange(Refused):
    """Every kind of thing that a path can name."""

    def make(self, kind, path):
        if kind == "a directory":
            path.mkdir()
        elif kind == "a pipe":
            os.mkfifo(path)
        elif kind == "a socket":
            with socket.socket(socket.AF_UNIX) as s:
                s.bind(str(path))
        elif kind == "endless zeros":
            path.symlink_to("/dev/zero")
        elif kind == "random bytes":
            path.symlink_to("/dev/urandom")
        elif kind == "nothing":
            path.symlink_to("/dev/null")
        elif kind == "a loop of links":
            path.symlink_to(path.name)
        elif kind == "a link to nowhere":
            path.symlink_to("gone")
        elif kind == "an empty file":
            path.touch()
        elif kind == "a terabyte of holes":
            with open(path, "wb") as f:
                f.truncate(1 << 40)
        elif kind == "a process":
            path.symlink_to("/proc/self/mem")

    KINDS = ("a directory", "a pipe", "a socket", "endless zeros", "random bytes", "nothing", "a loop of links",
             "a link to nowhere", "an empty file", "a terabyte of holes", "a process")

    def try_to_make(self, kind, path):
        try:
            self.make(kind, path)
        except OSError as e:  # a file system without such large files, or without sockets
            print(f"left out: {kind}: {e}")
            return False
        return True

    def test_as_a_compiled_file(self):
        for kind in self.KINDS:
            with self.subTest(kind):
                path = self.dir / f"model-{kind.replace(' ', '-')}"
                if self.try_to_make(kind, path):
                    self.refused("show", path, says=str(path))
                    self.refused("embed", "-m", path, "text", says=str(path))
                    self.refused("verify", path, says=str(path))

    @unittest.skipUnless(MINILM.is_dir(), "no model in .models/minilm")
    def test_as_a_file_of_a_model(self):
        for name in FILES:
            for kind in self.KINDS:
                with self.subTest(f"{kind} as {name}"):
                    model = self.dir / f"{name}-{kind}".replace("/", "-").replace(" ", "-")
                    copy_of_links(model, but=name)
                    if not self.try_to_make(kind, model / name):
                        continue
                    if name != "config.json" and kind == "a link to nowhere":
                        continue  # the same as no file, which most of them may be
                    self.refused("show", model, says=name if name != "model.safetensors" else str(model))

    @unittest.skipUnless(MINILM.is_dir(), "no model in .models/minilm")
    def test_files_that_may_not_be_read(self):
        user = None
        if os.geteuid() == 0:  # to whom nothing is forbidden
            user = NOBODY
            try:
                subprocess.run([cli.BIN, "--version"], user=user, stdout=subprocess.DEVNULL, check=True)
            except (OSError, subprocess.CalledProcessError):
                self.skipTest("another user may not start the program here")
        self.dir.chmod(0o755)
        for name in FILES:
            model = self.dir / name.replace("/", "-")
            copy_of_links(model, but=name)
            (model / name).write_bytes((MINILM / name).read_bytes())
            (model / name).chmod(0)
            self.refused("show", model, says="ermission denied", user=user)


def copy_of_links(model, but):
    """The real model, but for one file: links to all others."""
    for path in MINILM.rglob("*"):
        name = path.relative_to(MINILM)
        if path.is_file() and str(name) != but:
            (model / name).parent.mkdir(parents=True, exist_ok=True)
            (model / name).symlink_to(path)
    (model / but).parent.mkdir(parents=True, exist_ok=True)


@unittest.skipUnless(MINILM.is_dir(), "no model in .models/minilm")
class Costly(Refused):
    """Files that are small to write down and large to believe."""

    def model_with(self, name, chunks):
        model = self.dir / "model"
        if not model.exists():
            copy_of_links(model, but="none")
        (model / name).unlink()
        with open(model / name, "wb") as f:
            for chunk in chunks:
                f.write(chunk)
        return model

    def weights(self, text, holes=0):
        model = self.model_with("model.safetensors", [header(text.encode())])
        if holes:
            path = model / "model.safetensors"
            os.truncate(path, path.stat().st_size + holes)
        return model

    def test_weights_that_lie(self):
        for why, text, holes, says in (
                ("a tensor of a terabyte of holes", "{" + tensor("x", "F32", [1 << 38], 0, 1 << 40) + "}", 1 << 40, ""),
                ("a terabyte behind the last tensor", "{" + tensor("x", "F32", [1], 0, 4) + "}", 1 << 40,
                 "behind the last"),
                ("more than the file has", "{" + tensor("x", "F32", [1 << 38], 0, 1 << 40) + "}", 4, "beyond the end"),
                ("an empty tensor within another",
                 "{" + tensor("x", "U8", [4], 0, 4) + "," + tensor("y", "U8", [0], 2, 2) + "}", 4, ""),
                ("sizes whose product overflows", "{" + tensor("x", "F32", [1 << 33, 1 << 33], 0, 4) + "}", 4,
                 "overflow"),
                ("a name of a megabyte", "{" + tensor("x" * (1 << 20), "F32", [1], 0, 4) + "}", 4, "")):
            with self.subTest(why):
                line = self.refused("show", self.weights(text, holes), says=says)
                self.assertLess(len(line), 1000)

    def test_headers_that_cost(self):
        for why, chunks, says, memory_mib in (
                ("one byte beyond the limit", [struct.pack("<Q", 2**25 + 1)], "larger than 33554432 bytes", 64),
                ("the largest number", [b"\xff" * 8], "larger than 33554432 bytes", 64),
                ("the limit, of brackets", [struct.pack("<Q", 2**25), b'{"a":', b"[" * (2**25 - 5)],
                 "nested deeper", 64),
                ("half a million tensors", [struct.pack("<Q", 30 * 10**6 + 1), b"{", *(
                    b'"%06d":{"dtype":"U8","shape":[1],"data_offsets":[%07d,0]},   ' % (i, i) for i in range(500_000))],
                 "values or more", 64)):
            with self.subTest(why):
                self.refused("show", self.model_with("model.safetensors", chunks), says=says, memory_mib=memory_mib)

    def test_tokenizers_that_cost(self):
        """Memory stays below 20 times the file, and the file below a limit."""
        whole = json.loads((MINILM / "tokenizer.json").read_bytes())
        token = {"content": "", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
                 "special": True}

        def with_added(n):
            tokens = ",".join(json.dumps({**token, "id": i % 30000, "content": f"t{i}"}) for i in range(n))
            return json.dumps({**whole, "added_tokens": []}).replace('"added_tokens": []', f'"added_tokens":[{tokens}]')

        def with_id(n):
            return json.dumps({**whole, "model": {**whole["model"], "vocab": {**whole["model"]["vocab"], "x": n}}})

        for why, text, says in (
                ("many added tokens", with_added(50_000), "added_tokens"),
                ("the largest id", with_id(2**31 - 1), "token id 2147483647"),
                ("an id beyond 32 bits", with_id(2**32), "tokenizer.json: "),
                ("a negative id", with_id(-1), "tokenizer.json: "),
                ("an expression that never ends", json.dumps({**whole, "pre_tokenizer": {
                    "type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}}),
                 "pre-tokenizer Split")):
            with self.subTest(why):
                self.refused("show", self.model_with("tokenizer.json", [text.encode()]), says=says,
                             memory_mib=64 + 20 * len(text) // (1 << 20))
        model = self.model_with("tokenizer.json", [b"{"])
        os.truncate(model / "tokenizer.json", (128 << 20) + 1)
        self.refused("show", model, says="the limit is")

    def test_configurations_that_cost(self):
        whole = json.loads((MINILM / "config.json").read_bytes())
        for field, values in {"num_hidden_layers": (0, 10**9, -1), "num_attention_heads": (0, 7, 10**9),
                              "hidden_size": (0, 2**31, 383), "intermediate_size": (0, 10**9),
                              "vocab_size": (0, 1, 10**12, 30523), "max_position_embeddings": (0, 1, 2, 10**9),
                              "type_vocab_size": (0, 3, 10**9), "layer_norm_eps": (0, -1, 1e300, "x")}.items():
            for value in values:
                with self.subTest(f"{field} = {value}"):
                    text = json.dumps({**whole, field: value})
                    self.refused("show", self.model_with("config.json", [text.encode()]), memory_mib=256)


if __name__ == "__main__":
    cli.main(needs_model=False)
