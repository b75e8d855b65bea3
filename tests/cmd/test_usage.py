"""Help, manual page, completion, wrong command lines and exit statuses."""
import re
import shutil
import subprocess
import unittest

import cli

COMMANDS = ["embed", "similarity", "tokenize", "show", "compile", "verify", "replay", "completion", "help"]


def tool(name):
    return unittest.skipUnless(shutil.which(name), f"{name} is not installed")


class Help(cli.Case):
    def test_version_is_one_line(self):
        for spelling in ("--version", "-V"):
            self.assertRegex(self.ok(spelling).decode(), r"\Apillion \d+\.\d+\.\d+\n\Z")

    def test_help_lists_every_command(self):
        text = self.ok("--help").decode()
        self.assertEqual(text, self.ok("help").decode())
        for name in COMMANDS:
            self.assertRegex(text, rf"(?m)^  {name} +\w")

    def test_every_command_explains_itself_in_three_ways(self):
        for name in COMMANDS:
            text = self.ok(name, "--help").decode()
            self.assertEqual(text, self.ok(name, "-h").decode())
            self.assertEqual(text, self.ok("help", name).decode())
            self.assertTrue(text.startswith(f"Usage: pillion {name}"), text)
            self.assertIn("--help", text)
            self.assertIn("Exit status:", text)

    def test_help_fits_into_80_columns(self):
        for text in [self.ok("--help")] + [self.ok(name, "--help") for name in COMMANDS]:
            for line in text.decode().splitlines():
                self.assertLessEqual(len(line), 100 if line.startswith("  pillion") else 80, line)

    def test_help_wins_over_what_is_wrong_behind_it(self):
        self.assertIn(b"Usage: pillion embed", self.ok("embed", "--help", "--nonsense"))

    def test_all_exit_statuses_are_documented(self):
        text = self.ok("embed", "--help").decode()
        for status in (0, 1, 2, 3, 4, 5, 130):
            self.assertRegex(text, rf"(?m)^ +{status}  \w")


class Wrong(cli.Case):
    def test_no_command_says_what_to_try(self):
        self.fails(cli.USAGE, says="echo hello | pillion embed")

    def test_a_mistyped_command_is_guessed(self):
        self.fails(cli.USAGE, "embde", says="did you mean 'pillion embed'?")
        self.fails(cli.USAGE, "frobnicate", says="'pillion --help' lists the commands")
        self.fails(cli.USAGE, "--frobnicate", says="unknown command")
        self.fails(cli.USAGE, "help", "embde", says="did you mean 'pillion embed'?")

    def test_a_mistyped_option_is_guessed(self):
        self.fails(cli.USAGE, "embed", "--fromat", "csv", says=["pillion embed: ", "did you mean --format?"])
        self.fails(cli.USAGE, "embed", "--zzz", says="unknown option '--zzz'")

    def test_a_wrong_value_names_what_is_allowed(self):
        self.fails(cli.USAGE, "embed", "a", "--format", "xml",
                   says="--format: 'xml' is not auto, jsonl, json, csv, npy or f32")
        self.fails(cli.USAGE, "embed", "a", "--threads", "two", says="a whole number from 0 to 1024")
        self.fails(cli.USAGE, "embed", "a", "-t", says="-t (--threads) needs a value")
        self.fails(cli.USAGE, "embed", "a", "--precision=f16", says="'f16' is not auto, f32, bf16 or int8")
        self.fails(cli.USAGE, "completion", "tcsh", says="'tcsh' is not bash, zsh or fish")

    def test_arguments_are_counted(self):
        self.fails(cli.USAGE, "compile", "a", says="an argument is missing: pillion compile DIRECTORY FILE")
        self.fails(cli.USAGE, "show", "a", "b", says="unexpected argument 'b'")
        self.fails(cli.USAGE, "similarity", says="an argument is missing")

    def test_a_text_that_begins_with_a_dash_is_explained(self):
        self.fails(cli.USAGE, "embed", "-5 degrees", says="-- stands before arguments that begin with '-'")

    def test_control_characters_never_reach_the_terminal(self):
        r = self.fails(cli.USAGE, "embed", "--a\x1b[31mb\nc", says="--a?[31mb?c")
        self.assertNotIn(b"\x1b", r.stderr)


