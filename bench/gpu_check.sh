#!/usr/bin/env bash
# Does mmkd work on this machine's GPU, and how fast? Prints PASS, FAIL and SKIP lines; exits 1 after a failure, 77
# without a GPU.
#   bench/gpu_check.sh [--only parity|speed] [--out FILE]
#   parity        the same small generated job on the CPU and on CUDA with NCCL (a world of one), in float32 and in
#                 bfloat16, and the training losses compared
#   speed         training throughput and model FLOP utilisation beside PyTorch, as a table and as JSON in FILE
#                 (default gpu_speed.json)
# Builds what is missing. MMKD_BIN: folder of existing programs; MMKD_PYTHON: a Python with torch and transformers;
# MMKD_GPU_BUDGET: seconds for everything (480), what does not fit is skipped.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
only="" out=gpu_speed.json
while [ $# -gt 0 ]; do
  case "$1" in
    --only) only=${2:?--only needs parity or speed}; shift 2 ;;
    --out) out=${2:?--out needs a file}; shift 2 ;;
    -h | --help) sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "gpu_check.sh: unknown argument $1 (see --help)" >&2; exit 2 ;;
  esac
done
case $only in "" | parity | speed) ;; *) echo "gpu_check.sh: --only $only: expected parity or speed" >&2; exit 2 ;; esac

gpus=$(nvidia-smi -L 2>/dev/null | grep -c '^GPU' || true)
if [ "$gpus" -eq 0 ]; then
  echo "gpu_check.sh: no GPU here (nvidia-smi lists none); nothing was checked" >&2
  exit 77
fi
nvidia-smi --query-gpu=name,driver_version --format=csv,noheader

export MMKD_BIN=${MMKD_BIN:-$here/build/bin}
wanted=(mmkd-ddp mmkd-pack)
[ "$MMKD_BIN" != "$here/build/bin" ] || wanted+=(mmkd-bench)
missing=0
for name in "${wanted[@]}"; do [ -x "$MMKD_BIN/$name" ] || missing=1; done
if [ "$missing" = 1 ]; then
  [ "$MMKD_BIN" = "$here/build/bin" ] || { echo "gpu_check.sh: $MMKD_BIN lacks mmkd-ddp or mmkd-pack" >&2; exit 1; }
  [ -d "$here/.venv" ] || { echo "gpu_check.sh: run launch/setup.sh first" >&2; exit 1; }
  (cd "$here" && cmake --preset release >/dev/null &&
    cmake --build --preset release --target "${wanted[@]}" mmkd_cuda)
fi
python=${MMKD_PYTHON:-$here/.venv/bin/python}
[ -x "$python" ] || python=python3

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
failures=0
started=$SECONDS # a build does not count
budget=${MMKD_GPU_BUDGET:-480}
left() { echo $((budget - (SECONDS - started))); }
pass() { echo "PASS  $1"; }
fail() { echo "FAIL  $1"; failures=$((failures + 1)); }

# train NAME RANKS DEVICE [--set …]: two epochs of teacher and student; what it left is in $folder/NAME.
train() {
  local name=$1 ranks=$2 device=$3 limit
  shift 3
  limit=$(left)
  if [ "$limit" -lt 15 ]; then
    echo "SKIP  $name: the budget of $budget s is spent"
    return 1
  fi
  if (cd "$here" && timeout -k 10 $((limit < 150 ? limit : 150)) launch/run.sh -n "$ranks" config/demo.yaml --set "device=$device" --set "data.root=$folder/data" \
    --set "logging.log_dir=$folder/$name" --set "artifacts.root=$folder/artifacts-$name" \
    --set training.teacher_epochs=2 --set training.student_epochs=2 "$@") >"$folder/$name.out" 2>&1; then
    pass "$name: ran on $ranks rank(s), $device"
  else
    fail "$name: exit code $?; the end of its output:"
    tail -n 20 "$folder/$name.out"
    return 1
  fi
}

# compare NAME OTHER TOLERANCE: every training loss of every epoch of teacher and student, relative to the first's.
compare() {
  if "$python" - "$folder/$1" "$folder/$2" "$3" <<'PY'
import csv, math, sys

first, second, tolerance = sys.argv[1], sys.argv[2], float(sys.argv[3])
worst, compared = 0.0, 0
for name in ("teacher_metrics.csv", "metrics.csv"):
    rows = [list(csv.DictReader(open(f"{folder}/{name}", encoding="utf-8"))) for folder in (first, second)]
    if len(rows[0]) != len(rows[1]):
        sys.exit(f"{name}: {len(rows[0])} and {len(rows[1])} epochs")
    for epoch, (a, b) in enumerate(zip(*rows), 1):
        for key in a:
            if key != "train_loss" and not key.startswith("loss_"):
                continue
            x, y = float(a[key]), float(b[key])
            if not (math.isfinite(x) and math.isfinite(y)):
                sys.exit(f"{name}, epoch {epoch}, {key}: {x} and {y}")
            difference = abs(x - y) / max(abs(x), 1e-3)
            compared += 1
            if difference > worst:
                worst, where = difference, f"{name}, epoch {epoch}, {key}: {x:.6f} and {y:.6f}"
if compared == 0:
    sys.exit("no losses were found")
print(f"      {compared} losses, largest relative difference {worst:.1e}" + (f" ({where})" if worst else ""))
sys.exit(0 if worst <= tolerance else f"more than {tolerance}")
PY
  then pass "$1 and $2: losses agree within $3"; else fail "$1 and $2: losses differ"; fi
}

