#!/usr/bin/env bash
# From a fresh clone to a trained student in one command: set-up, a generated image + caption data set, then the whole
# job (pack, teacher, teacher cache, student, test) on two ranks. A second run reuses every stage.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
launch/setup.sh
build/bin/mmkd-pack demo-data artifacts/demo-data
exec launch/run.sh -n 2 config/demo.yaml "$@"
