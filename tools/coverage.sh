#!/usr/bin/env bash
# Runs all tests but the fault experiments in an instrumented build, prints the line coverage of src/. Fails below 85 %.
#   coverage.sh BUILD      (made with the preset "coverage")
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
build=$(cd "$1" && pwd)
find "$build" -name '*.gcda' -delete
ctest --test-dir "$build" --output-on-failure -j "$(nproc)" -LE faults
cd "$root"
gcovr --root . --filter src/ --object-directory "$build" --gcov-ignore-parse-errors \
  --print-summary --fail-under-line 85 --xml "$build/coverage.xml" --txt -
