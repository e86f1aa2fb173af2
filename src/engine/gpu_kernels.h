#pragma once
// Which of several kernels an instance runs on a GPU: from options to values, and to the log.
#include "engine/configuration.h"
#include "engine/engine.h"
#include "model/config.h"
#include "ops/cuda_ops.h"

namespace hylas {

CudaOpsOptions cuda_ops_options(const EngineOptions& options, const EngineConfiguration& chosen, int32_t gpu);

// What these kernels take of each rank's GPU before anything else, if it has `gpu_bytes` of memory.
int64_t gpu_workspace_bytes(const EngineOptions& options, const EngineConfiguration& chosen, int64_t gpu_bytes);

// One line for each choice; nothing with --device cpu.
void log_gpu_kernels(const EngineOptions& options, const ModelConfig& model);

}  // namespace hylas
