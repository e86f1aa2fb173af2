#!/usr/bin/env bash
# Runs the tests of a build folder: GoogleTest through ctest, then the Python ones, which drive the program as a client.
#   scripts/test.sh build/release            QUICK=1 in a sanitizer's folder: only the quick C++ tests
# Ends with one line of totals; the exit code is 0 only if everything passed.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
build=$1
results=$PWD/$build/test-results
quick=${QUICK:-}
failed=0
rm -rf "$results"
mkdir -p "$results"

select=(-LE sanitize_quick)
[ -n "$quick" ] && select=(-L sanitize_quick)
# A report is a failure: each sanitizer ends with a code of its own. TSan needs fixed addresses on some kernels.
export ASAN_OPTIONS=detect_stack_use_after_return=1:strict_string_checks=1${ASAN_OPTIONS:+:$ASAN_OPTIONS}
export UBSAN_OPTIONS=print_stacktrace=1${UBSAN_OPTIONS:+:$UBSAN_OPTIONS}
export TSAN_OPTIONS=second_deadlock_stack=1:suppressions=$PWD/scripts/tsan_suppressions.txt${TSAN_OPTIONS:+:$TSAN_OPTIONS}
# UCX's memory hooks crash when a thread ends that ThreadSanitizer has already forgotten.
[[ $build == *tsan* ]] && export UCX_MEM_EVENTS=no UCX_MEM_MMAP_HOOK_MODE=none
run=()
setarch -R true 2>/dev/null && run=(setarch -R)

GTEST_OUTPUT="json:$results/" "${run[@]}" ctest --test-dir "$build" -j "${JOBS:-$(nproc)}" "${select[@]}" \
  --output-on-failure --no-tests=error --timeout 1500 || failed=1

python_tests=$(find tests/client tests/tools -name 'test_*.py' 2>/dev/null)
if [ -n "$python_tests" ] && [ -z "$quick" ]; then
  # shellcheck disable=SC2086
  HYLAS_BIN="$PWD/$build/hylas" "${run[@]}" timeout 1500 .deps/venv/bin/python -m pytest -p no:cacheprovider \
    --rootdir tests --junitxml "$results/python.xml" $python_tests || failed=1
fi
.deps/venv/bin/python scripts/test_totals.py "$results" || failed=1
exit $failed
