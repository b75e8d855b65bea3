#!/usr/bin/env python3
"""Breaks a server on purpose and counts what its clients see.

    run.py [--tier commit|night|release] [ROW or GROUP ...] [--seed N] [--scale X] [--minutes M] [--out FILE]
    run.py --list              every row; README.md says where the others are tested

Prints one line for each row and the seed that replays the run, writes all figures as JSON, and ends with status 1 when
a row failed. The program is $PILLION_BIN (default build/pillion), that with fault markers
$PILLION_FAULTS_BIN (default build-faults/pillion). Only Python's standard library is used."""
import argparse
import json
import os
import platform
import secrets
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(Path(__file__).resolve().parent))
os.environ.setdefault("PILLION_BIN", str(SOURCE / "build/pillion"))

import harness  # noqa: E402
import rows_host  # noqa: E402,F401
import rows_http  # noqa: E402,F401
import rows_input  # noqa: E402,F401
import rows_lifecycle  # noqa: E402,F401
import rows_memory  # noqa: E402,F401
import rows_numbers  # noqa: E402,F401
import rows_overload  # noqa: E402,F401
import rows_soak  # noqa: E402,F401
import rows_worker  # noqa: E402,F401

SKIPPED = 77  # CTest's SKIP_RETURN_CODE


def arguments():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("rows", nargs="*", metavar="ROW", help="ids of rows or names of groups; all of the tier by default")
    p.add_argument("--tier", choices=harness.TIERS, default="commit")
    p.add_argument("--seed", type=int, help="replays a run")
    p.add_argument("--scale", type=float, default=1.0, help="multiplies every count")
    p.add_argument("--minutes", type=float, help="duration of rows that have one")
    p.add_argument("--out", help="file for the figures, default build/faults/TIER.json")
    p.add_argument("--faults-bin", default=os.environ.get("PILLION_FAULTS_BIN"))
    p.add_argument("--list", action="store_true")
    o = p.parse_args()
    if o.faults_bin is None:
        built = SOURCE / "build-faults/pillion"
        o.faults_bin = str(built) if built.exists() else None
    if o.seed is None:
        o.seed = int(os.environ.get("PILLION_SEED") or secrets.randbelow(1 << 31))
    o.out = o.out or str(Path(harness.BIN).parent / "faults" / f"{o.tier}.json")
    Path(o.out).parent.mkdir(parents=True, exist_ok=True)
    return o


def chosen(o):
    letter = harness.TIERS[o.tier]
    if not o.rows:
        return [r for r in harness.ROWS.values() if letter in r.tiers]
    found = [r for r in harness.ROWS.values()
             if r.name in o.rows or (r.group in o.rows and letter in r.tiers)]
    unknown = [n for n in o.rows if not any(n in (r.name, r.group) for r in harness.ROWS.values())]
    if unknown:
        sys.exit(f"no such row or group: {' '.join(unknown)}; --list shows all")
    return found


def machine():
    def line(path, key):
        try:
            return next(v.split(":", 1)[1].strip() for v in Path(path).read_text().splitlines() if v.startswith(key))
        except (OSError, StopIteration):
            return "?"

    version = subprocess.run([harness.BIN, "--version"], capture_output=True, text=True).stdout.strip()
    commit = subprocess.run(["git", "-C", SOURCE, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return {"cpu": line("/proc/cpuinfo", "model name"), "cores": len(os.sched_getaffinity(0)),
            "memory": line("/proc/meminfo", "MemTotal"), "kernel": platform.release(),
            "python": platform.python_version(),
            "pillion": version.splitlines()[0] if version else "?", "commit": commit.stdout.strip() or "?"}


def listing():
    for name in sorted(harness.ROWS, key=lambda n: (n[0], int("".join(c for c in n if c.isdigit()) or 0), n)):
        r = harness.ROWS[name]
        print(f"{name:5} {r.tiers:4} {r.group:10} {r.about}")


def perform(row, o):
    """One row: {"status", "seconds", "figures", "reason"}"""
    run = harness.Run(row, o)
    began = time.monotonic()
    status, reason = "ok", ""
    try:
        row.function(run)
    except harness.Skip as e:
        status, reason = "skipped", str(e)
    except harness.Failed as e:
        status, reason = "FAILED", str(e)
    except Exception as e:  # a row that cannot go on has failed
        status, reason = "FAILED", f"{type(e).__name__}: {e}"
        traceback.print_exc()
    finally:
        run.close()
    return {"status": status, "seconds": round(time.monotonic() - began, 1), "figures": run.figures, "reason": reason}


def main():
    o = arguments()
    if o.list:
        listing()
        return 0
    if subprocess.run([harness.BIN, "show"], capture_output=True, env=harness.environment()).returncode == 3:
        print("skipped: the program has no built-in model")
        return SKIPPED
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    rows, about = chosen(o), machine()
    print(f"tier {o.tier}, seed {o.seed}: {len(rows)} rows on {about['cores']} cores of {about['cpu']}, "
          f"Linux {about['kernel']}, {about['pillion']} ({about['commit']})", flush=True)
    results = {}
    try:
        for row in rows:
            found = results[row.name] = perform(row, o)
            shown = " ".join(f"{k}={v}" for k, v in found["figures"].items())
            print(f"{row.name:5} {found['status']:8} {found['seconds']:7.1f} s  {row.about}", flush=True)
            for extra in filter(None, (shown, found["reason"])):
                print(f"{'':14} {extra}", flush=True)
    finally:
        harness.cleanup()
        report = {"tier": o.tier, "seed": o.seed, "machine": about, "rows": results}
        Path(o.out).write_text(json.dumps(report, indent=1))
    count = {s: sum(r["status"] == s for r in results.values()) for s in ("ok", "FAILED", "skipped")}
    print(f"{count['ok']} ok, {count['FAILED']} failed, {count['skipped']} skipped in "
          f"{sum(r['seconds'] for r in results.values()):.0f} s; figures in {o.out}")
    if count["FAILED"]:
        failed = " ".join(n for n, r in results.items() if r["status"] == "FAILED")
        print(f"replay: tests/faults/run.py --tier {o.tier} --seed {o.seed} {failed}")
    return 1 if count["FAILED"] else 0


if __name__ == "__main__":
    sys.exit(main())
