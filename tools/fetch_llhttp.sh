#!/usr/bin/env bash
# Fetches llhttp's C source out of the registry package httptools 0.9.0 into DIR (include/, src/, LICENSE).
#   fetch_llhttp.sh DIR
set -euo pipefail
dir=${1:?usage: fetch_llhttp.sh DIR}
sum=d484ebb7e3a3f3597b0f645fbd1b85633674ca808c1f5ba11c2caf7c66f5c8b6
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m pip download -q --disable-pip-version-check --no-deps --no-binary :all: -d "$work" httptools==0.9.0
echo "$sum  $work/httptools-0.9.0.tar.gz" | sha256sum -c --quiet -
tar -xzf "$work/httptools-0.9.0.tar.gz" -C "$work"
mkdir -p "$(dirname "$dir")"
rm -rf "$dir"
mv "$work/httptools-0.9.0/vendor/llhttp" "$dir"
