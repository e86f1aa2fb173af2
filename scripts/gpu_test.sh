#!/usr/bin/env bash
# The tests that need a GPU, for a machine that has one but neither compiler nor network:
#   scripts/gpu_test.sh pack     after `make cuda`: the programs, stripped, and their libraries, into .gpu/
#   scripts/gpu_test.sh          runs them; under compute-sanitizer too with SANITIZE=1.
#                                Ends with exit code 0 only if everything passed.
# Carry the repository with .gpu/ to the other machine, which needs the driver and CUDA's libcublasLt.so.13.
set -euo pipefail
cd "$(dirname "$0")/.."
programs="test_cuda test_model test_engine hylas"

pack() {
  local program library
  rm -rf .gpu
  mkdir -p .gpu/lib
  for program in $programs; do
    strip -o ".gpu/$program" "build/cuda/$program"
    # Not those of the C library and the compiler, which every Linux has, nor cuBLASLt, which comes with CUDA.
    ldd "build/cuda/$program" | awk '$3 ~ /^\// { print $3 }' |
      grep -vE '/(libc|libm|libdl|librt|libpthread|ld-linux[^/]*|libgcc_s|libstdc\+\+|libcublasLt)\.so' |
      while read -r library; do cp -Lu "$library" .gpu/lib/; done
  done
  du -sh .gpu
}

run() {
  local folder=.gpu failed=0 golden_filter='*Goldens*'
  [ -d "$folder" ] || folder=build/cuda
  [ -x "$folder/test_cuda" ] || { echo "no test_cuda in .gpu/ or build/cuda/: \`make cuda\` first" >&2; exit 1; }
  nvidia-smi -L || { echo "no GPU here" >&2; exit 1; }
  export LD_LIBRARY_PATH=$PWD/.gpu/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
  export HYLAS_GOLDENS=${HYLAS_GOLDENS:-$PWD/tests/data/goldens}
  "$folder/test_cuda" --gtest_brief=1 || failed=1
  HYLAS_TEST_DEVICE=cuda "$folder/test_model" --gtest_brief=1 --gtest_filter="$golden_filter" || failed=1
  HYLAS_TEST_DEVICE=cuda "$folder/test_engine" --gtest_brief=1 \
    --gtest_filter='*GraphSteps*:*EngineGoldens*:EngineTest*:RankTest*' || failed=1
  if [ -n "${SANITIZE:-}" ]; then
    compute-sanitizer --tool memcheck --error-exitcode 1 "$folder/test_cuda" --gtest_brief=1 \
      --gtest_filter='-*ARowIsTheSame*' || failed=1
  fi
  [ $failed = 0 ] && echo "gpu tests: all passed"
  return $failed
}

case ${1:-run} in
  pack) pack ;;
  run) run ;;
  *) sed -n '2,6s/^# //p' "$0"; exit 2 ;;
esac
