#!/usr/bin/env bash
# bundle.sh CHECKOUT TORCH FOLDER: makes a bundle, unpacks its archive at another place, and runs the demo there, with the
# machine's own Open MPI, OpenCV and HDF5 out of sight where this may hide them (as root). 77: skipped.
set -euo pipefail
checkout=$1 torch=$2 work=$3
if [ "${MMKD_TEST_BUNDLE:-0}" != 1 ]; then
  echo "skipped: building OpenCV and all programs once more takes many minutes; MMKD_TEST_BUNDLE=1 runs this test"
  exit 77
fi
fail() { echo "install.bundle: $*" >&2; exit 1; }
rm -rf "$work"
mkdir -p "$work/elsewhere" "$work/run"
MMKD_TORCH=$torch "$checkout/launch/bundle.sh" --out "$work/made" --archive
tar -xf "$work"/made.tar.* -C "$work/elsewhere"
rm -rf "$work/made"
bundle=$work/elsewhere/made

# ---- errors say how to mend them
expect() { # expect TEXT COMMAND...: it fails, and says so
  local text=$1 said
  shift
  if said=$("$@" 2>&1); then fail "this should fail: $*"; fi
  grep -qF -- "$text" <<<"$said" || fail "$* does not say '$text': $said"
}
bare=(env -u MMKD_TORCH -u VIRTUAL_ENV PATH="$work/no-python:/usr/bin:/bin")
mkdir "$work/no-python" "$work/old" "$work/old/lib"
printf '#!/bin/sh\nexit 1\n' >"$work/no-python/python3"
chmod +x "$work/no-python/python3"
touch "$work/old/lib/libtorch_cpu.so"
echo "__version__ = '2.9.1+cu130'" >"$work/old/version.py"
expect "no torch: MMKD_TORCH is not set" "${bare[@]}" "$bundle/bin/mmkd-ddp" --version
expect "no torch: MMKD_TORCH is not set" "${bare[@]}" "$bundle/bin/mmkd" eval logs/none
expect "no lib/libtorch_cpu.so there" env MMKD_TORCH=/nonexistent "$bundle/bin/mmkd-ddp" --version
expect "torch 2.9.1 in" env MMKD_TORCH="$work/old" "$bundle/bin/mmkd-ddp" --version
"${bare[@]}" "$bundle/bin/mmkd" --version
"${bare[@]}" "$bundle/bin/mmkd-pack" --version
# A libmpi of the site's modules must not get in between.
mkdir "$work/modules"
for name in libmpi.so.40 libhdf5_serial.so.103; do echo "not a library" >"$work/modules/$name"; done
LD_LIBRARY_PATH=$work/modules MMKD_TORCH=$torch "$bundle/bin/mmkd-ddp" --version

# ---- the demo
cat >"$work/demo.sh" <<'DEMO'
set -euo pipefail
bundle=$1 torch=$2 hide=$3
if [ "$hide" = 1 ]; then
  for folder in /usr/lib/*/openmpi /usr/lib/*/pmix2 /usr/lib/*/ucx /usr/share/openmpi /etc/openmpi; do
    [ ! -d "$folder" ] || mount -t tmpfs none "$folder"
  done
  for file in /usr/bin/orterun /usr/bin/orted /usr/lib/*/lib{mpi,open-,opencv,hdf5,pmix,uc,mca_common,yaml-cpp,spdlog,csv,zip.,event,hwloc}*.so*; do
    if [ -f "$file" ] && [ ! -L "$file" ]; then mount --bind /dev/null "$file"; fi
  done
  ! mpirun --version >/dev/null 2>&1 || { echo "the machine's mpirun still works" >&2; exit 1; }
fi
ln -s "$bundle/share/mmkd/config" config
"$bundle/bin/mmkd-pack" demo-data artifacts/demo-data
"$bundle/bin/mmkd-pack" preview config/demo.yaml --out preview.png
MMKD_TORCH=$torch "$bundle/bin/mmkd-run" -n 2 config/demo.yaml --set training.teacher_epochs=1 --set training.student_epochs=1
MMKD_TORCH=$torch "$bundle/bin/mmkd" predict logs/demo --input artifacts/demo-data/test.jsonl --out predictions.jsonl
"$bundle/bin/mmkd" report logs --out report.html
DEMO
cd "$work/run"
if unshare -m true 2>/dev/null; then
  unshare -m bash "$work/demo.sh" "$bundle" "$torch" 1
else
  echo "this may not mount: the machine's libraries stay in sight"
  bash "$work/demo.sh" "$bundle" "$torch" 0
fi
for file in logs/demo/results.json predictions.jsonl report.html preview.png; do
  [ -s "$file" ] || fail "the demo left no $file"
done
cd /
rm -rf "$work"
