#!/usr/bin/env bash
# Packs the data if needed and runs the whole job (teacher, cache, student, test) on N ranks.
#   run.sh [-n N] [--hosts HOSTS] [--interface NAME] [--launcher mpirun|srun] CONFIG [mmkd-ddp arguments]
#   -n N               ranks over all hosts (default: the number of GPUs here, or 1 without any)
#   --hosts a:4,b:4    hosts with the ranks of each; they need the same paths, and a folder of artifacts that all see
#   --interface ib0    network that the ranks talk over (MPI, NCCL, and how they watch over one another)
#   --launcher srun    inside a job of SLURM, srun --mpi=pmix instead of mpirun
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# Installed, and in the build folder, the programs lie beside this script; in the checkout in build/bin.
if [ -x "$here/mmkd-ddp" ]; then bin=$here; else bin=$here/../build/bin; fi
bin=${MMKD_BIN:-$bin}

ranks="" hosts="" interface="" launcher=mpirun
while [ $# -gt 0 ]; do
  case "$1" in
    -n) ranks=${2:?-n needs a number}; shift 2 ;;
    --hosts) hosts=${2:?--hosts needs a list}; shift 2 ;;
    --interface) interface=${2:?--interface needs a name}; shift 2 ;;
    --launcher) launcher=${2:?--launcher needs mpirun or srun}; shift 2 ;;
    -h | --help) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 0 ;;
    -*) echo "run.sh: unknown option $1 (see --help)" >&2; exit 2 ;;
    *) break ;;
  esac
done
[ $# -ge 1 ] || { echo "run.sh: which CONFIG? (see --help)" >&2; exit 2; }
[ -x "$bin/mmkd-ddp" ] || { echo "run.sh: $bin/mmkd-ddp is missing; run launch/setup.sh first." >&2; exit 1; }
config=$1
shift
case $launcher in mpirun | srun) ;; *) echo "run.sh: --launcher $launcher: expected mpirun or srun" >&2; exit 2 ;; esac
if [ -z "$ranks" ] && [ -n "$hosts" ]; then
  # The ranks of all hosts; one of a host that names none.
  for host in ${hosts//,/ }; do
    slots=1
    [ "$host" = "${host%%:*}" ] || slots=${host##*:}
    ranks=$((${ranks:-0} + slots))
  done
elif [ -z "$ranks" ]; then
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

# Containers forbid the single-copy system call, and idle ranks shall yield their core.
settings=(btl_vader_single_copy_mechanism=none mpi_yield_when_idle=1)
if [ -n "$interface" ]; then
  settings+=("btl_tcp_if_include=$interface" "oob_tcp_if_include=$interface")
  export MMKD_INTERFACE=$interface NCCL_SOCKET_IFNAME=${NCCL_SOCKET_IFNAME:-$interface}
fi
if [ "$launcher" = srun ]; then
  for setting in "${settings[@]}"; do export "OMPI_MCA_$setting"; done
  mpi=(srun --mpi="${MMKD_SRUN_MPI:-pmix}" -n "$ranks" --kill-on-bad-exit=0)
else
  mpi=(mpirun -n "$ranks" --bind-to none --oversubscribe)
  [ "$(id -u)" != 0 ] || mpi+=(--allow-run-as-root)
  [ -z "$hosts" ] || mpi+=(--host "$hosts")
  for setting in "${settings[@]}"; do mpi+=(--mca "${setting%%=*}" "${setting#*=}"); done
  for name in MMKD_INTERFACE NCCL_SOCKET_IFNAME; do [ -z "${!name:-}" ] || mpi+=(-x "$name"); done
fi

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
