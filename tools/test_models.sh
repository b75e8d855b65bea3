#!/usr/bin/env bash
# Fetches the test models that are missing, then compares Pillion's vectors with the reference's for each.
#   test_models.sh BUILD [--live]      --live: against a sentence-transformers that runs now, in an environment of 5 GB
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
pillion=$(cd "$1" && pwd)/pillion
models=${PILLION_MODELS:-$root/.models}
names="mpnet xlmr-base e5-multilingual minilm" # the largest first, one on each core at a time
"$root/tools/fetch_models.sh" "$models" $names >/dev/null
python=python3
[ "${2:-}" != --live ] || python=$("$root/tools/venv.sh" reference)
# a cache of its own: what is tested is a fresh compilation, and nothing is left in the user's cache
cache=$(mktemp -d "$models/.cache.XXXXXX")
trap 'rm -rf "$cache"' EXIT
XDG_CACHE_HOME=$cache "$python" "$root/tests/models/compare.py" ${2:-} "$pillion" "$models" $names
