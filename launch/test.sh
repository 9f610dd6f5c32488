#!/usr/bin/env bash
# Sets everything up and runs all tests. Arguments go to ctest, e.g.  launch/test.sh -L unit  or  launch/test.sh -R tokenizer
# Tests on real data run where MMKD_MEDPIX_DIR names the data set; elsewhere they are listed as skipped.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
launch/setup.sh
# Ranks of an MPI test occupy cores by themselves (PROCESSORS), so ctest never runs more ranks than there are cores.
exec ctest --test-dir build --output-on-failure --no-tests=error --parallel "$(nproc)" "$@"
