#include "engine/gpu_kernels.h"

#include <algorithm>

#include "base/log.h"

namespace hylas {
namespace {

// `auto`, a library's name and the names of kernels that only other engines have all mean the library's.
bool is_library(const std::string& backend) { return backend != "hylas"; }

// Which kernels multiply FP8 weights.
void log_fp8_kernels(const EngineOptions& options, const ModelConfig& model) {
  if (!model.quantised) return;
  const auto of = [](const std::string& backend) {
    return is_library(backend) ? "deep_gemm (activations in FP8)" : "hylas (activations in bf16)";
  };
  log::info("kernels of FP8 weights: matrices {}; experts {}", of(options.fp8_gemm_backend),
            of(options.moe_runner_backend));
}

void log_prefill_kernels(const EngineOptions& options) {
  log::info("kernels of prefill: delta rule {}; attention {}",
            is_library(options.linear_attn_backend) ? "flashinfer (in bf16)" : "hylas",
            is_library(options.prefill_attention_backend) ? "fa3 (flashinfer)" : "hylas");
}

}  // namespace

CudaOpsOptions cuda_ops_options(const EngineOptions& options, const EngineConfiguration& chosen, int32_t gpu) {
  CudaOpsOptions cuda;
  cuda.device = gpu;
  cuda.fp8.linear = chosen.model.quantised && is_library(options.fp8_gemm_backend);
  cuda.fp8.experts = chosen.model.quantised && is_library(options.moe_runner_backend);
  if (cuda.fp8.experts) cuda.workspace_bytes = kCudaFp8WorkspaceBytes;
  cuda.row_layers = !options.ranks_share_gpu;
  cuda.prefill = {.delta = is_library(options.linear_attn_backend),
                  .attention = is_library(options.prefill_attention_backend)};
  if (cuda.prefill.attention) {
    const int64_t positions = int64_t{chosen.context_length} + 2 * chosen.limits.page_size + 64;
    cuda.workspace_bytes = std::max(cuda.workspace_bytes, static_cast<size_t>(positions) * kCudaFa3PositionBytes);
  }
  return cuda;
}

void log_gpu_kernels(const EngineOptions& options, const ModelConfig& model) {
  if (options.device != "cuda") return;
  log_fp8_kernels(options, model);
  log_prefill_kernels(options);
}

}  // namespace hylas
