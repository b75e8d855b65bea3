#!/usr/bin/env python3
"""Proves that what `make install` installs works where it is put: a program builds against the library with pkg-config
alone, shared and static, also after the folder has moved, and the service names files that are there.

    check_install.py BUILD     BUILD: the folder of a build

Prints one line for each thing that is wrong; exit 1 on any."""
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1]
USAGE = 2  # what examples/nearest.c ends with when it is given nothing to do


def run(*command, **env):
    return subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, env={**os.environ, **env})


def install(build, prefix, **env):
    r = run("cmake", "--install", build, "--prefix", prefix, **env)
    if r.returncode:
        sys.exit(f"cmake --install: {r.stdout}{r.stderr}")


def check_library(prefix, work):
    """What is wrong with building against the library below prefix."""
    pc = next(prefix.rglob("pillion.pc"), None)
    if not pc:
        yield "no pillion.pc"
        return
    for linking in ((), ("-static",)):
        words = run("pkg-config", "--cflags", "--libs", *(["--static"] if linking else []), "pillion",
                    PKG_CONFIG_PATH=str(pc.parent))
        flags = words.stdout.split()
        r = run("cc", *linking, SOURCE / "examples/nearest.c", *flags, "-o", work / "nearest")
        if words.returncode or r.returncode:
            yield f"nearest.c does not build {' '.join(linking)} with '{' '.join(flags)}': {words.stderr}{r.stderr}"
            continue
        r = run(work / "nearest", LD_LIBRARY_PATH=str(pc.parent.parent))
        if r.returncode != USAGE:
            yield f"nearest {' '.join(linking)} ends with {r.returncode}: {r.stderr}"


def check_service(root, prefix, etc):
    """What is wrong with the unit below root, which is to run where prefix and etc are."""
    text = (root / prefix.lstrip("/") / "lib/systemd/system/pillion.service").read_text()
    if "@PILLION" in text:
        yield "the service has a place that nothing was put into"
    start = f"ExecStart={prefix}/bin/pillion serve --config {etc}/pillion.conf"
    if start not in text.splitlines():
        yield f"the service has no line '{start}'"
    for path in re.findall(r"^(?:AssertPathExists=(\S+)|ExecStart=(\S+).* (\S+)$)", text, re.MULTILINE):
        for file in filter(None, path):
            if not (root / file.lstrip("/")).exists():
                yield f"the service names {file}, which is not installed"


def check_all(build, work):
    install(build, work / "first")
    yield from check_library(work / "first", work)
    yield from check_service(Path("/"), f"{work}/first", f"{work}/first/etc")
    conf = work / "first/etc/pillion.conf"
    conf.write_text("port = 1\n")
    install(build, work / "first")
    if conf.read_text() != "port = 1\n":
        yield "a file of options that was there is replaced"
    shutil.move(work / "first", work / "second")
    yield from check_library(work / "second", work)
    install(build, "/usr", DESTDIR=str(work / "root"))
    yield from check_service(work / "root", "/usr", "/etc")


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with tempfile.TemporaryDirectory(prefix="pillion-install-") as folder:
        wrong = list(check_all(sys.argv[1], Path(folder)))
    for line in wrong:
        print("check_install:", line)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
