#!/usr/bin/env python3
"""Refuses what a compiler does not see: arrows of #include against the map of src/README.md, foreign headers outside
their one file, functions that this project does not use, private headers used from outside, and a few matters of form.

    tidy.py               checks every file that git tracks or would track; prints FILE:LINE: message; exit 1 on any
    tidy.py --self-test   plants each kind of violation in a scratch tree and sees that it is found"""
import re
import subprocess
import sys
import tempfile
from pathlib import Path

# ── The rules, as data ──────────────────────────────────────────────────────────────────────────────────────

# Which rooms a room may include. base is free to all, a room is free to itself. Rooms of one level never meet, and the
# server half does not see the library half: it has pillion/pillion.h.
LIBRARY = {
    "base": (),
    "kernel": (), "weights": (), "token": (),
    "engine": ("kernel", "weights"),
    "compile": ("engine", "kernel", "token", "weights"),
    "lib": ("compile", "engine", "kernel", "token", "weights"),
}
SERVER = {
    "sandbox": (), "net": (), "sched": (),
    "extract": ("sandbox",),
    "proc": ("sched", "sandbox"),
    "hub": ("net",), "client": ("net",), "store": (),
    "index": ("extract", "store", "client"),
    "http": ("sandbox", "net", "sched", "extract", "proc", "hub", "client", "store", "index"),
    "cmd": ("sandbox", "net", "sched", "extract", "proc", "hub", "client", "store", "index", "http",
            "compile"),  # `pillion compile` writes where it is told, `pillion doctor` looks into the cache
}
ROOMS = {**LIBRARY, **SERVER}

# A foreign header is seen in one place of src/, so that each library can be exchanged. A folder stands for a room that
# may use it in one file. Kernels own the vector intrinsics. Tests may use cmocka.
FOREIGN = {
    "jansson.h": ["src/base/json.c"],
    "openssl/": ["src/base/sha256.c"],
    "uv.h": ["src/proc/", "src/http/", "src/cmd/"],
    "llhttp.h": ["src/http/"],
    "seccomp.h": ["src/sandbox/"],
    "curl/": ["src/net/"],
    "sqlite3.h": ["src/store/"],
    "libpq-fe.h": ["src/store/"],
    "cmocka.h": [],
}
INTRINSICS = re.compile(r"^(\w*intrin|arm_neon|arm_sve|cpuid)\.h$")
# Everything else in angle brackets is libc, POSIX or Linux, and is named here so that a new library is noticed.
SYSTEM = re.compile(r"""^(
    assert|ctype|complex|dirent|dlfcn|elf|errno|execinfo|fcntl|fenv|float|fnmatch|ftw|getopt|glob|grp|iconv|
    inttypes|langinfo|libgen|limits|link|locale|malloc|math|mntent|netdb|poll|pthread|pwd|regex|sched|search|semaphore|
    setjmp|signal|spawn|stdalign|stdarg|stdatomic|stdbool|stddef|stdint|stdio|stdlib|stdnoreturn|string|strings|
    sysexits|syslog|termios|tgmath|threads|time|ucontext|unistd|utime|wchar|wctype|
    (sys|linux|net|netinet|arpa|asm)/[\w/-]+
    )\.h$""", re.X)

BANNED = {
    "strcpy": "pil_buf or snprintf", "strcat": "pil_buf or snprintf", "strncat": "pil_buf or snprintf",
    "sprintf": "snprintf", "vsprintf": "vsnprintf", "gets": "a bounded reader", "scanf": "strtol and friends",
    "atoi": "strtol with its end checked", "atol": "strtol with its end checked",
    "atoll": "strtoll with its end checked", "atof": "strtod with its end checked",
    "strtok": "strtok_r or a cursor", "system": "posix_spawn", "popen": "posix_spawn",
    "alloca": "an arena", "rand": "getrandom", "srand": "getrandom", "tmpnam": "mkstemp", "mktemp": "mkstemp",
    "tempnam": "mkstemp", "asctime": "strftime", "ctime": "strftime", "localtime": "localtime_r", "gmtime": "gmtime_r",
    "vfork": "posix_spawn", "longjmp": "a status", "readdir_r": "readdir",
}
TESTS_MAY = ("system", "popen")  # what a test runs is its own
# What a library must never do to the program it lives in.
LIBRARY_BANNED = ("exit", "_exit", "abort", "printf", "puts", "putchar", "perror", "setlocale", "signal", "sigaction",
                  "chdir")
