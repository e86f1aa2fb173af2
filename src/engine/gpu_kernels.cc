#include "engine/gpu_kernels.h"

#include <algorithm>

#include "base/log.h"

namespace hylas {
namespace {

CudaPrefillOptions cuda_prefill(const EngineOptions& options) {
  const auto chosen = [](const std::string& backend, const char* library, bool otherwise) {
    return backend == library || (backend != "hylas" && otherwise);
  };
  return {.delta = chosen(options.linear_attn_backend, "flashinfer", kCudaPrefillAuto.delta),
          .attention = chosen(options.prefill_attention_backend, "fa3", kCudaPrefillAuto.attention)};
}

// Which kernels multiply FP8 weights on a GPU.
void log_fp8_kernels(const EngineOptions& options, const ModelConfig& model) {
  if (!model.quantised) return;
  const auto of = [](const std::string& backend) {
    return backend == "deep_gemm" ? "deep_gemm (activations in FP8) for many rows, hylas for few"
                                  : "hylas (activations in bf16)";
  };
  log::info("kernels of FP8 weights: matrices {}; experts {}", of(options.fp8_gemm_backend),
            of(options.moe_runner_backend));
  if (options.fp8_gemm_backend == "deep_gemm" || options.moe_runner_backend == "deep_gemm") {
    log::warn("deep_gemm has not been proven on a GPU yet: scripts/gpu_test.sh fp8 does that; `auto` is proven");
  }
}

// Which kernels prefill runs on a GPU.
void log_prefill_kernels(const EngineOptions& options) {
  const CudaPrefillOptions prefill = cuda_prefill(options);
  log::info("kernels of prefill: delta rule {}; attention {}", prefill.delta ? "flashinfer (in bf16)" : "hylas",
            prefill.attention ? "fa3 (flashinfer)" : "hylas");
  if (prefill.delta > kCudaPrefillAuto.delta || prefill.attention > kCudaPrefillAuto.attention) {
    log::warn("flashinfer's kernels have not been proven on a GPU yet: scripts/gpu_test.sh flashinfer does that");
  }
}

}  // namespace

CudaOpsOptions cuda_ops_options(const EngineOptions& options, const EngineConfiguration& chosen, int32_t gpu) {
  CudaOpsOptions cuda;
  cuda.device = gpu;
  cuda.fp8.linear = options.fp8_gemm_backend == "deep_gemm";
  cuda.fp8.experts = options.moe_runner_backend == "deep_gemm";
  if (cuda.fp8.experts) cuda.workspace_bytes = kCudaFp8WorkspaceBytes;
  cuda.prefill = cuda_prefill(options);
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