# ran_on NAME DEVICE: what results.json says.
ran_on() {
  if grep -q "\"device\": \"$2" "$folder/$1/results.json"; then pass "$1: results.json names $2"; else
    fail "$1: results.json does not name $2"
  fi
}

parity() {
  timeout 60 "$MMKD_BIN/mmkd-pack" demo-data "$folder/data" >/dev/null
  train cpu_fp32 1 cpu || true
  if train cuda_fp32 1 cuda; then
    ran_on cuda_fp32 cuda
    # The same dropout masks and order of samples; sums are rounded in another order, which training amplifies.
    compare cpu_fp32 cuda_fp32 0.01
  fi
  # Steps recorded and replayed, with texts padded instead of packed: the same numbers but for rounding.
  if train cuda_graphs 1 cuda --set training.cuda_graphs=true; then
    compare cuda_fp32 cuda_graphs 0.01
    if grep -q "steps are not recorded" "$folder/cuda_graphs.out"; then
      fail "cuda_graphs: $(grep -m 1 "steps are not recorded" "$folder/cuda_graphs.out")"
    else pass "cuda_graphs: steps were recorded"; fi
  fi
  if train cuda_live 1 cuda --set training.teacher=live; then compare cuda_fp32 cuda_live 0.01; fi
  if train cuda_bf16 1 cuda --set training.precision=bf16; then
    compare cuda_fp32 cuda_bf16 0.1
    if grep -q "attention over packed texts is not used" "$folder/cuda_fp32.out" "$folder/cuda_bf16.out"; then
      fail "packed texts: $(grep -hm 1 "attention over packed texts is not used" "$folder/cuda_fp32.out" "$folder/cuda_bf16.out")"
    else pass "packed texts: PyTorch's attention kernels give what they should"; fi
  fi
  if [ "$gpus" -ge 2 ]; then
    if train cuda_two_ranks 2 cuda; then compare cuda_fp32 cuda_two_ranks 0.01; fi
  else
    echo "SKIP  two ranks over NCCL: one GPU only"
  fi
}

# Half a minute is kept for what speed needs to end.
speed() {
  local limit programs=(mmkd eager compile)
  limit=$(left)
  if [ "$limit" -lt 90 ]; then
    echo "SKIP  speed: $limit of $budget s are left"
    return
  fi
  if ! "$python" -c 'import torch, transformers' 2>/dev/null; then
    echo "SKIP  speed: $python has no torch or no transformers (MMKD_PYTHON)"
    return
  fi
  if [ ! -x "$MMKD_BIN/mmkd-bench" ]; then
    echo "SKIP  speed of mmkd: $MMKD_BIN has no mmkd-bench"
    programs=(eager compile)
  fi
  MMKD_BENCH_WORK=$folder/bench timeout -k 10 $((limit - 10)) "$python" "$here/bench/gpu_speed.py" --out "$out" \
    --seconds $((limit - 60)) --programs "${programs[@]}" || fail "speed: exit code $?"
  [ "${#programs[@]}" -lt 3 ] || graphs
}

# What recording steps is worth where the host's part of a step counts: the student's step of 16 samples.
graphs() {
  local recorded rate
  for recorded in false true; do
    if [ "$(left)" -lt 20 ]; then
      echo "SKIP  steps of 16 samples, training.cuda_graphs=$recorded: the budget of $budget s is spent"
      continue
    fi
    rate=$(MMKD_BENCH_WORK=$folder/bench timeout -k 10 "$(left)" "$python" "$here/bench/mmkd.py" --what synth --scale large \
      --device cuda --dtype bf16 --batch 16 --seq 128 --repeat 3 --min-seconds 1 --set "training.cuda_graphs=$recorded" |
      "$python" -c 'import json, sys; print(json.loads(sys.stdin.readlines()[-1])["median"])') ||
      { fail "steps of 16 samples, training.cuda_graphs=$recorded"; continue; }
    echo "      steps of 16 samples, training.cuda_graphs=$recorded: $rate samples/s"
  done
}

[ "$only" = speed ] || parity
[ "$only" = parity ] || speed

echo "$failures failure(s)"
[ "$failures" -eq 0 ]
