#!/usr/bin/env bash
# mmkd and a Python peer in interleaved pairs (A B, B A, A B, …): the paired ratios' median with a 95 % interval.
#   bench/side_by_side.sh --what student_cached [--scale small|medium] [--dtype fp32|bf16] [--batch N] [--ranks N]
#                         [--threads N] [--pairs 5] [--peer tuned|seed_style] [--peer-dtype …] [--peer-ranks N] [--out FILE]
#   bench/side_by_side.sh --table [--pairs 10]     every row of the table in docs/performance.md, as Markdown
# MMKD_MEDPIX_DIR: MedPix 2.0. MMKD_PEERS_DIR: other peers than bench/peers (they keep weights/ and cache/ in their folder).
# MMKD_PYTHON: a Python with the peers' requirements; default .venv of this checkout.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
case "${1:-}" in -h | --help) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
export MMKD_PEERS_DIR=${MMKD_PEERS_DIR:-$here/bench/peers}
for variable in MMKD_PEERS_DIR MMKD_MEDPIX_DIR; do
  [ -n "${!variable:-}" ] || { echo "side_by_side.sh: $variable is not set (see --help)" >&2; exit 2; }
  [ -d "${!variable}" ] || { echo "side_by_side.sh: $variable: ${!variable} is no folder" >&2; exit 2; }
done
[ -w "$MMKD_PEERS_DIR" ] || {
  echo "side_by_side.sh: $MMKD_PEERS_DIR cannot be written; the peers keep weights and data in it: use a copy" >&2
  exit 2
}
python=${MMKD_PYTHON:-$here/.venv/bin/python}
"$python" -c 'import torch, transformers, tokenizers, safetensors, PIL' || {
  echo "side_by_side.sh: $python lacks what the peers need ($MMKD_PEERS_DIR/requirements.txt)" >&2
  exit 2
}
exec "$python" "$here/bench/side_by_side.py" "$@"
