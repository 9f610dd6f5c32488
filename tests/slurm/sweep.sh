#!/usr/bin/env bash
# sweep.sh BIN DEMO_DATA VOCABULARY: sweeps on a real SLURM of one node.
#  - Six runs with shared teachers complete, each stage built once; a second submission does nothing.
#  - A job that is warned (as before its time limit) and one that loses a rank go back into the queue and end well.
#  - What is cancelled stops, and goes on when it is submitted again.
set -euo pipefail
bin=$1 data=$2 vocabulary=$3
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
for program in slurmctld slurmd munged sbatch; do
  command -v $program >/dev/null || { echo "skipped: $program is not installed (launch/setup.sh --tests)"; exit 0; }
done
[ "$(id -u)" = 0 ] || { echo "skipped: the daemons of SLURM need root"; exit 0; }
work=$(mktemp -d)
cleanup() {
  scancel --me 2>/dev/null || true
  sleep 1
  "$here/cluster.sh" stop "$work/cluster"
  rm -rf "$work"
}
trap cleanup EXIT
"$here/cluster.sh" start "$work/cluster"
export SLURM_CONF=$work/cluster/slurm.conf
cd "$work"

fail() {
  echo "FAILED: $1"
  squeue -r || true
  tail -n 30 logs/*/.sweep/slurm/*.log logs/*/.sweep/nodes/*.log "$work/cluster/log/slurmctld.log" 2>/dev/null
  exit 1
}
# wait_for SECONDS WHAT COMMAND…: until the command succeeds
wait_for() {
  local deadline=$((SECONDS + $1)) what=$2
  shift 2
  until "$@"; do
    [ $SECONDS -lt $deadline ] || fail "in time: $what"
    sleep 0.3
  done
}

cat >base.yaml <<EOF
data:
  {type: table, root: $data, batch_size: 32, num_workers: 1, max_length: 32, tasks: [shape, site],
   table: {train: dev.jsonl, dev: test.jsonl}}
teacher: &model
  vision: {family: vit, image_size: 64, patch_size: 16, hidden_size: 32, num_hidden_layers: 1, num_attention_heads: 2}
  text: {family: bert, hidden_size: 32, num_hidden_layers: 1, num_attention_heads: 2}
  tokenizer: $vocabulary
  fusion_dim: 32
  fusion_heads: 2
student: *model
training: {teacher_epochs: 1, student_epochs: 1}
evaluation: {latency: false}
EOF
cat >profile.yaml <<'EOF'
time: "00:10:00"
environment: {OMP_NUM_THREADS: 1}
stages: {teacher: {ranks_per_node: 2}}
EOF
sweep() { "$bin/mmkd" sweep "$@"; }
all_done() { [ "$(sweep status "$1" | head -1 | sed 's/.*stages: //')" = "$2 done" ]; }

echo "--- six runs, two teachers"
cat >six.yaml <<'EOF'
base: base.yaml
grid: {fusion.type: [simple, film], loss.type: [vanilla, crd, rkd]}
EOF
sweep submit six.yaml --profile profile.yaml | tee submitted
[ "$(grep -c '^' submitted)" = 7 ] || fail "seven jobs: the data, and arrays of teachers, caches, students, ends"
wait_for 120 "six runs" all_done six.yaml 17
[ "$(ls artifacts/teacher | wc -l)" = 2 ] || fail "two teachers"
[ "$(ls logs/six/*/results.json | wc -l)" = 6 ] || fail "six results"
if grep -L '"attempts": 1,' logs/six/.sweep/nodes/*[0-9a-z].json | grep -v task.json | grep .; then fail "one attempt each"; fi
[ "$(sweep submit six.yaml --profile profile.yaml)" = "nothing to submit: every stage is there, or in SLURM's hands" ] ||
  fail "a second submission does nothing"

# A sweep of one long training: enough time to interfere.
long() {
  cat >"$1.yaml" <<EOF
base: base.yaml
set: {training.teacher_epochs: 60, training.seed: $2}
list: [{fusion.type: film}]
EOF
}
training() { pgrep -f "mmkd-ddp.*nodes/teacher-.*" >/dev/null && grep -q 'teacher: epoch [2-9]' logs/$1/.sweep/nodes/teacher-*.log; }
attempts() { sed -n 's/.*"attempts": \([0-9]*\).*/\1/p' logs/$1/.sweep/nodes/teacher-*[0-9a-f].json; }
# SLURM lets a job that was put back into the queue wait for two minutes, until the old credential has expired; a few
# seconds are enough here.
attempted() {
  local job
  job=$(squeue --me -h -o '%A %r' | awk '$2 == "BeginTime" { print $1 }')
  if [ -n "$job" ]; then
    sleep 6
    scontrol update JobId="$job" StartTime=now
  fi
  [ "$(attempts "$1")" = "$2" ]
}

echo "--- a warning before the time limit, and a rank that dies"
long disturbed 5
sweep submit disturbed.yaml --profile profile.yaml
wait_for 60 "the teacher trains" training disturbed
job=$(squeue --me -h -t RUNNING -o %A)
scancel --signal=USR2 --batch "$job" # what --signal=B:USR2@180 does
wait_for 60 "the second attempt" attempted disturbed 2
grep -q 'exit code 75' logs/disturbed/.sweep/slurm/*.log || fail "the first attempt wrote a checkpoint and ended with 75"
wait_for 60 "the teacher trains again" training disturbed
grep -q 'goes on from\|resumed\|checkpoint' logs/disturbed/.sweep/nodes/teacher-*.log || fail "it went on from its checkpoint"
pkill -KILL -n -f 'mmkd-ddp.*nodes/teacher-' || fail "there is a rank to kill"
wait_for 60 "the third attempt" attempted disturbed 3
wait_for 120 "the disturbed sweep" all_done disturbed.yaml 5

echo "--- cancelled, and submitted again"
long cancelled 6
sweep submit cancelled.yaml --profile profile.yaml
wait_for 60 "the teacher trains" training cancelled
sweep cancel cancelled.yaml | tee answer
grep -q '4 jobs were cancelled' answer || fail "four jobs were cancelled"
nothing_queued() { [ -z "$(squeue --me -h)" ]; }
wait_for 30 "an empty queue" nothing_queued
sweep status cancelled.yaml | tee answer
grep -q '1 done' answer || fail "only the data is there"
sweep submit cancelled.yaml --profile profile.yaml
wait_for 120 "the cancelled sweep" all_done cancelled.yaml 5

echo "--- srun instead of mpirun"
if srun --mpi=list 2>&1 | grep -q pmix_v4; then
  cat >srun.yaml <<'EOF'
base: base.yaml
set: {training.seed: 8}
list: [{fusion.type: film}]
EOF
  { cat profile.yaml; echo "launcher: srun"; } | sed 's/OMP_NUM_THREADS: 1/OMP_NUM_THREADS: 1, MMKD_SRUN_MPI: pmix_v4/' >srun_profile.yaml
  sweep submit srun.yaml --profile srun_profile.yaml
  wait_for 90 "the sweep under srun" all_done srun.yaml 5
fi
echo "all is well"