STDERR = re.compile(r"\b(v?fprintf|fput[sc]|putc|fwrite)\s*\([^;]*\bstderr\b|\bperror\s*\(|\bdprintf\s*\(\s*2\b")
STDERR_ALLOWED = ("src/base/log.c", "src/cmd/")

LINE_MAX = 120
FILE_MAX = 900
CODE = {".c", ".h", ".S", ".py", ".sh", ".cmake"}
LEFTOVER = re.compile(r"\b(" + "|".join(("FIX" + "ME", "TO" + "DO", "XX" + "X", "HA" + "CK")) + r")\b")
MACHINE_PATH = re.compile(r"(?<![\w.])/(work|home|root|Users|workspace)/\w|\.\./" + r"shared\b")
TYPEDEF_T = re.compile(r"^\s*typedef\b[^;{]*\b(\w+_t)\s*;|^}\s*(\w+_t)\s*;")
# A path of this tree as comments name it: "tests/base/test_err.c", "src/http/parse.h", "tools/setup.sh".
NAMED_PATH = re.compile(r"(?<![\w./*-])((?:src|tests|fuzz|tools|bench|docs|include|cmake)/"
                        r"[\w/.-]*\w\.(?:c|h|S|py|sh|md|json|txt))\b")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


# ── Reading C ───────────────────────────────────────────────────────────────────────────────────────────────

TOKEN = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)


def blank(text, keep_strings=False):
    """The text with comments (and, unless kept, what is inside quotes) turned into spaces; line numbers stay."""
    def spaces(match):
        found = match.group()
        if found[0] in "\"'":
            return found if keep_strings else found[0] + " " * (len(found) - 2) + found[-1]
        return re.sub(r"[^\n]", " ", found)
    return TOKEN.sub(spaces, text)


