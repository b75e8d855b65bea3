#!/usr/bin/env bash
# Runs all tests but the fault experiments in an instrumented build, prints the line coverage of src/. Fails below 85 %.
#   coverage.sh BUILD      (made with the preset "coverage")
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
build=$(cd "$1" && pwd)
find "$build" -name '*.gcda' -delete
# Where a test takes files or rights away, the instrumented program complains on standard error, which fails the test:
# those run for their lines alone.
noisy='^(http/service|cmd/doctor|cmd/malformed)$'
ctest --test-dir "$build" --output-on-failure -j "$(nproc)" -LE faults -E "$noisy"
ctest --test-dir "$build" -j "$(nproc)" -R "$noisy" >/dev/null || true
cd "$root"
gcovr --root . --filter src/ --object-directory "$build" --gcov-ignore-parse-errors \
  --print-summary --fail-under-line 85 --xml "$build/coverage.xml" --txt -
