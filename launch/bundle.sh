#!/usr/bin/env bash
# Makes a folder that runs on machines without root, internet and Debian packages, wherever it is put: programs, configs,
# their libraries, and Open MPI. Only torch is taken from there. docs/slurm.md says how to use it.
#   launch/bundle.sh [--out DIR] [--archive] [--system-mpi]
#   --out DIR                 the folder (default: build-bundle/mmkd-VERSION-linux-ARCH); an older bundle there is replaced
#   --archive                 also DIR.tar.zst, or DIR.tar.gz where there is no zstd
#   --system-mpi              without Open MPI: the site's is used, which must be a version 4
#   MMKD_OPENCV_SOURCE=DIR    unpacked source tree of OpenCV 4 (default: Debian's of the installed version, by apt-get)
#   MMKD_BUNDLE_BUILD=DIR     build folder of the programs (default: build-bundle/mmkd)
#   MMKD_TORCH=DIR, MMKD_JOBS=N    as for launch/setup.sh, which has to run first
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
checkout=$PWD

out="" archive=0 system_mpi=0
while [ $# -gt 0 ]; do
  case "$1" in
    --out) out=${2:?--out needs a folder}; shift 2 ;;
    --archive) archive=1; shift ;;
    --system-mpi) system_mpi=1; shift ;;
    -h | --help) sed -n '2,11s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "bundle.sh: unknown argument '$1' (see --help)" >&2; exit 2 ;;
  esac
done
say() { printf '\033[1m== %s\033[0m\n' "$*" >&2; }
fail() { echo "bundle.sh: $*" >&2; exit 1; }
limit=60000000 # bytes, unpacked

# ---- what has to be there
missing=()
need() { command -v "$1" >/dev/null || missing+=("$2"); }
need cmake cmake
need ninja ninja-build
need c++ build-essential
need patchelf patchelf
need pkg-config pkg-config
need xz xz-utils
! command -v pkg-config >/dev/null || pkg-config --exists libpng || missing+=(libpng-dev)
[ $system_mpi = 1 ] || need ompi_info openmpi-bin
[ "${#missing[@]}" = 0 ] || fail "these are missing: apt-get install --no-install-recommends ${missing[*]}"
torch=${MMKD_TORCH:-}
if [ -z "$torch" ]; then
  for torch in .venv/lib/python3*/site-packages/torch; do break; done
fi
[ -f "$torch/version.py" ] || fail "no torch in ${MMKD_TORCH:-.venv}; run launch/setup.sh first, or set MMKD_TORCH=…/site-packages/torch."
torch=$(cd "$torch" && pwd -P)
site=$(dirname "$torch")
jobs=${MMKD_JOBS:-}
if [ -z "$jobs" ]; then
  # A file that sees the torch headers needs up to 2 GB to compile.
  by_memory=$(($(awk '/MemAvailable/{print $2}' /proc/meminfo) / 2000000))
  jobs=$(nproc)
  [ "$by_memory" -ge "$jobs" ] || jobs=$((by_memory > 0 ? by_memory : 1))
fi
version=$(sed -n 's/^project(mmkd VERSION \([0-9.]*\).*/\1/p' CMakeLists.txt)
out=${out:-build-bundle/mmkd-$version-linux-$(uname -m)}
mkdir -p build-bundle "$(dirname "$out")"
out=$(cd "$(dirname "$out")" && pwd)/$(basename "$out")
if [ -e "$out" ] && [ ! -f "$out/share/mmkd/bundle.conf" ] && [ -n "$(ls -A "$out")" ]; then
  fail "$out exists and is not a bundle; give another folder, or remove it."
fi
work=$checkout/build-bundle
# A step's output goes to a file; its end is shown when the step fails.
logged() {
  local log=$1
  shift
  "$@" >"$log" 2>&1 || { tail -n 30 "$log" >&2; fail "this failed: $* (all of its output: $log)"; }
}

