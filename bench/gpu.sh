#!/usr/bin/env bash
# Operators and whole steps on one GPU, beside their bounds; no server and no weights needed:
#   bench/gpu.sh [FOLDER]        FOLDER: where gpu_ops_bench and gpu_steps_bench stand (default build/cuda)
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-build/cuda}
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
"$folder/gpu_ops_bench"
"$folder/gpu_steps_bench" models/configs/qwen3.5-35b-a3b-fp8
"$folder/gpu_steps_bench" models/configs/qwen3.5-9b
