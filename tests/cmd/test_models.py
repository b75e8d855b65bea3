"""Which model: the built-in one, a directory, a compiled file; show, verify, compile; prompts; what can be wrong."""
import json
import os
import shutil
import signal
import stat
import subprocess
import unittest

import cli

MINILM = cli.MODELS / "minilm"
NEEDS_MINILM = unittest.skipUnless((MINILM / "config.json").exists(), f"no model in {MINILM}")


class BuiltIn(cli.Case):
    def test_show_describes_it(self):
        table = self.ok("show").decode()
        self.assertTrue(table.startswith("sentence-transformers/all-MiniLM-L6-v2\n"), table)
        for words in ("bert: 6 layers", "384 dimensions, mean pooling", "WordPiece, 30522 tokens", "256 tokens",
                      "22.6 million"):
            self.assertIn(words, table)

    def test_show_as_json_has_the_same_facts(self):
        info = json.loads(self.ok("show", "--json"))
        for key, value in {"architecture": "bert", "dim": 384, "layers": 6, "max_tokens": 256, "precision": "f32",
                           "pooling": "mean", "tokenizer": "WordPiece"}.items():
            self.assertEqual(info[key], value, key)

    def test_it_verifies(self):
        self.assertIn(b"verified", self.ok("verify"))

    def test_it_answers_to_its_name(self):
        self.assert_same_vectors(self.rows("embed", "-m", "all-MiniLM-L6-v2", "one"), self.rows("embed", "one"))
        self.assertEqual(self.ok("show", "sentence-transformers/all-MiniLM-L6-v2"), self.ok("show"))

    def test_a_precision_it_does_not_have_is_refused(self):
        self.fails(cli.MODEL, "embed", "--precision", "int8", "one", says="int8")

    def test_it_meets_the_reference_implementation(self):
        golden = json.loads((cli.SOURCE / "tests/cmd/golden_minilm.json").read_text())
        vector = self.rows("embed", golden["text"])[0]["embedding"]
        self.assertLessEqual(max(abs(a - b) for a, b in zip(vector, golden["embedding"], strict=True)), 1e-5)


class Wrong(cli.Case):
    def test_an_unknown_name_says_where_it_was_looked_for(self):
        self.fails(cli.NOT_FOUND, "embed", "-m", "no/such-model", "one",
                   says='model "no/such-model" is not on this machine')
        self.fails(cli.NOT_FOUND, "show", "./none", says="./none")

    def test_the_environment_names_the_model(self):
        env = cli.environment(EMBED_MODEL="no/such-model")
        self.fails(cli.NOT_FOUND, "embed", "one", env=env, says="no/such-model")

    def test_a_model_is_named_once(self):
        env = cli.environment(EMBED_MODEL="no/such-model")
        for command in ("show", "verify"):
            self.fails(cli.USAGE, command, "-m", "some", "./none", says="both as an argument and with --model")
            self.fails(cli.NOT_FOUND, command, "./none", env=env, says="./none")

    def test_a_file_that_is_no_model_is_refused(self):
        for content in (b"", b"x", b"\x10\0\0\0\0\0\0\0{}" + b" " * 14, os.urandom(4096), b"\xff" * 4096):
            (self.dir / "m").write_bytes(content)
            self.fails(cli.MODEL, "embed", "-m", self.dir / "m", "one", says=str(self.dir / "m"))
            self.fails(cli.MODEL, "verify", self.dir / "m", says=str(self.dir / "m"))

    def test_a_file_that_is_no_model_is_told_from_one(self):
        path = self.dir / "README.md"
        path.write_text("# Not a model\nbut something to read.\n")
        give = ": give a model's directory, or a whole file that pillion compile has made of one\n"
        says = f"{path}: not a safetensors file, or its header is larger than 33554432 bytes{give}"
        self.fails(cli.MODEL, "embed", "--model", path, "one", says=f"pillion embed: {says}")
        self.fails(cli.MODEL, "show", path, says=f"pillion show: {says}")
        path.write_bytes(b"abc")
        self.fails(cli.MODEL, "show", path, says=f"3 bytes are too few for a safetensors file{give}")
        path.write_bytes((2).to_bytes(8, "little") + b"{}")  # as weights are before they are compiled
        self.fails(cli.MODEL, "show", path, says=f"pillion show: {path}: not a compiled file of pillion{give}")

    def test_a_directory_without_a_model_is_refused(self):
        r = cli.pillion("embed", "-m", self.dir, "one")
        self.assertIn(r.returncode, (cli.NOT_FOUND, cli.MODEL))
        self.assertEqual(r.stderr.count(b"\n"), 1)

    def test_an_architecture_we_do_not_have_is_named(self):
        (self.dir / "config.json").write_text('{"model_type":"llama","hidden_size":8}')
        self.fails(cli.MODEL, "show", self.dir, says=["llama"])

    def test_compile_checks_its_arguments(self):
        self.fails(cli.NOT_FOUND, "compile", self.dir / "none", self.dir / "out", says="no such directory")
        self.fails(cli.USAGE, "compile", __file__, self.dir / "out", says="is not a directory")
        self.fails(cli.USAGE, "compile", self.dir, self.dir, says="name the file to write")
        self.fails(cli.USAGE, "compile", "--name", "x" * 200, self.dir, self.dir / "out", says="--name")
        self.fails(cli.USAGE, "compile", self.dir, "-", says="name the file to write", cwd=self.dir)
        self.assertEqual(os.listdir(self.dir), [])

    def test_compile_replaces_no_pipe_and_no_device(self):
        os.mkfifo(self.dir / "pipe")
        (self.dir / "link").symlink_to("pipe")
        names = ["pipe", "link"]
        if os.geteuid() == 0:  # a copy of /dev/full: never the device itself
            os.mknod(self.dir / "full", stat.S_IFCHR | 0o600, os.makedev(1, 7))
            names.append("full")
        before = {name: os.lstat(self.dir / name) for name in os.listdir(self.dir)}
        for name in names:
            self.fails(cli.USAGE, "compile", MINILM if MINILM.is_dir() else self.dir, name, cwd=self.dir,
                       says=f"{name}: is not a regular file")
        for name, old in before.items():
            now = os.lstat(self.dir / name)
            self.assertEqual((now.st_mode, now.st_ino), (old.st_mode, old.st_ino), name)
        self.assertEqual(set(os.listdir(self.dir)), set(before))