# ---- OpenCV, static and with nothing but PNG and JPEG: Debian's image codecs need 137 libraries, 185 MB
ocv=$work/opencv
mkdir -p "$ocv"
opencv_source() { # unpacks it into $ocv/source and sets opencv_version
  local apt file
  if [ -n "${MMKD_OPENCV_SOURCE:-}" ]; then
    [ -f "$MMKD_OPENCV_SOURCE/modules/imgcodecs/CMakeLists.txt" ] ||
      fail "MMKD_OPENCV_SOURCE=$MMKD_OPENCV_SOURCE: no modules/imgcodecs there; give an unpacked source tree of OpenCV 4."
    opencv_tree=$(cd "$MMKD_OPENCV_SOURCE" && pwd)
    return
  fi
  opencv_tree=$ocv/source
  [ ! -f "$opencv_tree/.complete" ] || [ "$(cat "$opencv_tree/.complete")" != "$opencv_version" ] || return 0
  say "downloading the source of OpenCV $opencv_version"
  rm -rf "$ocv/source" "$ocv/apt"
  mkdir -p "$ocv/source" "$ocv/apt/parts" "$ocv/apt/lists/partial" "$ocv/apt/files"
  # The machine's own package sources, with lists of their own, so that neither root nor a change of the system is needed.
  for file in /etc/apt/sources.list.d/*.sources; do
    [ ! -f "$file" ] || sed 's/^Types:.*/Types: deb-src/' "$file" >"$ocv/apt/parts/$(basename "$file")"
  done
  for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
    [ ! -f "$file" ] || sed -n 's/^deb\([[:space:]].*\)/deb-src\1/p' "$file" >"$ocv/apt/parts/$(basename "$file" .list).list"
  done
  apt=(apt-get -qq -o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts="$ocv/apt/parts"
    -o Dir::State::Lists="$ocv/apt/lists" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= -o APT::Sandbox::User="$(id -un)")
  if ! "${apt[@]}" update >&2 ||
    ! (cd "$ocv/apt/files" && "${apt[@]}" --download-only source "opencv=$opencv_version" >&2); then
    fail "the source of OpenCV $opencv_version cannot be had by apt-get. Unpack a source tree of OpenCV 4 and name it by MMKD_OPENCV_SOURCE."
  fi
  file=$(ls "$ocv"/apt/files/opencv_*.orig.tar.[gx]z) || fail "apt-get left no opencv_*.orig.tar.xz in $ocv/apt/files."
  tar -xf "$file" -C "$ocv/source" --strip-components=1 --wildcards '*/CMakeLists.txt' '*/LICENSE' '*/cmake' '*/include' \
    '*/platforms' '*/modules/core' '*/modules/imgproc' '*/modules/imgcodecs'
  echo "$opencv_version" >"$ocv/source/.complete"
  rm -rf "$ocv/apt"
}
if [ -n "${MMKD_OPENCV_SOURCE:-}" ]; then
  opencv_version=$MMKD_OPENCV_SOURCE
else
  opencv_version=$(dpkg-query -W -f '${source:Version}' libopencv-core-dev 2>/dev/null) ||
    fail "libopencv-core-dev is not installed (launch/setup.sh does that), and MMKD_OPENCV_SOURCE names no source tree of OpenCV 4."
fi
# shellcheck disable=SC2054
opencv_options=(-DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=OFF -DBUILD_LIST=core,imgproc,imgcodecs
  -DCMAKE_POSITION_INDEPENDENT_CODE=ON -DCPU_DISPATCH= -DBUILD_ZLIB=OFF -DBUILD_PNG=OFF -DBUILD_JPEG=OFF -DBUILD_ITT=OFF
  -DBUILD_IPP_IW=OFF -DBUILD_TESTS=OFF -DBUILD_PERF_TESTS=OFF -DBUILD_EXAMPLES=OFF -DBUILD_JAVA=OFF -DBUILD_opencv_apps=OFF
  -DBUILD_opencv_python2=OFF -DBUILD_opencv_python3=OFF -DOPENCV_SKIP_PYTHON_LOADER=ON -DOPENCV_GENERATE_PKGCONFIG=OFF
  -DOPENCV_LIB_INSTALL_PATH=lib -DENABLE_PRECOMPILED_HEADERS=OFF)
