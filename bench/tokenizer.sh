#!/usr/bin/env bash
# Speed of our tokenizer beside the tokenizers package, one thread each, in turns. Wants the models and the corpus that
# `make test-tokenizers` has fetched.
#   tokenizer.sh BUILD [tokenizer.py's options]
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
build=$(cd "$1" && pwd)
shift
models=${PILLION_MODELS:-$root/.models}
[ -d "$models/.corpus" ] || { echo "tokenizer.sh: run make test-tokenizers first" >&2; exit 1; }
python=$("$root/tools/venv.sh" tokenizers)
mkdir -p "$build/bench"
cc -O2 -Wall -D_GNU_SOURCE -I"$root/src" -I"$root/include" "$root/bench/tokenizer.c" -o "$build/bench/tokenizer" \
  "$build/libpillion.a" -ljansson -lcrypto -lm -lpthread
exec "$python" "$root/bench/tokenizer.py" "$build/bench/tokenizer" "$models" "$models/.corpus" "$@"
