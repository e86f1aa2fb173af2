#!/usr/bin/env bash
# Runs every fuzzer of a build folder for FUZZ_SECONDS (30), JOBS at a time. Seeds are fuzz/corpus/<name>; what the
# fuzzer finds worth keeping goes to <build>/corpus/<name>, and inputs that crash it to <build>/crashes.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
build=$1
export build

fuzz_one() {
  program=$1
  name=$(basename "$program" _fuzz)
  mkdir -p "$build/corpus/$name" "$build/crashes" "fuzz/corpus/$name"
  log=$build/$name.log
  if "$program" "$build/corpus/$name" "fuzz/corpus/$name" -max_total_time="${FUZZ_SECONDS:-30}" -timeout=10 \
    -rss_limit_mb=4096 -print_final_stats=1 -artifact_prefix="$build/crashes/$name-" >"$log" 2>&1; then
    echo "fuzz $name: ok, $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") inputs"
  else
    tail -n 60 "$log"
    echo "fuzz $name: FAILED; the input is in $build/crashes, the whole output in $log"
    return 1
  fi
}
export -f fuzz_one

programs=$(find "$build" -maxdepth 1 -name '*_fuzz' -type f -perm -u+x | sort)
[ -n "$programs" ] || { echo "fuzz: no fuzzers in $build" >&2; exit 1; }
xargs -P "${JOBS:-$(nproc)}" -I {} bash -c 'fuzz_one {}' <<<"$programs"