stamp=$ocv/install/.made-$(echo "$opencv_version ${opencv_options[*]} $(c++ -dumpfullversion)" | sha256sum | cut -c1-16)
if [ ! -f "$stamp" ]; then
  opencv_source
  # Everything that is optional is off, but for the two formats.
  mapfile -t optional < <(grep -oE '^ *OCV_OPTION\(WITH_[A-Z0-9_]+' "$opencv_tree/CMakeLists.txt" | sed 's/.*(//' |
    grep -vxE 'WITH_(PNG|JPEG)' | sort -u | sed 's/.*/-D&=OFF/')
  say "building OpenCV with $jobs jobs"
  rm -rf "$ocv/build" "$ocv/install"
  logged "$ocv/configure.log" cmake -S "$opencv_tree" -B "$ocv/build" -G Ninja -DCMAKE_INSTALL_PREFIX="$ocv/install" \
    "${opencv_options[@]}" "${optional[@]}" -DWITH_PNG=ON -DWITH_JPEG=ON
  [ "$(grep -cE '^-- +(PNG|JPEG): +/' "$ocv/configure.log")" = 2 ] ||
    fail "OpenCV did not take the system's libpng and libjpeg (see $ocv/configure.log); apt-get install libpng-dev libjpeg-dev."
  logged "$ocv/build.log" cmake --build "$ocv/build" --parallel "$jobs" --target install
  cp "$opencv_tree/LICENSE" "$ocv/install/LICENSE"
  rm -rf "$ocv/build"
  touch "$stamp"
fi

# ---- the programs
build=${MMKD_BUNDLE_BUILD:-$work/mmkd}
say "building the programs with $jobs jobs"
logged "$work/configure.log" cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DMMKD_TESTS=OFF -DMMKD_BENCH=OFF \
  -U 'MMKD_OPENCV_*' -DMMKD_OPENCV="$ocv/install" -DMMKD_TORCH="$torch" -DMPI_CXX_SKIP_MPICXX=ON \
  -DCMAKE_EXE_LINKER_FLAGS="-Wl,--as-needed -Wl,--gc-sections"
logged "$work/build.log" cmake --build "$build" --parallel "$jobs"
rm -rf "$work/stage"
logged "$work/install.log" cmake --install "$build" --prefix "$work/stage" --strip

say "collecting"
new=$out.new
rm -rf "$new"
mkdir -p "$new"/{bin,lib/gcc,libexec,share/licenses}
cp launch/bundle/README.md "$new/"
cp -R "$work"/stage/share/. "$new/share/"
cp "$work/stage/lib/libmmkd_cuda.so" "$new/lib/"
cp "$work/stage/bin/mmkd" "$new/bin/"
cp "$work"/stage/bin/{mmkd-ddp,mmkd-torch,mmkd-pack,mmkd-run} "$new/libexec/"
install -m 755 launch/bundle/start.sh "$new/libexec/start"
for name in mmkd-ddp mmkd-torch mmkd-pack mmkd-run; do ln -s ../libexec/start "$new/bin/$name"; done

