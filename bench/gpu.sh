#!/usr/bin/env bash
# The engine, its operators and its steps on one GPU; no server and no weights needed:
#   bench/gpu.sh [FOLDER]        FOLDER: where the gpu_*_bench programs stand (default build/cuda; -DHYLAS_BENCH=ON)
# The engine's figures are those of docs/kernels.md.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-build/cuda}
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
for model in 35b-a3b-fp8 9b; do "$folder/gpu_engine_bench" "models/configs/qwen3.5-$model"; done
"$folder/gpu_ops_bench"
"$folder/gpu_steps_bench" models/configs/qwen3.5-35b-a3b-fp8
"$folder/gpu_steps_bench" models/configs/qwen3.5-9b
