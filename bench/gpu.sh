#!/usr/bin/env bash
# The engine, its operators and its steps on one GPU; no server and no weights needed:
#   bench/gpu.sh [FOLDER]        FOLDER: where the gpu_*_bench programs stand (default build/cuda; -DHYLAS_BENCH=ON)
# The engine's figures are those of docs/kernels.md; FP8 models with each choice of kernels. What takes longer than its
# share is cut off and named, so that the whole ends within ten minutes.
set -uo pipefail
cd "$(dirname "$0")/.."
folder=${1:-build/cuda}
export LD_LIBRARY_PATH=$PWD/.gpu/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
failed=0
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader

part() { # SECONDS PROGRAM ARGUMENT...
  local seconds=$1 program=$2
  shift 2
  [ -x "$folder/$program" ] || { echo "there is no $folder/$program" >&2; failed=1; return; }
  timeout "$seconds" "$folder/$program" "$@" || { echo "== $program $*: exit code $?" >&2; failed=1; }
}

fp8=models/configs/qwen3.5-35b-a3b-fp8
part 30 gpu_ops_bench --prefill-only
part 60 gpu_ops_bench --fp8-only
part 30 gpu_products_bench
part 120 gpu_engine_bench $fp8
part 120 gpu_engine_bench $fp8 --own-kernels
part 120 gpu_engine_bench models/configs/qwen3.5-9b
part 90 gpu_steps_bench $fp8
part 60 gpu_steps_bench models/configs/qwen3.5-9b
exit $failed
