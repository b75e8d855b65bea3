#!/usr/bin/env bash
# Runs every fuzz target for some seconds, one on each core at a time. Starts from the committed corpus of the target
# and keeps what it finds in BUILD/corpus; a crashing input lands in BUILD/crashes and fails the run.
#   fuzz.sh BUILD SECONDS      (made with the preset "fuzz")
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
build=$(cd "$1" && pwd)
seconds=$2
mkdir -p "$build/crashes" "$build/logs"
targets=$(find "$build/fuzz" -maxdepth 1 -type f -executable -name 'fuzz_*' | sort)
[ -n "$targets" ] || { echo "fuzz: no targets in $build/fuzz" >&2; exit 1; }

# fuzz_one TARGET: quiet unless it fails
fuzz_one() {
  local name=${1##*/fuzz_} seeds=()
  [ -d "$root/fuzz/corpus/$name" ] && seeds=("$root/fuzz/corpus/$name")
  mkdir -p "$build/corpus/$name"
  if "$1" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -artifact_prefix="$build/crashes/$name-" \
    "$build/corpus/$name" "${seeds[@]}" >"$build/logs/$name.log" 2>&1; then
    echo "fuzz $name: $(grep -E '^Done|stat::number_of_executed' "$build/logs/$name.log" | tail -1)"
  else
    tail -40 "$build/logs/$name.log"
    echo "fuzz $name: FAILED; the input is in $build/crashes"
    return 1
  fi
}
export -f fuzz_one
export build root seconds
echo "$targets" | xargs -P "$(nproc)" -I{} bash -c 'fuzz_one {}'
