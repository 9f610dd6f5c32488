#!/usr/bin/env bash
# launch/fuzz.sh [SECONDS [TARGET…]]: builds the libFuzzer targets (clang, with AddressSanitizer and UndefinedBehaviorSanitizer)
# and runs each for SECONDS (60) from its committed corpus, one after the other. One line a target: inputs tried, edges
# covered, what was found. What a target finds is kept in build-fuzz/findings/<target>/; the exit status is 1 then.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
seconds=${1:-60}
shift || true
cmake --preset fuzz >build-fuzz.log 2>&1 || { tail -30 build-fuzz.log >&2; exit 1; }
cmake --build build-fuzz --target fuzzers --parallel "$(nproc)" >>build-fuzz.log 2>&1 || { tail -30 build-fuzz.log >&2; exit 1; }
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
  for list in build-fuzz/fuzz/*; do targets+=("$(basename "$list")"); done
fi
export LSAN_OPTIONS=suppressions=$PWD/tests/fuzz/lsan.supp:print_suppressions=0
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
status=0
for target in "${targets[@]}"; do
  mkdir -p "$scratch/$target" "build-fuzz/findings/$target"
  log=build-fuzz/findings/$target.log
  # shellcheck disable=SC2012
  before=$(ls "build-fuzz/findings/$target" | wc -l)
  mapfile -t corpus <"build-fuzz/fuzz/$target"
  build-fuzz/bin/fuzz_"$target" "$scratch/$target" "${corpus[@]}" -max_total_time="$seconds" -rss_limit_mb=2048 \
    -timeout=20 -print_final_stats=1 -artifact_prefix="build-fuzz/findings/$target/" >"$log" 2>&1 || status=1
  # shellcheck disable=SC2012
  found=$(($(ls "build-fuzz/findings/$target" | wc -l) - before))
  inputs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  edges=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -1)
  echo "$target: ${inputs:-?} inputs, ${edges:-?} edges, $found findings"
done
exit $status
