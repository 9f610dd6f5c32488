#!/usr/bin/env bash
# Formatting of every source file, and clang-tidy over the torch-free ones (cached by content).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
git ls-files '*.cpp' '*.h' | grep -v unicode_tables | xargs clang-format --dry-run --Werror
echo "clang-format: clean" >&2
mapfile -t units < <(git ls-files 'src/base/*.cpp' 'src/kernels/*.cpp' 'src/config/*.cpp' 'src/stages/*.cpp' 'src/text/*.cpp' 'src/image/*.cpp' \
  'src/formats/*.cpp' 'src/data/*.cpp' 'src/metrics/*.cpp' 'src/comm/*.cpp' 'src/report/*.cpp' 'src/plan/*.cpp' 'src/sweep/*.cpp' 'src/command_line/*.cpp' 'preprocess/*.cpp' | grep -v unicode_tables)
cache=build/tidy
mkdir -p "$cache"
check() {
  local unit=$1 key
  # A unit is checked again when it, a header of ours or the configuration changed.
  key=$(cat "$unit" .clang-tidy $(git ls-files 'include/mmkd/**/*.h' 'src/**/*.h' | sort) | sha256sum | cut -c1-32)
  [ -f "build/tidy/$key" ] && return 0
  clang-tidy --quiet --extra-arg=-Wno-unknown-warning-option --extra-arg=-fno-openmp -p build "$unit" >"build/tidy/$key.log" 2>&1 && touch "build/tidy/$key" || { cat "build/tidy/$key.log" >&2; return 1; }
}
export -f check
printf '%s\n' "${units[@]}" | xargs -P "$(nproc)" -I{} bash -c 'check {}'
echo "clang-tidy: clean (${#units[@]} units)" >&2
