#!/usr/bin/env bash
# Makes sure that the virtual environment .venv/NAME holds what tools/requirements/NAME.txt asks for; prints its python.
#   venv.sh NAME
# Only targets beyond `make test` call this. Changing the requirements file rebuilds the environment.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
name=${1:?usage: venv.sh NAME}
list=$root/tools/requirements/$name.txt
venv=$root/.venv/$name
[ -e "$list" ] || { echo "venv.sh: no $list" >&2; exit 2; }
if ! cmp -s "$list" "$venv/installed.txt"; then
  "$root/tools/setup.sh" python
  echo "venv: making .venv/$name" >&2
  rm -rf "$venv"
  python3 -m venv "$venv"
  "$venv/bin/python" -m pip install -q --disable-pip-version-check -r "$list" >&2
  cp "$list" "$venv/installed.txt"
fi
echo "$venv/bin/python"
