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
# Containers forbid the single-copy system call, and idle ranks shall yield their core.
mpi+=(--mca btl_vader_single_copy_mechanism none --mca mpi_yield_when_idle 1)

# mpirun answers SIGTERM and SIGINT by killing the ranks a second later. So they do not reach it: it has a process group
# of its own, and gets SIGUSR2 instead, which it hands on; the ranks then write a checkpoint and exit with 75. (A longer
# time before the killing would also be the time that a job takes to end when a rank dies.) A second signal stops at
# once. Where this script is killed, so is mpirun, and the kernel ends the ranks with it.
guard=()
if setpriv --help 2>&1 | grep -q -- --pdeathsig; then guard=(setpriv --pdeathsig KILL); fi
set -m
"${guard[@]}" "${mpi[@]}" "$bin/mmkd-ddp" "$config" "$@" </dev/null &
launcher=$!
signals=0
hand_on() {
  signals=$((signals + 1))
  if [ $signals -le 2 ]; then kill -USR2 $launcher; else kill -TERM $launcher; fi
}
trap hand_on TERM INT USR2
# A signal ends `wait` before the job is over; bash still knows the status afterwards.
while kill -0 $launcher 2>/dev/null; do wait $launcher || true; done
code=0
wait $launcher || code=$?
exit $code
