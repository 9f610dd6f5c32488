#!/usr/bin/env bash
# Makes this checkout ready: Debian packages, a virtual environment with LibTorch, a Release build in build/.
# Safe to run again at any time; when nothing changed it takes seconds.
#   launch/setup.sh [--deps-only] [--no-build] [--tests]
#   --tests           what only tests need, too: a SLURM for one machine, a browser
#   MMKD_TORCH=DIR    use the torch package installed there (…/site-packages/torch) instead of .venv's
#   MMKD_JOBS=N       parallel compile jobs (default: cores, bounded by memory)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

build=1
lists=(launch/packages.txt)
for arg in "$@"; do
  case "$arg" in
    --deps-only | --no-build) build=0 ;;
    --tests) lists+=(launch/packages-test.txt) ;;
    -h | --help) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "setup.sh: unknown argument '$arg' (see --help)" >&2; exit 2 ;;
  esac
done
say() { printf '\033[1m== %s\033[0m\n' "$*" >&2; }

# ---- Debian packages
mapfile -t packages < <(grep -hv '^#' "${lists[@]}")
missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null | grep -q '^installed$' || missing+=("$package")
done
if [ "${#missing[@]}" -gt 0 ]; then
  as_root=()
  if [ "$(id -u)" != 0 ]; then
    if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
      as_root=(sudo)
    else
      echo "These Debian packages are missing, and neither root nor password-less sudo is at hand. Install them and run this again:" >&2
      echo "  apt-get install --no-install-recommends ${missing[*]}" >&2
      exit 1
    fi
  fi
  say "installing ${#missing[@]} Debian packages"
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

# ---- LibTorch, and what the tests compare against
torch_dir=${MMKD_TORCH:-}
if [ -n "$torch_dir" ] && [ ! -f "$torch_dir/include/ATen/ATen.h" ]; then
  echo "MMKD_TORCH=$torch_dir: no include/ATen/ATen.h there; give the folder of an installed torch package (…/site-packages/torch)." >&2
  exit 1
fi
stamp=.venv/.installed-$(cat launch/requirements.txt launch/constraints.txt | sha256sum | cut -c1-16)
if [ -z "$torch_dir" ] && [ ! -f "$stamp" ]; then
  say "installing torch and the test requirements into .venv (about 5 GB)"
  [ -x .venv/bin/python ] || python3 -m venv .venv
  .venv/bin/pip install --quiet --disable-pip-version-check -c launch/constraints.txt -r launch/requirements.txt
  touch "$stamp"
fi

# ---- build
if [ "$build" = 1 ]; then
  jobs=${MMKD_JOBS:-}
  if [ -z "$jobs" ]; then
    # A file that sees the torch headers needs up to 2 GB to compile.
    by_memory=$(($(awk '/MemAvailable/{print $2}' /proc/meminfo) / 2000000))
    jobs=$(nproc)
    [ "$by_memory" -ge "$jobs" ] || jobs=$((by_memory > 0 ? by_memory : 1))
  fi
  say "building with $jobs jobs"
  cmake --preset release ${torch_dir:+-DMMKD_TORCH="$torch_dir"} >build.log 2>&1 || { tail -30 build.log >&2; exit 1; }
  cmake --build build --parallel "$jobs" | { if [ -t 1 ]; then cat; else grep -v '^\[' || true; fi; }
  say "ready: build/bin/"
fi
