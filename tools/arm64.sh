#!/usr/bin/env bash
# Cross builds for 64-bit ARM and runs the tests under qemu.
#   arm64.sh BUILD       BUILD: a native build, for the built-in model that it has compiled
# The libraries of that architecture are unpacked into .deps/arm64 with a package list of their own: the system's list
# of architectures stays as it is.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
native=$(cd "$1" && pwd)
sysroot=$root/.deps/arm64
packages="libuv1-dev libjansson-dev libssl-dev libseccomp-dev libcmocka-dev libuv1 libjansson4 libssl3 libseccomp2
          libcmocka0"
"$root/tools/setup.sh" build test

if [ ! -e "$sysroot/complete" ]; then
  work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
  mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/debs"
  touch "$work/status"
  options=(-q -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o APT::Sandbox::User=root
           -o Acquire::Languages=none -o Dir::State="$work" -o Dir::State::status="$work/status"
           -o Dir::State::lists="$work/lists" -o Dir::Cache="$work/cache")
  echo "arm64: fetching libraries" >&2
  apt-get "${options[@]}" update >/dev/null 2>&1 || true
  (cd "$work/debs" && apt-get "${options[@]}" download $packages >/dev/null)
  rm -rf "$sysroot"
  for deb in "$work"/debs/*.deb; do dpkg -x "$deb" "$sysroot"; done
  touch "$sysroot/complete"
fi

cd "$root"
[ -e build-arm64/build.ninja ] || cmake --preset arm64 -DPILLION_DEFAULT_MODEL_FILE="$native/builtin.safetensors"
cmake --build build-arm64 -j "$(nproc)"
# what starts the program needs an arm64 kernel or binfmt_misc; a whole model takes an emulator too long (the tiny ones
# of tests/compile/test_reference.c have reference vectors too), and so does a million schedules
PILLION_SCHEDULES=2000 ctest --test-dir build-arm64 --output-on-failure -j "$(nproc)" \
  -LE faults -E "^(build|cmd|http|extract|sandbox|proc)/|^lib/"