# ---- Open MPI: launcher, daemon, plug-ins, texts, settings
if [ $system_mpi = 0 ]; then
  mpi_folder() { ompi_info --path "$1" --parsable | awk -F: -v key="$1" '$2 == key { print $3; exit }'; }
  bindir=$(mpi_folder bindir) pkglibdir=$(mpi_folder pkglibdir) pkgdatadir=$(mpi_folder pkgdatadir) sysconfdir=$(mpi_folder sysconfdir)
  [ -d "$pkglibdir" ] || fail "ompi_info says that Open MPI's plug-ins are in '$pkglibdir', which is no folder."
  mkdir -p "$new"/mpi/{bin,libexec,lib/openmpi,share/openmpi,etc,pmix/share,pmix/etc}
  cp -L "$bindir/orterun" "$bindir/orted" "$new/mpi/libexec/"
  for name in mpirun mpiexec orterun orted; do ln -s ../../libexec/start "$new/mpi/bin/$name"; done
  dropped=()
  for file in "$pkglibdir"/mca_*.so; do
    plugin=$(basename "$file" .so)
    case ${plugin#mca_} in
      # OpenSHMEM; networks by drivers that UCX or the site's own Open MPI serve better, with large libraries; profiling; tests
      atomic_* | memheap_* | scoll_* | spml_* | sshmem_* | btl_openib | btl_ofi | btl_usnic | mtl_* | pml_cm | *_monitoring | \
        vprotocol_* | ras_simulator) dropped+=("${plugin#mca_}") ;;
      *) cp -L "$file" "$new/mpi/lib/openmpi/" ;;
    esac
  done
  say "left out of Open MPI: ${dropped[*]}"
  cp -R "$pkgdatadir"/help-*.txt "$new/mpi/share/openmpi/"
  [ ! -d "$pkgdatadir/amca-param-sets" ] || cp -R "$pkgdatadir/amca-param-sets" "$new/mpi/share/openmpi/"
  for file in openmpi-mca-params.conf openmpi-default-hostfile; do
    [ ! -f "$sysconfdir/$file" ] || cp "$sysconfdir/$file" "$new/mpi/etc/"
  done
  # Plug-ins of libraries: beside them, wherever those are.
  library_folder() { # of library $1 as file $2 finds it
    local path
    path=$(ldd "$2" | awk -v name="$1" '$1 == name { print $3 }')
    [ -z "$path" ] || dirname "$(readlink -f "$path")"
  }
  for file in "$new"/mpi/lib/openmpi/mca_pmix_ext*.so; do
    [ -f "$file" ] || continue
    pmix=$(library_folder libpmix.so.2 "$file")
    if [ -n "$pmix" ] && [ -d "$pmix/pmix" ]; then
      mkdir -p "$new/mpi/pmix/lib/pmix" && cp -L "$pmix"/pmix/*.so "$new/mpi/pmix/lib/pmix/"
    fi
    [ -z "$pmix" ] || [ ! -d "$pmix/../share/pmix" ] || cp -R "$pmix/../share/pmix" "$new/mpi/pmix/share/"
  done
  if [ -f "$new/mpi/lib/openmpi/mca_pml_ucx.so" ]; then
    ucx=$(library_folder libucs.so.0 "$new/mpi/lib/openmpi/mca_pml_ucx.so")
    if [ -n "$ucx" ] && [ -d "$ucx/ucx" ]; then
      mkdir -p "$new/lib/ucx"
      for file in "$ucx"/ucx/*.so.0; do cp -L "$file" "$new/lib/ucx/"; done
    fi
  fi
fi

# ---- the libraries that all of these need
is_elf() { [ "$(head -c 4 "$1" | tr -d '\0')" = $'\x7fELF' ]; }
elves() { # of folder $1
  local file
  find "$1" -type f | sort | while IFS= read -r file; do if is_elf "$file"; then echo "$file"; fi; done
}
# Whose a library is, by its name: glibc's (never taken along, as it belongs to the kernel's loader), torch's, the
# compiler's (used where the machine's is older), the site's (verbs: they must fit its drivers; UCX does without).
owner() {
  case $1 in
    ld-linux* | linux-vdso* | libc.so.* | libm.so.* | libmvec.so.* | libpthread.so.* | libdl.so.* | librt.so.* | libresolv.so.* | \
      libutil.so.* | libanl.so.*) echo glibc ;;
    libstdc++.so.6 | libgcc_s.so.1) echo gcc ;;
    libcurl.so.* | libcurl-gnutls.so.*) echo bundle ;;
    libgomp.so.1 | libtorch*.so | libc10*.so | libshm.so | libcu*.so.* | libnccl.so.* | libnv*.so.*) echo torch ;;
    libibverbs.so.1 | librdmacm.so.1 | libmlx5.so.1) echo site ;;
    libmpi.so.* | libopen-rte.so.* | libopen-pal.so.*) if [ $system_mpi = 1 ]; then echo site; else echo bundle; fi ;;
    *) echo bundle ;;
  esac
}
# HDF5 as Debian builds it can read from S3 through libcurl, which needs 25 more libraries, 13 MB. mmkd reads files only, so
# that it gets a libcurl $1 with the functions that $2, the HDF5 library, names: no connection can be made.
curl_stand_in() {
  local functions label
  functions=$(nm -D --undefined-only "$2" | sed -n 's/^ *U \(curl_[a-z_]*\).*/\1/p')
  label=$(nm -D --undefined-only "$2" | sed -n 's/^ *U curl_[a-z_]*@\(.*\)/\1/p' | sort -u)
  # shellcheck disable=SC2086
  printf 'void *%s(void) { return 0; }\n' $functions >"$work/curl.c"
  echo "$label { global: curl_*; };" >"$work/curl.map"
  logged "$work/curl.log" cc -shared -fPIC -s -o "$new/lib/$1" "$work/curl.c" -Wl,-soname,"$1" -Wl,--version-script="$work/curl.map"
}
declare -A taken=()
originals=()
mapfile -t queue < <(elves "$new")
while [ "${#queue[@]}" -gt 0 ]; do
  file=${queue[0]}
  queue=("${queue[@]:1}")
  found=""
  for name in $(patchelf --print-needed "$file"); do
    [ -z "${taken[$name]:-}" ] || continue
    who=$(owner "$name")
    case $who in glibc | torch | site) continue ;; esac
    [ -n "$found" ] || found=$(LD_LIBRARY_PATH=$torch/lib:$new/lib/ucx ldd "$file" 2>/dev/null || true)
    path=$(awk -v name="$name" '$1 == name { print $3 }' <<<"$found")
    case $name:$file in libcurl*:*/libhdf5*)
      curl_stand_in "$name" "$file"
      taken[$name]=1
      continue
      ;;
    esac
    case $path in /*) ;; *) fail "$file needs $name, which the dynamic linker does not find here." ;; esac
    case $path in "$new"/*) continue ;; esac
    target=$new/lib/$name
    [ "$who" != gcc ] || target=$new/lib/gcc/$name
    cp -L "$path" "$target"
    chmod u+w "$target"
    taken[$name]=1
    originals+=("$path")
    # Looked at where it was: its RUNPATH may be relative to that.
    queue+=("$path")
  done
done
built_libstdcxx=$(readlink -f "$(c++ -print-file-name=libstdc++.so.6)")
built_libstdcxx=${built_libstdcxx##*.so.6.0.}

# RPATH, not RUNPATH: it holds for libraries of libraries, too, and wins over an LD_LIBRARY_PATH of the site's modules.
while IFS= read -r file; do
  case ${file#"$new"/} in
    bin/* | libexec/mmkd-pack) rpath="\$ORIGIN/../lib:\$ORIGIN/../lib/gcc" ;;
    libexec/*) rpath="\$ORIGIN/../lib" ;;
    lib/ucx/*) rpath="\$ORIGIN:\$ORIGIN/.." ;;
    lib/*) rpath="\$ORIGIN" ;;
    mpi/libexec/*) rpath="\$ORIGIN/../../lib" ;;
    mpi/lib/openmpi/*) rpath="\$ORIGIN/../../../lib" ;;
    mpi/pmix/lib/pmix/*) rpath="\$ORIGIN/../../../../lib" ;;
    *) fail "no RPATH is known for $file" ;;
  esac
  chmod u+w "$file"
  patchelf --force-rpath --set-rpath "$rpath" "$file"
done < <(elves "$new")

# ---- what it was made with, and under which licences
built_glibc=$(elves "$new" | while IFS= read -r file; do objdump -T "$file" | grep -oE 'GLIBC_[0-9.]+' || true; done |
  sed 's/GLIBC_//' | sort -uV | tail -n 1)
cat >"$new/share/mmkd/bundle.conf" <<CONF
# Read by libexec/start. The glibc that the programs need at least, and the libstdc++.so.6.0.N that they were built with.
built_version=$version
built_torch=$(sed -n "s/^__version__ = '\([0-9.]*\).*/\1/p" "$torch/version.py")
built_glibc=$built_glibc
built_libstdcxx=$built_libstdcxx
CONF
cp "$ocv/install/LICENSE" "$new/share/licenses/opencv"
if command -v dpkg-query >/dev/null; then
  for path in "${originals[@]}"; do
    package=$(dpkg-query -S "$path" "$(readlink -f "$path")" 2>/dev/null | sed -n '1s/:.*//p' || true)
    if [ -n "$package" ] && [ -f "/usr/share/doc/$package/copyright" ]; then
      cp -L "/usr/share/doc/$package/copyright" "$new/share/licenses/$package"
    fi
  done
