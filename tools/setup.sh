#!/usr/bin/env bash
# Brings what Pillion needs onto this machine, as far as it is missing: distribution packages (Debian and its
# relatives), llhttp's source in .deps and the weights of the built-in model in .models. Does nothing, quickly, when all
# is there.
#   setup.sh [SET ...]    SET: build (default), test, coverage, fuzz, analyze, python. Each includes build.
# Packages are installed with one call of apt-get, through sudo when this is not root. Nothing else on the system
# changes.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
models=${PILLION_MODELS:-$root/.models}

declare -A packages=(
  [build]="build-essential cmake ninja-build pkg-config libuv1-dev libjansson-dev libssl-dev libseccomp-dev
           libcmocka-dev python3 python3-pip"
  [test]="qemu-user-static gcc-aarch64-linux-gnu libc6-dev-arm64-cross poppler-utils tesseract-ocr python3-venv strace"
  [coverage]="gcovr"
  [fuzz]="clang libclang-rt-14-dev"
  [analyze]="clang clang-tidy cppcheck"
  [python]="python3-venv"
)
# Where there is no apt-get: what to look for instead, so that the answer is a list and not a failed build.
declare -A commands=(
  [build]="cc cmake ninja pkg-config python3" [test]="" [coverage]="gcovr" [fuzz]="clang"
  [analyze]="clang clang-tidy cppcheck" [python]=""
)
libraries="libuv jansson libcrypto libseccomp cmocka"

say() { echo "setup: $*" >&2; }
fail() { say "$*"; exit 1; }

as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    fail "not root and there is no sudo. As root, run: $*"
  fi
}

install_packages() {
  local wanted=$1 missing="" name
  local have; have=" $(dpkg-query -W -f '${Package}/${db:Status-Status} ' $wanted 2>/dev/null || true) "
  for name in $wanted; do
    case $have in *" $name/installed "*) ;; *) missing+=" $name" ;; esac
  done
  [ -n "$missing" ] || return 0
  say "installing:$missing"
  local log; log=$(mktemp)
  as_root apt-get update -q >"$log" 2>&1 || say "apt-get update failed; trying with the package lists as they are"
  if ! as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing >>"$log" 2>&1
  then
    tail -20 "$log" >&2
    fail "apt-get could not install:$missing"
  fi
  rm -f "$log"
}

look_for_commands() {
  local missing="" name
  for name in $1; do command -v "$name" >/dev/null || missing+=" $name"; done
  for name in $libraries; do pkg-config --exists "$name" 2>/dev/null || missing+=" $name (development files)"; done
  [ -z "$missing" ] || fail "this system has no apt-get; install these with its own package manager:$missing"
}

[ $# -gt 0 ] || set -- build
wanted=${packages[build]} needed=${commands[build]}
for set_name in "$@"; do
  [ -n "${packages[$set_name]+x}" ] || fail "no set named '$set_name'; there are: ${!packages[*]}"
  [ "$set_name" = build ] || { wanted+=" ${packages[$set_name]}"; needed+=" ${commands[$set_name]}"; }
done
if command -v apt-get >/dev/null; then
  install_packages "$wanted"
else
  look_for_commands "$needed"
fi

if [ ! -e "$root/.deps/llhttp/src/llhttp.c" ]; then
  say "fetching llhttp"
  "$root/tools/fetch_llhttp.sh" "$root/.deps/llhttp"
fi
if [ ! -e "$models/minilm/model.safetensors" ]; then
  say "fetching the weights of all-MiniLM-L6-v2 (84 MB)"
  "$root/tools/fetch_models.sh" "$models" minilm >/dev/null
fi
