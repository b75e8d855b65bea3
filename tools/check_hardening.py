#!/usr/bin/env python3
"""Proves on the built files that hardening is there: what the linker promised is read from the program with readelf,
what leaves no trace in it from the commands that compiled it.

    check_hardening.py BUILD [PROGRAM]     BUILD: the folder of a Release build; PROGRAM: BUILD/pillion unless given

Prints one line for each thing that is missing; exit 1 on any. Needs readelf (binutils)."""
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

# Flags without which no file of src/ is compiled. Kernel tiers switch some of them off again, nobody else does.
FLAGS = {
    "x86_64": ("-fstack-protector-strong", "-fstack-clash-protection", "-fcf-protection=full", "-D_FORTIFY_SOURCE=3"),
    "aarch64": ("-fstack-protector-strong", "-fstack-clash-protection", "-mbranch-protection=standard",
                "-D_FORTIFY_SOURCE=3"),
}
ZERO_INIT = "-ftrivial-auto-var-init=zero"  # where the compiler knows it
KERNEL_TIER = re.compile(r"/src/kernel/kernel_(avx2|avx512|neon)\.c$")
# Names that only a guard brings in: of the stack protector, of _FORTIFY_SOURCE, of assert.
GUARDS = {"__stack_chk_fail": r"^__stack_chk_fail$", "calls that _FORTIFY_SOURCE checks": r"^__(?!stack)\w+_chk$",
          "assertions": r"^__assert_fail$"}
FEATURES = {"x86_64": "IBT, SHSTK", "aarch64": "BTI, PAC"}


def readelf(*args):
    return subprocess.run(["readelf", "-W", *map(str, args)], capture_output=True, text=True, check=True).stdout


def check_file(path, is_program):
    """What is wrong with a program or shared library."""
    header, segments, dynamic = readelf("-h", path), readelf("-l", path), readelf("-d", path)
    if not re.search(r"Type:\s+DYN", header) or (is_program and not re.search(r"FLAGS_1.*\bPIE\b", dynamic)):
        yield "it is not position independent (-pie)"
    if "GNU_RELRO" not in segments:
        yield "no GNU_RELRO segment (-z relro)"
    if not re.search(r"FLAGS_1.*\bNOW\b|\(BIND_NOW\)", dynamic):
        yield "symbols are bound late (-z now)"
    stack = re.search(r"GNU_STACK\s+(?:0x\w+\s+){5}([RWE ]+?)\s+0x", segments)
    if not stack or "E" in stack.group(1):
        yield "the stack is executable (-z noexecstack)"
    for flags in re.findall(r"^\s+LOAD\s+(?:0x\w+\s+){5}([RWE ]+?)\s+0x", segments, re.M):
        if "W" in flags and "E" in flags:
            yield "a segment is writable and executable"
    if "(TEXTREL)" in dynamic:
        yield "code is changed when it is loaded (TEXTREL)"
    if re.search(r"\((RPATH|RUNPATH)\)", dynamic):
        yield "libraries are looked for in folders of the build (RPATH)"
    imported = re.findall(r"\bUND\s+([^\s@]+)", readelf("--dyn-syms", path))
    for what, pattern in GUARDS.items():
        if not any(re.match(pattern, name) for name in imported):
            yield f"no trace of {what}"


def check_exports(path):
    for line in readelf("--dyn-syms", path).splitlines():
        fields = line.split()
        if len(fields) >= 8 and fields[4] in ("GLOBAL", "WEAK") and fields[6] not in ("UND", "ABS") and \
                not fields[7].startswith("pillion_"):
            yield f"it exports {fields[7]}, which is no promise"


def check_objects(archive, machine):
    """Every object must carry the note that its jumps and returns are protected; foreign libraries in the program may
    lack it, so the program itself cannot show it."""
    wanted, member = FEATURES[machine], None
    lacking = []
    for line in readelf("-n", archive).splitlines() + ["File: end()"]:
        if line.startswith("File: "):
            if member and not member[1]:
                lacking.append(member[0])
            member = [re.sub(r".*\((.*)\)", r"\1", line), False]
        elif wanted in line and member:
            member[1] = True
    lacking = [name for name in lacking if name.endswith(".c.o")]
    if lacking:
        yield f"no protection of jumps ({wanted}) in {len(lacking)} objects, for example {lacking[0]}"


def check_commands(build, machine):
    """The flags of every file of src/, from compile_commands.json."""
    commands = json.loads((build / "compile_commands.json").read_text())
    ours = [c for c in commands if "/src/" in c["file"] and c["file"].endswith(".c") and "/.deps/" not in c["file"]]
    if not ours:
        yield "compile_commands.json names no file of src/"
    cached = (build / "CMakeCache.txt").read_text()
    for c in ours:
        flags = c["command"].split()
        tier = KERNEL_TIER.search(c["file"])
        wanted = FLAGS[machine] + ((ZERO_INIT,) if "PIL_HAS_ZERO_INIT:INTERNAL=1" in cached else ())
        for flag in wanted:
            if flag not in flags:
                yield f"{c['file']} is compiled without {flag}"
        for flag in ("-fno-stack-protector", "-ftrivial-auto-var-init=uninitialized", "-D_FORTIFY_SOURCE=0"):
            if flag in flags and not tier:
                yield f"{c['file']} is compiled with {flag}"


def main():
    if len(sys.argv) not in (2, 3):
        print("usage: check_hardening.py BUILD [PROGRAM]", file=sys.stderr)
        return 2
    if not shutil.which("readelf"):
        print("skipped: there is no readelf")
        return 77
    build = Path(sys.argv[1])
    program = Path(sys.argv[2]) if len(sys.argv) == 3 else build / "pillion"
    machine = "aarch64" if "AArch64" in readelf("-h", program) else "x86_64"
    problems = [f"{program.name}: {p}" for p in check_file(program, True)]
    for library in sorted(build.glob("libpillion.so.?")):
        problems += [f"{library.name}: {p}" for p in (*check_file(library, False), *check_exports(library))]
    archives = sorted(build.glob("libpillion*.a"))
    for archive in archives:
        problems += [f"{archive.name}: {p}" for p in check_objects(archive, machine)]
    problems += check_commands(build, machine)
    for problem in problems:
        print(problem)
    print(f"hardening: {program.name} and {len(archives)} archives, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
