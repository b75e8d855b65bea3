#!/usr/bin/env python3
"""Three analysers over every file of src/: gcc -fanalyzer, clang-tidy (.clang-tidy says what it looks for) and cppcheck
(tools/cppcheck.txt says what is excepted). Prints what they find; exit 1 on any finding.

    analyze.py BUILD CLANG_BUILD [--only gcc|clang-tidy|cppcheck] [FILE ...]

BUILD is configured with gcc, CLANG_BUILD with clang: their compile_commands.json are read, nothing is built."""
import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent
TIME_LIMIT_S = 240  # of one file
# What gcc is not asked here, with the reason.
GCC_OFF = (
    "-Wno-unused-value",  # the value of pil_err_set() as the analysers are shown it (base/err.h)
    "-Wno-analyzer-malloc-leak",  # loses track of memory that a structure owns and a close function frees
    "-Wno-analyzer-use-of-uninitialized-value",  # does not see that a status of 0 goes with an initialized result
)


def commands(build, files):
    """The compile command of each file of src/ in that build, without its output."""
    found = {}
    for entry in json.loads((build / "compile_commands.json").read_text()):
        path = Path(entry["directory"], entry["file"]).resolve()
        if path.suffix != ".c" or SOURCE / "src" not in path.parents or (files and path not in files):
            continue
        words = shlex.split(entry["command"])
        out = words.index("-o")
        found[path] = words[:out] + words[out + 2:]
    return found


def run(command):
    """Its output and how long it took; a failure or an overrun is a finding too."""
    began = time.monotonic()
    try:
        r = subprocess.run(command, cwd=SOURCE, capture_output=True, text=True, timeout=TIME_LIMIT_S, check=False)
        text = r.stdout + r.stderr
        if r.returncode and not text.strip():
            text = f"{command[0]} failed with {r.returncode}\n"
        return text if r.returncode else "", time.monotonic() - began
    except subprocess.TimeoutExpired:
        return f"{command[0]} took longer than {TIME_LIMIT_S} s: {command[-1]}\n", TIME_LIMIT_S


def gcc(build, files):
    for words in commands(build, files).values():
        yield words[:1] + [*words[1:], "-fanalyzer", "-DPIL_ANALYZER", *GCC_OFF, "-o", os.devnull]


def clang_tidy(build, files):
    for path in commands(build, files):
        yield ["clang-tidy", "-p", str(build), "--quiet", "--extra-arg=-DPIL_ANALYZER", str(path)]


def cppcheck(_, files):
    paths = [str(f.relative_to(SOURCE)) for f in files] or ["src"]  # as tools/cppcheck.txt names them
    yield ["cppcheck", "--quiet", "--std=c11", "--enable=warning,performance,portability", "--inline-suppr",
           "--error-exitcode=1", "--suppressions-list=tools/cppcheck.txt", "-j", str(os.cpu_count() or 1), "-Isrc",
           "-Iinclude", "-D_GNU_SOURCE", "-D__x86_64__", "-D__linux__",
           "--template={file}:{line}: {severity}: {message} [{id}]", *paths]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("build", type=Path)
    p.add_argument("clang_build", type=Path)
    p.add_argument("--only", choices=("gcc", "clang-tidy", "cppcheck"))
    p.add_argument("files", nargs="*", type=lambda f: Path(f).resolve())
    o = p.parse_args()
    found = 0
    for name, make, build in (("cppcheck", cppcheck, None), ("gcc", gcc, o.build.resolve()),
                              ("clang-tidy", clang_tidy, o.clang_build.resolve())):
        if o.only and o.only != name:
            continue
        began = time.monotonic()
        jobs = list(make(build, o.files))
        with ThreadPoolExecutor(1 if name == "cppcheck" else os.cpu_count()) as pool:
            texts = [text for text, _ in pool.map(run, jobs) if text]
        for text in texts:
            print(text, end="")
        found += len(texts)
        print(f"{name}: {len(jobs)} runs, {len(texts)} with findings, {time.monotonic() - began:.0f} s", flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
