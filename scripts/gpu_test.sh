#!/usr/bin/env bash
# The tests that need a GPU, for a machine that has one but neither compiler nor network:
#   scripts/gpu_test.sh pack     after `make cuda`: the programs, stripped, and their libraries, into .gpu/; the
#                                gpu_*_bench programs too where they are built (-DHYLAS_BENCH=ON)
#   scripts/gpu_test.sh          runs all, newest first, within ten minutes; what would take longer is cut off and named.
#                                Ends with exit code 0 only if everything passed.
#   scripts/gpu_test.sh PART...  some of: flashinfer fp8 comm nodes pd layouts model engine ops memcheck
# Carry the repository with .gpu/ to the other machine, which needs the driver and CUDA's libcublasLt.so.13.
set -euo pipefail
cd "$(dirname "$0")/.."
programs="test_cuda test_model test_engine hylas"
benchmarks="gpu_ops_bench gpu_products_bench gpu_engine_bench gpu_steps_bench gpu_peer_bench gpu_layout_bench"
seconds_total=570
new_tests='*Fp8*'
flashinfer_tests='*FlashInfer*'
comm_tests='DeviceComm.*:DevicePipe.*:ExpertDispatch.*'

pack() {
  local program library
  rm -rf .gpu
  mkdir -p .gpu/lib
  for program in $programs $benchmarks; do
    if [ ! -x "build/cuda/$program" ] && [[ " $benchmarks " == *" $program "* ]]; then continue; fi
    strip -o ".gpu/$program" "build/cuda/$program"
    # Not those of the C library and the compiler, which every Linux has, nor cuBLASLt, which comes with CUDA.
    ldd "build/cuda/$program" | awk '$3 ~ /^\// { print $3 }' |
      grep -vE '/(libc|libm|libdl|librt|libpthread|ld-linux[^/]*|libgcc_s|libstdc\+\+|libcublasLt)\.so' |
      while read -r library; do cp -Lu "$library" .gpu/lib/; done
  done
  du -sh .gpu
}

folder=.gpu
[ -d "$folder" ] || folder=build/cuda
failed=()

# Runs it for at most so many seconds of those that are left.
step() { # NAME SECONDS COMMAND...
  local name=$1 limit=$2 begin=$SECONDS left=$((seconds_total - SECONDS)) code=0
  shift 2
  if [ $left -lt 5 ]; then
    echo "== gpu tests: $name: no time left"
    failed+=("$name (not run)")
    return
  fi
  [ "$limit" -lt $left ] || limit=$left
  timeout "$limit" "$@" || code=$?
  [ $code = 0 ] || failed+=("$name ($([ $code = 124 ] && echo "cut off after $limit s" || echo "exit code $code"))")
  echo "== gpu tests: $name took $((SECONDS - begin)) s, exit code $code"
}

# The tests of test_cuda that a filter names, in six processes: most of their time is the CPU's operators.
shards() { # FILTER
  local shard process processes=() code=0
  for shard in 0 1 2 3 4 5; do
    GTEST_TOTAL_SHARDS=6 GTEST_SHARD_INDEX=$shard "$folder/test_cuda" --gtest_brief=1 --gtest_filter="$1" &
    processes+=($!)
  done
  for process in "${processes[@]}"; do wait "$process" || code=1; done
  return $code
}

# Ranks that share one GPU, or recorded steps of ranks with one each: what is equal bit for bit to one rank, and greedy
# tokens of the references.
layout_tests() {
  local at='MatrixSlow/Layouts.SayWhatOneRankSays' filter=
  for name in dense_8_float32_tp2_pp1_ep1_dp1 dense_8_float32_tp2_pp2_ep1_dp1 dense_8_float32_tp4_pp2_ep1_dp2 \
    dense_5_bfloat16_tp2_pp2_ep1_dp1 dense_5_bfloat16_tp4_pp1_ep1_dp1 moe_8_bfloat16_tp2_pp1_ep2_dp1 \
    moe_8_bfloat16_tp2_pp2_ep2_dp2 moe_5_bfloat16_tp1_pp4_ep1_dp1 moe_fp8_8_bfloat16_tp2_pp2_ep2_dp1; do
    filter+=$at/$name:
  done
  echo "$filter*GroupSteps*"
}

run_part() {
  local cuda="$folder/test_cuda --gtest_brief=1"
  case $1 in
    flashinfer) step flashinfer 150 scripts/gpu_test.sh shards "$flashinfer_tests" ;;
    fp8) step fp8 120 scripts/gpu_test.sh shards "$new_tests" ;;
    comm) step comm 60 $cuda --gtest_filter="$comm_tests" ;;
    ops) step ops 120 scripts/gpu_test.sh shards "-$new_tests:$flashinfer_tests:$comm_tests" ;;
    model) step model 60 "$folder/test_model" --gtest_brief=1 --gtest_filter='*Goldens*' ;;
    engine)
      step engine 120 "$folder/test_engine" --gtest_brief=1 \
        --gtest_filter='*GraphSteps*:*EngineGoldens*:RankTest*:Engine.*'
      ;;
    layouts)
      step layouts 90 "$folder/test_engine" --gtest_brief=1 --gtest_filter="$(layout_tests)"
      step layouts-goldens 120 "$folder/test_engine" --gtest_brief=1 --gtest_filter='ModelsSlow/GoldenLayouts.*'
      ;;
    # Without the case that splits experts: their sums have another order than one rank's.
    nodes)
      step nodes 60 "$folder/test_engine" --gtest_brief=1 --gtest_filter='Layouts/Nodes.*-*moe_8_tp2_pp4_ep1*'
      ;;
    pd) step pd 150 "$folder/test_engine" --gtest_brief=1 --gtest_filter='Staged/Disaggregated.*' ;;
    memcheck)
      step memcheck 180 compute-sanitizer --tool memcheck --error-exitcode 1 $cuda \
        --gtest_filter="$(printf 'Shapes/CudaFp8*/%s:' 0 1 2 3 4)Kinds/FlashInfer*Ragged*/1:Kinds/FlashInfer*Ragged*/4:$comm_tests-ExpertDispatch.TwoRanks*"
      ;;
    *) sed -n '2,8s/^# //p' "$0"; exit 2 ;;
  esac
}

run() {
  [ -x "$folder/test_cuda" ] || { echo "no test_cuda in .gpu/ or build/cuda/: \`make cuda\` first" >&2; exit 1; }
  nvidia-smi -L || { echo "no GPU here" >&2; exit 1; }
  export LD_LIBRARY_PATH=$PWD/.gpu/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
  export HYLAS_GOLDENS=${HYLAS_GOLDENS:-$PWD/tests/data/goldens} HYLAS_TEST_DEVICE=cuda
  local part
  for part in "$@"; do run_part "$part"; done
  if [ ${#failed[@]} -gt 0 ]; then
    printf 'gpu tests: FAILED: %s\n' "${failed[@]}"
    return 1
  fi
  echo "gpu tests: all passed in $SECONDS s"
}

case ${1:-run} in
  pack) pack ;;
  shards) shards "$2" ;;
  run) run flashinfer fp8 comm nodes pd layouts model engine ops memcheck ;;
  *) run "$@" ;;
esac
