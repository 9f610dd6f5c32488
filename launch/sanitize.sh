#!/usr/bin/env bash
# All torch-free tests under AddressSanitizer and UndefinedBehaviorSanitizer.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
cmake --preset asan >build-asan.log 2>&1 || { tail -30 build-asan.log >&2; exit 1; }
cmake --build build-asan --parallel "$(nproc)" | { grep -v '^\[' || true; }
# Open MPI and HDF5 keep some memory until exit: leaks are looked for in our own loops elsewhere.
ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 \
  exec ctest --test-dir build-asan --output-on-failure --no-tests=error --parallel "$(nproc)" -L unit
