#!/usr/bin/env bash
# Starts the program whose name it is called by (bin/* and mpi/bin/* are links to it) with the libraries of the folder
# that it lies in, wherever that is, and with the torch of MMKD_TORCH, or else of python3.
set -euo pipefail
root=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd)
name=${0##*/}
fail() { echo "$name: $*" >&2; exit 1; }
# What the bundle was made with.
built_torch="" built_glibc="" built_libstdcxx=0
# shellcheck source=/dev/null
source "$root/share/mmkd/bundle.conf"

here_glibc=$(getconf GNU_LIBC_VERSION 2>/dev/null || true)
here_glibc=${here_glibc##* }
if [ -n "$here_glibc" ] && [ "$(printf '%s\n' "$here_glibc" "$built_glibc" | sort -V | tail -n 1)" != "$here_glibc" ]; then
  fail "this machine's glibc $here_glibc is older than $built_glibc, which these programs need. Make the bundle" \
    "(launch/bundle.sh) on a machine, or in a container, with a system no newer than this one."
fi

# ---- Open MPI finds its plug-ins, its texts and itself by these, not where Debian put them. (A bundle made with
# --system-mpi has no mpi/.)
if [ -d "$root/mpi" ]; then
  export OPAL_PREFIX=$root/mpi OPAL_EXEC_PREFIX=$root/mpi
  export OPAL_BINDIR=$root/mpi/bin OPAL_SBINDIR=$root/mpi/bin OPAL_LIBDIR=$root/mpi/lib OPAL_PKGLIBDIR=$root/mpi/lib/openmpi
  export OPAL_DATADIR=$root/mpi/share OPAL_DATAROOTDIR=$root/mpi/share OPAL_PKGDATADIR=$root/mpi/share/openmpi
  export OPAL_SYSCONFDIR=$root/mpi/etc
  export PMIX_PREFIX=$root/mpi/pmix PMIX_INSTALL_PREFIX=$root/mpi/pmix PMIX_LIBDIR=$root/mpi/pmix/lib
  export PMIX_PKGLIBDIR=$root/mpi/pmix/lib/pmix PMIX_DATADIR=$root/mpi/pmix/share PMIX_PKGDATADIR=$root/mpi/pmix/share/pmix
  export HWLOC_PLUGINS_PATH=$root/lib/hwloc
  export PMIX_SYSCONFDIR=$root/mpi/pmix/etc PMIX_MCA_mca_base_component_path=$root/mpi/pmix/lib/pmix
fi

# ---- LibTorch, for what needs it: sets MMKD_TORCH, also for the programs that this one starts
find_torch() {
  local version
  if [ -z "${MMKD_TORCH:-}" ]; then
    MMKD_TORCH=$(python3 -c 'import importlib.util
spec = importlib.util.find_spec("torch")
print(spec.submodule_search_locations[0] if spec else "")' 2>/dev/null || true)
    [ -n "$MMKD_TORCH" ] || fail "no torch: MMKD_TORCH is not set, and python3 does not know the package. Activate the" \
      "environment that has it, or install it (pip install torch==$built_torch; pip download on a machine with internet)," \
      "and set MMKD_TORCH=…/site-packages/torch."
  fi
  [ -f "$MMKD_TORCH/lib/libtorch_cpu.so" ] ||
    fail "MMKD_TORCH=$MMKD_TORCH: no lib/libtorch_cpu.so there; give the folder of an installed torch" \
      "package (…/site-packages/torch)."
  version=$(sed -n "s/^__version__ = '\([0-9.]*\).*/\1/p" "$MMKD_TORCH/version.py" || true)
  [ "${version%.*}" = "${built_torch%.*}" ] ||
    fail "torch ${version:-of unknown version} in $MMKD_TORCH, but these programs were built with $built_torch:" \
      "pip install torch==$built_torch, and set MMKD_TORCH=…/site-packages/torch."
  export MMKD_TORCH
}

# The newest libstdc++ that the dynamic linker would take here, as the last part of its version (30: libstdc++.so.6.0.30).
libstdcxx_here() {
  local newest=0 file number
  while IFS= read -r file; do
    [ -e "$file" ] || continue
    file=$(readlink -f "$file")
    number=${file##*.so.6.0.}
    case $number in *[!0-9]* | "") continue ;; esac
    [ "$number" -le "$newest" ] || newest=$number
  done < <(
    tr : '\n' <<<"${LD_LIBRARY_PATH:-}" | sed '/^$/d; s|$|/libstdc++.so.6|'
    PATH=$PATH:/sbin:/usr/sbin ldconfig -p 2>/dev/null | awk '$1 == "libstdc++.so.6" && /x86-64|AArch64/ { print $NF }'
  )
  echo "$newest"
}

# LD_LIBRARY_PATH has nothing but torch's folders, and libstdc++ where the machine's is older: programs of the machine
# that are started from here (ssh, srun, sbatch) must not get this folder's libraries. Those are found by RPATH.
with_torch() {
  local folder path=
  find_torch
  for folder in "$MMKD_TORCH/lib" "$MMKD_TORCH"/../nvidia/*/lib; do
    [ ! -d "$folder" ] || path=$path:$folder
  done
  [ "$(libstdcxx_here)" -ge "$built_libstdcxx" ] || path=$path:$root/lib/gcc
  path=${path#:}
  case :${LD_LIBRARY_PATH:-}: in
    *":$path:"*) ;;
    *) export LD_LIBRARY_PATH=$path${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} ;;
  esac
}

case $name in
  mmkd-ddp | mmkd-torch)
    with_torch
    exec "$root/libexec/$name" "$@"
    ;;
  mmkd-run)
    case " $* " in *" -h "* | *" --help "*) ;; *) find_torch ;; esac
    [ ! -d "$root/mpi" ] || PATH=$root/mpi/bin:$PATH
    export PATH MMKD_BIN=$root/bin
    exec "$BASH" "$root/libexec/mmkd-run" "$@"
    ;;
  mpirun | mpiexec | orterun)
    # The prefix makes it start this folder's orted on other nodes, which then sets all of the above there.
    set -- --prefix "$root/mpi" "$@"
    [ -z "${MMKD_TORCH:-}" ] || set -- -x MMKD_TORCH "$@"
    exec -a "$name" "$root/mpi/libexec/orterun" "$@"
    ;;
  orted) exec -a orted "$root/mpi/libexec/orted" "$@" ;;
  mmkd-pack) exec "$root/libexec/$name" "$@" ;;
  *) fail "no program of this name; start those in $root/bin" ;;
esac
