#!/usr/bin/env python3
"""A release holds nothing of what makes a test build fail on demand (src/proc/fault.c), and a test build does."""
import os
import sys
from pathlib import Path

MARKERS = (b"\x01fault:", b"PILLION_FAULT", b"shortstuck", b"badframe")

program = Path(os.environ["PILLION_BIN"]).read_bytes()
wanted = os.environ.get("PILLION_FAULTS") == "1"
wrong = [m.decode() for m in MARKERS if (m in program) != wanted]
print(f"{'test build' if wanted else 'release'}: {len(program)} bytes, wrong about {wrong} of {len(MARKERS)} markers")
sys.exit(bool(wrong))
