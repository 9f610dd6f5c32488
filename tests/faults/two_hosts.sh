#!/usr/bin/env bash
# two_hosts.sh BIN MPIRUN DEMO_DATA: ranks on two hosts, which are two network namespaces joined by one link.
#  - The result is bit for bit that of two ranks on one host.
#  - When the link is cut in the middle of the training, both sides end in time and name the rank that is out of reach;
#    after the repair the same command goes on to the same bits.
set -euo pipefail
bin=$1 mpirun=$2 data=$3
if [ "$(id -u)" != 0 ] || ! ip netns add mmkd-probe-$$ 2>/dev/null; then
  echo "skipped: network namespaces need root"
  exit 0
fi
ip netns delete mmkd-probe-$$
a=mmkd-a-$$ b=mmkd-b-$$
work=$(mktemp -d)
cleanup() {
  for side in $a $b; do
    ip netns pids $side 2>/dev/null | xargs -r kill -9 2>/dev/null || true
    ip netns delete $side 2>/dev/null || true
  done
  rm -rf "$work"
}
trap cleanup EXIT
fail() {
  echo "FAILED: $1"
  tail -n 40 "$work"/*.log
  exit 1
}

ip netns add $a
ip netns add $b
ip -n $a link add eth0 type veth peer name eth0 netns $b
ip -n $a addr add 10.77.0.1/24 dev eth0
ip -n $b addr add 10.77.0.2/24 dev eth0
for side in $a $b; do
  ip -n $side link set lo up
  ip -n $side link set eth0 up
done
# How mpirun reaches the other host, in the place of ssh: agent HOST COMMAND…
cat >"$work/agent" <<EOF
#!/bin/sh
shift
exec nsenter --net=/run/netns/$b unshare --uts sh -c 'hostname mmkd-b; eval "\$*"' sh "\$@"
EOF
chmod +x "$work/agent"

cat >"$work/job.yaml" <<EOF
data: {type: table, root: $data, batch_size: 64, num_workers: 1, max_length: 24,
  table: {train: train.jsonl, dev: dev.jsonl, test: test.jsonl}, tasks: [shape, site]}
teacher: &model
  vision: {family: vit, image_size: 32, patch_size: 8, hidden_size: 32, num_hidden_layers: 1, num_attention_heads: 2}
  text: {family: bert, hidden_size: 32, num_hidden_layers: 1, num_attention_heads: 2, max_position_embeddings: 32}
  tokenizer: $(cd "$(dirname "$0")/../.." && pwd)/config/tokenizers/bert-uncased/vocab.txt
  fusion_layers: 1
  fusion_dim: 32
  fusion_heads: 2
student: *model
training: {teacher_epochs: 6, student_epochs: 1}
watchdog: {dead_after: 2}
EOF

# job NAME HOSTS…: the job on these hosts, its output in NAME.log
job() {
  local name=$1 hosts=$2
  nsenter --net=/run/netns/$a unshare --uts sh -c 'hostname mmkd-a; exec "$@"' sh \
    $mpirun -x OMP_NUM_THREADS=1 --mca plm_rsh_agent "$work/agent" --mca btl self,vader,tcp --mca btl_tcp_if_include eth0 \
    --mca oob_tcp_if_include eth0 -H "$hosts" -n 2 "$bin/mmkd-ddp" "$work/job.yaml" \
    --set artifacts.root="$work/$name/artifacts" --set logging.log_dir="$work/$name/logs" >"$work/$name.log" 2>&1
}
# The ranks of both hosts. (What mpirun itself leaves on a host that it cannot reach is not ours.)
ranks() {
  for pid in $(ip netns pids $a; ip netns pids $b); do
    [ "$(cat /proc/$pid/comm 2>/dev/null)" != mmkd-ddp ] || echo "$pid"
  done
}
weights() { (cd "$work/$1/logs" && sha256sum student_best.safetensors teacher.safetensors); }

pack() { "$bin/mmkd-pack" "$work/job.yaml" --set artifacts.root="$work/$1/artifacts" >/dev/null; }
pack one && pack two && pack cut
job one 10.77.0.1:2 || fail "two ranks on one host"
job two 10.77.0.1:1,10.77.0.2:1 || fail "two ranks on two hosts"
[ "$(weights one)" = "$(weights two)" ] || fail "two hosts give other bits than one"
echo "two hosts: the same bits as one host"

job cut 10.77.0.1:1,10.77.0.2:1 &
running=$!
for _ in $(seq 600); do
  grep -q "teacher: epoch 2 " "$work/cut.log" 2>/dev/null && break
  sleep 0.1
done
grep -q "teacher: epoch 2 " "$work/cut.log" || fail "the training did not start"
ip -n $b link set eth0 down
start=$(date +%s%N)
while [ -n "$(ranks)" ]; do
  if [ $((($(date +%s%N) - start) / 1000000)) -ge 30000 ]; then
    ps -o pid,ppid,args -p "$(ranks | paste -sd,)"
    fail "a rank still runs 30 s after the link was cut"
  fi
  sleep 0.1
done
ended=$((($(date +%s%N) - start) / 1000000))
{ ip netns pids $a; ip netns pids $b; } | xargs -r kill -9  # mpirun and its daemon
wait $running && fail "a job that lost a rank succeeded"
grep -q "rank 1 on mmkd-b has given no sign of life" "$work/cut.log" || fail "nobody says which rank was lost"
echo "link cut: every rank of both hosts had ended after $ended ms"

ip -n $b link set eth0 up
job cut 10.77.0.1:1,10.77.0.2:1 || fail "after the repair"
grep -q "going on from the checkpoint" "$work/cut.log" || fail "the repaired run began anew"
[ "$(weights one)" = "$(weights cut)" ] || fail "after the repair the bits differ"
echo "repaired: the same bits"
