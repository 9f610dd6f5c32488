#!/usr/bin/env bash
# Packs the data if needed and runs the whole job (teacher, cache, student, test) on N ranks.
#   launch/run.sh [-n N] [--hosts host1:slots,host2:slots] CONFIG [mmkd-ddp arguments, e.g. --set training.seed=1]
# N defaults to the number of GPUs, or 1 without any. Several hosts need the same paths and a shared artifacts folder.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bin=${MMKD_BIN:-$here/build/bin}

ranks="" hosts=""
while [ $# -gt 0 ]; do
  case "$1" in
    -n) ranks=${2:?-n needs a number}; shift 2 ;;
    --hosts) hosts=${2:?--hosts needs a list}; shift 2 ;;
    -h | --help) sed -n '2,4s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) break ;;
  esac
done
[ $# -ge 1 ] || { echo "run.sh: which CONFIG? (see --help)" >&2; exit 2; }
[ -x "$bin/mmkd-ddp" ] || { echo "run.sh: $bin/mmkd-ddp is missing; run launch/setup.sh first." >&2; exit 1; }
config=$1
shift
if [ -z "$ranks" ]; then
  ranks=$(nvidia-smi -L 2>/dev/null | grep -c '^GPU' || true)
  [ "$ranks" -gt 0 ] || ranks=1
fi

# mmkd-pack knows --set; what else is given is for mmkd-ddp alone.
pack_args=()
args=("$@")
for ((i = 0; i < ${#args[@]}; ++i)); do
  if [ "${args[$i]}" = --set ]; then pack_args+=(--set "${args[$((i + 1))]}"); fi
done
"$bin/mmkd-pack" "$config" "${pack_args[@]}"

mpi=(mpirun -n "$ranks" --bind-to none --oversubscribe)
[ "$(id -u)" != 0 ] || mpi+=(--allow-run-as-root)
[ -z "$hosts" ] || mpi+=(--host "$hosts")
# Containers forbid the single-copy system call; idle ranks shall yield their core; and ranks need time for a checkpoint
# between the launcher's SIGTERM and its SIGKILL.
mpi+=(--mca btl_vader_single_copy_mechanism none --mca mpi_yield_when_idle 1 --mca odls_base_sigkill_timeout 120)
exec "${mpi[@]}" "$bin/mmkd-ddp" "$config" "$@"