class Tree:
    def __init__(self, root):
        self.root = Path(root)
        self.problems = []
        listed = subprocess.run(["git", "-C", root, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                                capture_output=True, text=True)
        if listed.returncode == 0:
            names = [n for n in listed.stdout.split("\0") if n]
        else:  # an unpacked archive: everything but what builds and set-up leave behind
            names = [str(p.relative_to(root)) for p in sorted(self.root.rglob("*")) if p.is_file()]
            names = [n for n in names if not re.match(r"(build[^/]*|\.deps|\.models|\.venv|\.git)/", n)]
        self.files = {}
        for name in sorted(names):
            path = self.root / name
            if path.is_symlink() or not path.is_file():
                continue
            data = path.read_bytes()
            if b"\0" not in data:
                self.files[name] = data.decode("utf-8", "replace")

    def problem(self, name, line, message):
        self.problems.append(f"{name}:{line}: {message}")

    def check(self):
        included, foreign_users = set(), {}
        for name, text in self.files.items():
            self.check_form(name, text)
            if name.endswith((".c", ".h")):
                code = blank(text)
                self.check_includes(name, text, included, foreign_users)
                self.check_code(name, code)
        self.check_headers_used(included)
        self.check_foreign_spread(foreign_users)
        return sorted(self.problems)

    # ── any text file ──

    def check_form(self, name, text):
        suffix = Path(name).suffix
        data = name.startswith(("tests/data/", "tests/golden/", "fuzz/corpus/")) and suffix not in CODE
        if data or name == "LICENSE":
            return
        lines = text.split("\n")
        if text and lines[-1] != "":
            self.problem(name, len(lines), "no newline at the end of the file")
        for number, line in enumerate(lines, 1):
            if line != line.rstrip():
                self.problem(name, number, "blank at the end of the line")
            if LEFTOVER.search(line):
                self.problem(name, number, "a note to finish something: finish it, or write an issue")
            if MACHINE_PATH.search(line) and not name.endswith("tools/tidy.py"):
                self.problem(name, number, "a path of one machine")
            if suffix in CODE:
                if len(line) > LINE_MAX:
                    self.problem(name, number, f"{len(line)} columns, {LINE_MAX} are allowed")
                if "\t" in line:
                    self.problem(name, number, "a tab")
        if suffix in (".c", ".h") and len(lines) > FILE_MAX and "Generated by" not in text[:2000]:
            self.problem(name, len(lines), f"{len(lines)} lines: split the file ({FILE_MAX} are allowed)")

    # ── C ──

    def check_includes(self, name, text, included, foreign_users):
        parts = name.split("/")
        room = parts[1] if parts[0] == "src" and len(parts) > 2 else None
        if room and room not in ROOMS:
            self.problem(name, 1, f"the room '{room}' is not on the map in tools/tidy.py")
            return
        for number, line in enumerate(blank(text, keep_strings=True).split("\n"), 1):
            match = INCLUDE.match(line)
            if not match:
                continue
            header = match.group(2)
            if match.group(1) == "<":
                self.check_foreign(name, number, header, room, foreign_users)
                continue
            target = self.resolve(name, header)
            if target is None:
                self.problem(name, number, f'"{header}" is not a file of this tree (foreign headers go in <>)')
                continue
            included.add(target)
            to = target.split("/")[1] if target.startswith("src/") else None
            if target.endswith("_int.h") and Path(target).parent != Path(name).parent:
                self.problem(name, number, f"{target} is private to its room")
            elif room and to and to not in (room, "base") and to not in ROOMS[room]:
                way = "sees the library only through pillion/pillion.h" if room in SERVER and to in LIBRARY else \
                    f"may include {', '.join(('base',) + ROOMS[room])} only"
                self.problem(name, number, f"{room} includes {to}: {room} {way}")
            elif room == "base" and to and to != "base":
                self.problem(name, number, f"base includes {to}: base includes no other room")

    def resolve(self, name, header):
        for candidate in (str(Path("src") / header), str(Path("include") / header), str(Path(name).parent / header),
                          str(Path("tests") / header), str(Path("tests/support") / header)):
            if candidate in self.files:
                return candidate
        return None

    def check_foreign(self, name, number, header, room, foreign_users):
        if header.startswith("pillion/") or SYSTEM.match(header):
            return
        if INTRINSICS.match(header):
            if room not in ("kernel", None):
                self.problem(name, number, f"<{header}> belongs to src/kernel")
            return
        key = next((k for k in FOREIGN if header == k or (k.endswith("/") and header.startswith(k))), None)
        if key is None:
            self.problem(name, number, f"<{header}> is a library that tools/tidy.py does not know")
        elif room:
            place = next((p for p in FOREIGN[key] if name.startswith(p)), None)
            if place is None:
                where = ", ".join(FOREIGN[key]) or "tests/"
                self.problem(name, number, f"<{header}> belongs to {where}")
            else:
                foreign_users.setdefault((key, place), {})[name] = number

    def check_foreign_spread(self, foreign_users):
        for (key, place), users in foreign_users.items():
            if place.endswith("/") and len(users) > 1:
                for name, number in users.items():
                    self.problem(name, number, f"<{key}> is used by {len(users)} files of {place}: {', '.join(users)}")

    def check_headers_used(self, included):
        for name in self.files:
            if name.endswith(".h") and name.startswith(("src/", "tests/")) and name not in included:
                self.problem(name, 1, "nobody includes this header")

    def check_code(self, name, code):
        in_src = name.startswith("src/")
        library = in_src and name.split("/")[1] in LIBRARY
        lines = code.split("\n")
        for number, line in enumerate(lines, 1):
            for call in re.finditer(r"(?<![\w.>])(\w+)\s*\(", line):
                function = call.group(1)
                if function in BANNED and not (function in TESTS_MAY and not in_src):
                    self.problem(name, number, f"{function}() is not used here: {BANNED[function]}")
                elif library and function in LIBRARY_BANNED:
                    self.problem(name, number, f"{function}() in the library half")
            if in_src and STDERR.search(line) and not name.startswith(STDERR_ALLOWED):
                self.problem(name, number, "writes to stderr: use base/log.h")
            typedef = TYPEDEF_T.match(line)
            if typedef:
                self.problem(name, number, f"{typedef.group(1) or typedef.group(2)}: POSIX owns names that end in _t")
        if in_src:
            self.check_opening(name)
        self.check_named_paths(name)

    def check_named_paths(self, name):
        for number, line in enumerate(self.files[name].split("\n"), 1):
            for path in NAMED_PATH.findall(line):
                if path not in self.files:
                    self.problem(name, number, f"names {path}, which does not exist")

    def check_opening(self, name):
        first = self.files[name].split("\n", 1)[0]
        if not re.match(r"/\* " + re.escape(Path(name).name) + r" - \S", first):
            self.problem(name, 1, f"a file opens with: /* {Path(name).name} - what it is for")


# ── Seeing that each rule bites ─────────────────────────────────────────────────────────────────────────────

def self_test():
    good = "/* {} - a file. */\n"
    cases = [  # file, what follows its opening comment, what the complaint must contain (None: no complaint)
        ("src/kernel/a.c", '#include "engine/e.h"\n', "kernel includes engine"),
        ("src/token/a.c", '#include "kernel/k.h"\n', "token includes kernel"),
        ("src/http/a.c", '#include "engine/e.h"\n', "only through pillion/pillion.h"),
        ("src/base/a.c", '#include "kernel/k.h"\n', "base includes kernel"),
        ("src/engine/a.c", '#include "kernel/k.h"\n#include "base/b.h"\n#include "pillion/pillion.h"\n', None),
        ("src/cmd/a.c", '#include "http/h_int.h"\n', "private to its room"),
        ("tests/http/a.c", '#include "http/h_int.h"\n', "private to its room"),
        ("src/http/a.c", '#include "http/h_int.h"\n', None),
        ("src/nowhere/a.c", "", "not on the map"),
        ("src/http/a.c", "#include <jansson.h>\n", "belongs to src/base/json.c"),
        ("src/http/a.c", "#include <glib.h>\n", "does not know"),
        ("src/engine/a.c", "#include <immintrin.h>\n", "belongs to src/kernel"),
        ("src/http/a.c", '#include "gone.h"\n', "not a file of this tree"),
        ("src/http/a.c", "void f(void) { strcpy(a, b); }\n", "strcpy() is not used"),
        ("src/http/a.c", 'const char *s = "strcpy(a)"; /* strcpy(a) */\n', None),
        ("src/token/a.c", "void f(void) { exit(1); }\n", "exit() in the library half"),
        ("src/http/a.c", 'void f(void) { fprintf(stderr, "x"); }\n', "writes to stderr"),
        ("src/cmd/a.c", 'void f(void) { fprintf(stderr, "x"); }\n', None),
        ("src/http/a.c", "typedef struct x x_t;\n", "POSIX owns"),
        ("src/http/a.c", "int a; /* " + "TO" + "DO later */\n", "finish it"),
        ("src/http/a.c", "/* " + "/home" + "/someone/file */\n", "path of one machine"),
        ("src/http/a.c", "/* " + "x" * 120 + " */\n", "columns"),
        ("src/http/a.c", "int a; \n", "blank at the end"),
        ("src/http/a.c", "\tint a;\n", "a tab"),
        ("src/http/a.c", "int a;\n" * 1000, "split the file"),
        ("src/http/unused.h", "", "nobody includes"),
        ("src/http/b.c", None, "a file opens with"),
        ("src/http/a.c", "/* Tests: tests/http/test_gone.c. */\n", "names tests/http/test_gone.c"),
        ("src/http/a.c", "/* See src/http/h_int.h, and \"/etc/src/x.c\". */\n", None),
    ]
    failed = 0
    for name, body, expected in cases:
        with tempfile.TemporaryDirectory() as folder:
            tree = {"include/pillion/pillion.h": "", "src/base/b.h": "", "src/kernel/k.h": "", "src/engine/e.h": "",
                    "src/http/h_int.h": ""}
            tree = {n: good.format(Path(n).name) for n in tree}
            uses = {"base/b.h": "base", "kernel/k.h": "kernel", "engine/e.h": "engine", "http/h_int.h": "http"}
            for header, room in uses.items():
                tree[f"src/{room}/uses.c"] = good.format("uses.c") + f'#include "{header}"\n'
            tree[name] = "int a;\n" if body is None else good.format(Path(name).name) + body
            for path, content in tree.items():
                Path(folder, path).parent.mkdir(parents=True, exist_ok=True)
                Path(folder, path).write_text(content)
            problems = Tree(folder).check()
            found = not problems if expected is None else any(expected in p and p.startswith(name) for p in problems)
            if not found:
                failed += 1
                print(f"tidy.py --self-test: {name} {body!r}\n  expected: {expected}\n  got: {problems}")
    with tempfile.TemporaryDirectory() as folder:
        for file in ("a", "b"):
            path = Path(folder, "src/http", file + ".c")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(good.format(file + ".c") + "#include <llhttp.h>\n")
        if not any("is used by 2 files" in p for p in Tree(folder).check()):
            failed += 1
            print("tidy.py --self-test: two users of one foreign header in a room were not found")
    print(f"tidy: {len(cases) + 1 - failed} rules seen to bite, {failed} failed")
    return 1 if failed else 0


def main():
    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    if sys.argv[1:]:
        print("usage: tidy.py [--self-test]", file=sys.stderr)
        return 2
    tree = Tree(Path(__file__).resolve().parent.parent)
    problems = tree.check()
    for problem in problems:
        print(problem)
    print(f"tidy: {len(tree.files)} files, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
