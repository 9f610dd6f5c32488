#!/usr/bin/env bash
# Formatting of every source file, and clang-tidy over the torch-free ones (cached by content). clang-tidy spends nearly
# all of its time on headers, so it gets each group of files that are compiled together as one file.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
git ls-files '*.cpp' '*.h' | grep -v unicode_tables | xargs clang-format --dry-run --Werror
echo "clang-format: clean" >&2

cmake --preset asan >build-asan.log 2>&1 || { tail -30 build-asan.log >&2; exit 1; }
mkdir -p build/tidy
# A group is checked again when a file of it, a header of ours or the configuration changed.
headers=$(git ls-files '*.h' | sort | xargs cat .clang-tidy launch/lint.sh | sha256sum)
export headers

# check <unit> <command>: the unit is a file of ours, or one that includes those of its group. Findings name lines of the
# joined file and are told as lines of ours.
check() {
  local unit=$1 command=$2 sources joined key source flags
  sources=$unit
  [[ $unit != */Unity/* ]] || sources=$(sed -n 's/^#include "\(.*\.cpp\)"$/\1/p' "$unit")
  joined=build/tidy/$(sed "s#^$PWD/##; s#[^A-Za-z0-9]#_#g" <<<"$unit").cpp
  # The analyzer's default of 225,000 states for a function takes twice the time, and has found nothing more here.
  flags=(-Wno-unknown-warning-option -fno-openmp -Xclang -analyzer-config -Xclang max-nodes=50000)
  for source in $sources; do
    cat "$source"
    flags+=(-iquote "$(dirname "$source")")
  done >"$joined"
  key=$(cat "$joined" <(echo "$headers $command") | sha256sum | cut -c1-32)
  [ ! -f "build/tidy/$key" ] || return 0
  # The words of the command between the compiler and its output, which are the flags.
  read -ra words <<<"${command%% -o *}"
  if clang-tidy --quiet --config-file=.clang-tidy "$joined" -- "${words[@]:1}" "${flags[@]}" >"build/tidy/$key.log" 2>&1; then
    touch "build/tidy/$key"
  else
    { wc -l $sources | sed '$!b; / total$/d'; cat "build/tidy/$key.log"; } | awk -v joined="$joined" '
      !told && $1 ~ /^[0-9]+$/ && NF == 2 { first[++n] = end; end += $1; name[n] = $2; next }
      { told = 1
        at = index($0, joined ":")
        if (at) {
          rest = substr($0, at + length(joined) + 1)
          line = rest + 0
          for (i = n; i > 1 && line <= first[i]; --i) ;
          sub(/^[0-9]+/, line - first[i], rest)
          $0 = name[i] ":" rest
        }
        print }' >&2
    return 1
  fi
}
export -f check

# Neither tests nor what was generated.
python3 - <<'PYTHON' >build/tidy/units
import json, pathlib, re
root = str(pathlib.Path.cwd())
for entry in json.load(open("build-asan/compile_commands.json")):
    unit = entry["file"]
    of = re.findall(r'^#include "(.*\.cpp)"$', pathlib.Path(unit).read_text(), re.M) if "/Unity/" in unit else [unit]
    if all(file.startswith((root + "/src/", root + "/preprocess/")) for file in of) and "/tests/" not in unit:
        print(unit, entry["command"].split("clang++", 1)[1], sep="\0clang++", end="\0")
PYTHON
[ -s build/tidy/units ] || { echo "lint.sh: build-asan/compile_commands.json names no source of ours" >&2; exit 1; }
xargs -0 -P "$(nproc)" -n 2 bash -c 'check "$@"' check <build/tidy/units
echo "clang-tidy: clean ($(tr -dc '\0' <build/tidy/units | wc -c | awk '{print $1 / 2}') groups of files)" >&2
