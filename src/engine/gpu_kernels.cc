#include "engine/gpu_kernels.h"

#include <algorithm>

#include "base/log.h"
#include "model/sharding.h"
#include "ops/fp8_plan.h"

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

// What the experts of a rank take of the workspace for the largest step, so that it is not cut: cut in four, each of
// 512 experts had 80 rows of a chunk of 16384 tokens instead of 320, two thirds of a tile.
size_t experts_workspace_bytes(const EngineConfiguration& chosen) {
  const ModelConfig& model = chosen.model;
  const ParallelSizes& sizes = chosen.parallel;
  const Shard shard = chosen.decoder_of(0).shard;  // all have equally much
  Fp8Experts experts = {.choices = model.experts_per_token,
                        .experts = experts_held(model, shard).count,
                        .hidden = model.hidden_size,
                        .width = expert_widths(model, shard).count,
                        .experts_total = model.experts};
  int64_t tokens = int64_t{chosen.limits.tokens_max} * sizes.dp;
  if (sizes.ep > 1) {  // what arrives at once; the shared expert is not beside them
    tokens = std::min(tokens, int64_t{chosen.decoder.dispatch_tokens} * sizes.ep);
  } else {
    experts.shared_width = shared_widths(model, shard).count;
  }
  return fp8_experts_bytes(tokens, experts);
}

}  // namespace

CudaOpsOptions cuda_ops_options(const EngineOptions& options, const EngineConfiguration& chosen, int32_t gpu) {
  CudaOpsOptions cuda;
  cuda.device = gpu;
  cuda.fp8.linear = chosen.model.quantised && is_library(options.fp8_gemm_backend);
  cuda.fp8.experts = chosen.model.quantised && is_library(options.moe_runner_backend);
  if (cuda.fp8.experts) cuda.workspace_bytes = kCudaFp8WorkspaceBytes;
  // Its blocks wait for each other: they must have the GPU's multiprocessors, so nobody shares it.
  cuda.row_layers = chosen.parallel.world() == 1 && !options.ranks_share_gpu && !options.disable_row_launch;
  if (cuda.fp8.experts && chosen.model.experts > 0) cuda.workspace_wanted_bytes = experts_workspace_bytes(chosen);
  cuda.prefill = {.delta = is_library(options.linear_attn_backend),
                  .attention = is_library(options.prefill_attention_backend)};
  if (cuda.prefill.attention) {
    const int64_t positions = int64_t{chosen.context_length} + 2 * chosen.limits.page_size + 64;
    cuda.workspace_bytes = std::max(cuda.workspace_bytes, static_cast<size_t>(positions) * kCudaFa3PositionBytes);
  }
  return cuda;
}

int64_t gpu_workspace_bytes(const EngineOptions& options, const EngineConfiguration& chosen, int64_t gpu_bytes) {
  return static_cast<int64_t>(workspace_bytes_on(cuda_ops_options(options, chosen, 0), static_cast<size_t>(gpu_bytes)));
}

void log_gpu_kernels(const EngineOptions& options, const ModelConfig& model) {
  if (options.device != "cuda") return;
  log_fp8_kernels(options, model);
  log_prefill_kernels(options);
}

}  // namespace hylas