class Completion(cli.Case):
    def script(self, shell):
        return self.ok("completion", shell).decode()

    def complete_in_bash(self, *words, cwd=None):
        """What bash offers for the last of the words."""
        program = self.script("bash") + (
            'compopt() { :; }\nCOMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _pillion\n'
            '[[ ${#COMPREPLY[@]} = 0 ]] || printf "%s\\n" "${COMPREPLY[@]}"\n')
        r = subprocess.run(["bash", "-c", program, "bash", "pillion", *words], capture_output=True, check=True, cwd=cwd)
        self.assertEqual(r.stderr, b"")
        return r.stdout.decode().split("\n")[:-1]

    @tool("bash")
    def test_bash_offers_commands_options_and_words(self):
        subprocess.run(["bash", "-n"], input=self.script("bash").encode(), check=True)
        self.assertEqual(self.complete_in_bash("em"), ["embed"])
        self.assertIn("similarity", self.complete_in_bash(""))
        self.assertEqual(self.complete_in_bash("embed", "--form"), ["--format"])
        self.assertEqual(self.complete_in_bash("embed", "--format", "j"), ["jsonl", "json"])
        self.assertEqual(self.complete_in_bash("embed", "-f", "np"), ["npy"])
        self.assertEqual(self.complete_in_bash("completion", ""), ["bash", "zsh", "fish"])
        self.assertEqual(self.complete_in_bash("help", "sho"), ["show"])

    @tool("bash")
    def test_bash_offers_files_where_files_fit(self):
        (self.dir / "two words.txt").touch()
        self.assertEqual(self.complete_in_bash("embed", "-i", "two", cwd=self.dir), ["two words.txt"])
        self.assertEqual(self.complete_in_bash("show", "two", cwd=self.dir), ["two words.txt"])
        self.assertEqual(self.complete_in_bash("embed", "--threads", "", cwd=self.dir), [])

    @tool("zsh")
    def test_zsh_accepts_the_script(self):
        subprocess.run(["zsh", "-n"], input=self.script("zsh").encode(), check=True)
        load = "autoload -Uz compinit && compinit -D -u && source /dev/stdin && print $_comps[pillion]"
        r = subprocess.run(["zsh", "-fc", load], input=self.script("zsh").encode(), capture_output=True, check=True)
        self.assertEqual((r.stdout, r.stderr), (b"_pillion\n", b""))

    @tool("fish")
    def test_fish_offers_commands_and_options(self):
        def offers(line):
            program = self.script("fish") + f"complete -C '{line}'\n"
            env = cli.environment(HOME=self.dir)
            r = subprocess.run(["fish", "--no-config"], input=program.encode(), capture_output=True, check=True,
                               env=env)
            self.assertEqual(r.stderr, b"")
            return [row.split("\t")[0] for row in r.stdout.decode().splitlines()]
        self.assertEqual(offers("pillion em"), ["embed"])
        self.assertEqual(offers("pillion embed --form"), ["--format"])
        self.assertIn("npy", offers("pillion embed --format "))
        self.assertEqual(sorted(offers("pillion completion ")), ["bash", "fish", "zsh"])

    def test_every_option_is_in_every_script(self):
        for name in COMMANDS:
            for option in re.findall(r"(?m)^  (?:-\w, |    )--([\w-]+)", self.ok(name, "--help").decode()):
                for shell, spelling in (("bash", f"--{option}"), ("zsh", f"--{option}"), ("fish", f"-l {option}")):
                    self.assertIn(spelling, self.script(shell), f"{shell}: {name}")


class Committed(cli.Case):
    """What is made from the tables and committed must be what the tables say now."""

    def check(self, path, *args):
        path = cli.SOURCE / path
        self.assertEqual(path.read_bytes(), self.ok(*args),
                         f"stale: build, then run: pillion {' '.join(args)} > {path.relative_to(cli.SOURCE)}")

    def test_the_manual_page_is_current(self):
        self.check("docs/pillion.1", "help", "--man")

    def test_the_completion_scripts_are_current(self):
        self.check("tools/completion/pillion.bash", "completion", "bash")
        self.check("tools/completion/_pillion", "completion", "zsh")
        self.check("tools/completion/pillion.fish", "completion", "fish")

    @tool("groff")
    def test_the_manual_page_has_examples_with_what_they_do_below_them(self):
        r = subprocess.run(["groff", "-man", "-Tascii", "-P-c"], input=self.ok("help", "--man"), capture_output=True,
                           check=True)
        text = re.sub(".\b", "", r.stdout.decode())
        examples = text.partition("\nEXAMPLES\n")[2].partition("\nEXIT STATUS\n")[0]
        self.assertIn("\n       pillion show\n              the built-in model\n", examples)
        for name in COMMANDS:
            for line in self.ok(name, "--help").decode().partition("\nExamples:\n")[2].splitlines():
                if line.startswith("  pillion "):
                    self.assertIn(line.strip(), examples)

    @tool("groff")
    def test_the_manual_page_has_no_troff_errors(self):
        r = subprocess.run(["groff", "-man", "-ww", "-Tutf8", "-z"], input=self.ok("help", "--man"),
                           capture_output=True, check=True)
        self.assertEqual(r.stderr, b"")


if __name__ == "__main__":
    cli.main(needs_model=False)