fi

# ---- the checks, on a copy in another place
say "checking"
moved=$(mktemp -d)
trap 'rm -rf "$moved"' EXIT
cp -a "$new" "$moved/elsewhere"
torch_folders=$torch/lib
for folder in "$site"/nvidia/*/lib; do [ ! -d "$folder" ] || torch_folders=$torch_folders:$folder; done
problems=0
while IFS= read -r file; do
  # mmkd, mmkd-pack and Open MPI have to do without torch's folders.
  folders=""
  case ${file#"$moved"/elsewhere/} in libexec/mmkd-ddp | libexec/mmkd-torch | lib/libmmkd_cuda.so) folders=$torch_folders ;; esac
  found=$(LD_LIBRARY_PATH=$folders ldd "$file" 2>/dev/null || true)
  # What it names itself; what those need is looked at with them, or comes from the site with what the site has.
  for name in $(patchelf --print-needed "$file"); do
    path=$(awk -v name="$name" '$1 == name { print $3 }' <<<"$found")
    who=$(owner "$name")
    case $who:$path in
      glibc:* | gcc:* | site:* | torch:"$site"/* | bundle:"$moved"/elsewhere/*) ;;
      *)
        echo "bundle.sh: ${file#"$moved"/elsewhere/}: $name is found in '$path'" >&2
        problems=1
        ;;
    esac
  done
  if patchelf --print-rpath "$file" | tr : '\n' | grep -qv "^\$ORIGIN"; then
    echo "bundle.sh: ${file#"$moved"/elsewhere/} has the RPATH $(patchelf --print-rpath "$file")" >&2
    problems=1
  fi
done < <(elves "$moved/elsewhere")
[ $problems = 0 ] || fail "the bundle would use libraries of this machine (see above); launch/bundle.sh has to take them along, or to know whose they are."
try() {
  local log
  log=$(cd / && env -i PATH=/usr/bin:/bin HOME="$moved" LANG=C.UTF-8 "$@" 2>&1) || fail "in a moved copy this fails: $*"$'\n'"$log"
}
try "$moved/elsewhere/bin/mmkd" --version
try "$moved/elsewhere/bin/mmkd" sweep --help
try "$moved/elsewhere/bin/mmkd-pack" --version
try "$moved/elsewhere/bin/mmkd-run" --help
try MMKD_TORCH="$torch" "$moved/elsewhere/bin/mmkd-ddp" --version
try MMKD_TORCH="$torch" "$moved/elsewhere/bin/mmkd-torch" eval --help
if [ $system_mpi = 0 ]; then
  as_root=()
  [ "$(id -u)" != 0 ] || as_root=(--allow-run-as-root)
  try MMKD_TORCH="$torch" "$moved/elsewhere/mpi/bin/mpirun" "${as_root[@]}" --oversubscribe -n 2 "$moved/elsewhere/bin/mmkd-ddp" --version
fi

size() { du -sb "$@" 2>/dev/null | awk '{ s += $1 } END { printf "%d", s }'; }
total=$(size "$new")
part() { printf '%9.1f MB  %s\n' "$(awk -v b="$2" 'BEGIN { print b / 1e6 }')" "$1"; }
programs=$(size "$new/bin" "$new/libexec" "$new/lib/libmmkd_cuda.so")
mpi=$([ ! -d "$new/mpi" ] || size "$new/mpi")
share=$(size "$new/share")
part "programs" "$programs"
part "lib: shared libraries" "$(($(size "$new/lib") - $(size "$new/lib/libmmkd_cuda.so")))"
part "mpi: Open MPI's programs, plug-ins, texts" "${mpi:-0}"
part "share: configs, man pages, licences" "$share"
part "together" "$total"
[ "$total" -le $limit ] || fail "more than $((limit / 1000000)) MB: look for what is new in $(du -ab "$new" | sort -rn | awk 'NR > 1 && NR < 12 { print $2 }' | tr '\n' ' ')"

rm -rf "$out"
mv "$new" "$out"
say "ready: $out (needs glibc $built_glibc and torch $(sed -n 's/^built_torch=//p' "$out/share/mmkd/bundle.conf"))"
if [ $archive = 1 ]; then
  packed=$out.tar.gz pack=(gzip -9)
  if command -v zstd >/dev/null; then packed=$out.tar.zst pack=(zstd -q -19 -T0); fi
  tar --sort=name --owner=0 --group=0 --numeric-owner -C "$(dirname "$out")" -cf - "$(basename "$out")" | "${pack[@]}" >"$packed.new"
  mv "$packed.new" "$packed"
  say "ready: $packed ($(part "" "$(size "$packed")" | sed 's/^ *//; s/ *$//'))"
fi
