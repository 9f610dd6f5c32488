#!/usr/bin/env bash
# Sets everything up and checks everything: formatting and clang-tidy, all tests, and the torch-free ones once more under
# AddressSanitizer and UndefinedBehaviorSanitizer. With arguments, which go to ctest, the tests alone:
#   launch/test.sh -L unit        launch/test.sh -R tokenizer
# Tests on real data run where MMKD_MEDPIX_DIR names the data set; elsewhere they are listed as skipped.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
launch/setup.sh --tests
# Ranks of an MPI test occupy cores by themselves (PROCESSORS), so ctest never runs more ranks than there are cores.
tests=(ctest --test-dir build --output-on-failure --no-tests=error --parallel "$(nproc)")
[ $# -eq 0 ] || exec "${tests[@]}" "$@"
launch/lint.sh
"${tests[@]}"
exec launch/sanitize.sh