@NEEDS_MINILM
class Compiled(cli.Case):
    def setUp(self):
        super().setUp()
        self.cache = self.dir / "cache"
        self.env = cli.environment(XDG_CACHE_HOME=self.cache)

    def compile(self, *args):
        path = self.dir / "m.safetensors"
        self.assertEqual(self.ok("compile", *args, MINILM, path), b"")
        return path

    def test_a_directory_is_compiled_once_and_kept(self):
        built_in = self.rows("embed", "one")
        self.assert_same_vectors(self.rows("embed", "-m", MINILM, "one", env=self.env), built_in)
        files = sorted(p for p in self.cache.rglob("*.safetensors"))
        self.assertEqual(len(files), 1)
        before = files[0].stat()
        self.assert_same_vectors(self.rows("embed", "-m", MINILM, "one", env=self.env), built_in)
        self.assertEqual(files[0].stat().st_mtime_ns, before.st_mtime_ns)

    def test_a_compiled_file_needs_nothing_else(self):
        path = self.compile("--name", "my-model")
        self.assertTrue(self.ok("show", path).startswith(b"my-model\n"))
        self.assertIn(b"my-model: verified", self.ok("verify", path))
        self.assert_same_vectors(self.rows("embed", "-m", path, "one"), self.rows("embed", "one"))

    def test_a_file_of_the_model_itself_is_never_written(self):
        model, blobs = self.dir / "model", self.dir / "blobs"
        shutil.copytree(MINILM, model)
        blobs.mkdir()
        (model / "config.json").rename(blobs / "0123")  # as in the cache of Hugging Face
        (model / "config.json").symlink_to("../blobs/0123")
        (self.dir / "link").symlink_to("model/tokenizer.json")
        names = ["model/model.safetensors", "model/1_Pooling/config.json", "blobs/0123", "link"]
        before = [(self.dir / name).read_bytes() for name in names]
        for name in names:
            self.fails(cli.USAGE, "compile", "./model", name, cwd=self.dir,
                       says=f"pillion compile: {name}: is a file of the model itself")
        self.assertEqual([(self.dir / name).read_bytes() for name in names], before)
        self.assertTrue((self.dir / "link").is_symlink())
        for _ in range(2):  # what was compiled may lie there, and be compiled again
            self.ok("compile", model, model / "compiled.safetensors")
        self.ok("verify", model / "compiled.safetensors")

    def test_links_are_followed_to_the_file_that_is_written(self):
        (self.dir / "there").mkdir()
        (self.dir / "link").symlink_to("there/new")
        for _ in range(2):  # not there yet, and there
            self.ok("compile", MINILM, self.dir / "link")
            self.assertTrue((self.dir / "link").is_symlink())
            self.assertEqual(os.listdir(self.dir / "there"), ["new"])
        self.ok("verify", self.dir / "there/new")

    def test_a_flipped_bit_is_found(self):
        path = self.compile()
        size = path.stat().st_size
        with open(path, "r+b", buffering=0) as f:
            def flip(at):
                byte = os.pread(f.fileno(), 1, at)[0]
                os.pwrite(f.fileno(), bytes([byte ^ 0x40]), at)

            header = 8 + int.from_bytes(f.read(8), "little")
            for at in (1, 7, 8, header // 2, header - 1, header, size // 2, size - 1):
                flip(at)
                self.fails(cli.MODEL, "verify", path, says=str(path))
                flip(at)
        self.assertIn(f"verified: {size} bytes", self.ok("verify", path).decode())

    def damage_the_cache(self):
        """Compiles the model into the cache and overwrites weights of it. Gives the file."""
        self.ok("show", MINILM, env=self.env)
        file = next(self.cache.rglob("*.safetensors"))
        with open(file, "r+b") as f:
            header = json.loads(f.read(int.from_bytes(f.read(8), "little")))
            data = f.tell()
            f.seek(data + header["layer.0.qkv.weight"]["data_offsets"][0])
            f.write(b"\x7f" * 16)
        return file

    def test_damaged_weights_in_the_cache_are_made_again(self):
        texts, built_in = ("one", "two"), self.rows("embed", "one", "two")
        for command in ("embed", "similarity"):
            file = self.damage_the_cache()
            self.ok("tokenize", "-m", MINILM, "one", env=self.env)  # needs no weights
            self.fails(cli.MODEL, "verify", MINILM, env=self.env, says=[f"{file}: damaged", "remove it and compile"])
            r = cli.pillion(command, "-m", MINILM, *texts, env=self.env)
            self.assertEqual(r.returncode, cli.OK, r.stderr)
            self.assertEqual(r.stderr.decode(), f"pillion {command}: {file}: damaged; it is compiled again\n")
            self.ok("verify", MINILM, env=self.env)
            again = cli.pillion("embed", "-m", MINILM, *texts, env=self.env)
            self.assertEqual(again.stderr, b"")
            self.assert_same_vectors([json.loads(line) for line in again.stdout.splitlines()], built_in)

    def test_a_file_cut_short_is_refused_at_once(self):
        path = self.compile()
        for size in (path.stat().st_size - 1, 100000, 9, 0):
            os.truncate(path, size)
            self.fails(cli.MODEL, "embed", "-m", path, "one", says=str(path))

    def test_ctrl_c_while_compiling_leaves_nothing_or_the_whole(self):
        command = [cli.BIN, "compile", MINILM, self.dir / "out"]
        with subprocess.Popen(command, env=self.env, stderr=subprocess.PIPE) as p:
            try:
                p.wait(timeout=0.1)
            except subprocess.TimeoutExpired:
                p.send_signal(signal.SIGINT)
            if p.wait(timeout=60) == -signal.SIGINT and os.listdir(self.dir):  # it came after the last step
                self.assertEqual(os.listdir(self.dir), ["out"])
                self.ok("verify", self.dir / "out")

    def test_prompts_are_found_by_name(self):
        model = self.dir / "model"
        shutil.copytree(MINILM, model)
        prompts = {"query": "query: ", "passage": "passage: "}
        (model / "config_sentence_transformers.json").write_text(json.dumps({"prompts": prompts}))
        plain = self.rows("embed", "query: one", "-m", model, env=self.env)
        self.assert_same_vectors(self.rows("embed", "one", "-m", model, "-p", "query", env=self.env), plain)
        self.assertIn(b'query: "query: "', self.ok("show", model, env=self.env))
        self.fails(cli.USAGE, "embed", "one", "-m", model, "-p", "none", env=self.env,
                   says=["no prompt 'none'", "query, passage"])
        (model / "config_sentence_transformers.json").write_text(
            json.dumps({"prompts": prompts, "default_prompt_name": "query"}))
        self.assert_same_vectors(self.rows("embed", "one", "-m", model, env=self.env), plain)
        self.assert_same_vectors(self.rows("embed", "one", "-m", model, "--prompt=", env=self.env),
                                 self.rows("embed", "one"))


if __name__ == "__main__":
    cli.main()
