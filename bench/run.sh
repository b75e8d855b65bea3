#!/usr/bin/env bash
# Measures this build: f32 speed beside PyTorch and ONNX Runtime, start-up and memory. Writes bench/results/.
#   run.sh BUILD [compare.py's options]
# The peers live in an environment of their own (.venv/bench, some 7 GB); nothing else on the machine should be busy.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
build=$(cd "$1" && pwd)
shift
models=$(cd "${PILLION_MODELS:-$root/.models}" && pwd)
python=$("$root/tools/venv.sh" bench)
"$root/tools/fetch_models.sh" "$models" minilm mpnet >/dev/null
mkdir -p "$build/bench"
cc -O2 -Wall "$root/bench/limit.c" -o "$build/bench/limit" -lpthread
cc -O2 -Wall -I"$root/include" "$root/bench/throughput.c" -o "$build/bench/throughput" \
  -L"$build" -lpillion -Wl,-rpath,"$build"
"$python" "$root/bench/compare.py" "$build" "$models" "$@"
"$python" "$root/bench/startup.py" "$build" "$models"
