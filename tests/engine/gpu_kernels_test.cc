// What an engine asks of a GPU's operators, from its options and the model.
#include "engine/gpu_kernels.h"

#include <gtest/gtest.h>

#include "model/generation_config.h"
#include "ops/fp8_plan.h"

namespace hylas {
namespace {

CudaOpsOptions asked(const char* model, const ParallelSizes& sizes, int32_t chunk, int32_t dispatch = 0) {
  EngineOptions options;
  options.device = "cuda";
  options.parallel = sizes;
  options.enable_dp_attention = sizes.dp > 1;
  options.chunked_prefill_size = options.max_prefill_tokens = chunk;
  options.ep_dispatch_tokens = dispatch;
  options.max_running_requests = 64;
  options.context_length = 32768;
  const ModelConfig config = parse_model_config(std::string(HYLAS_SOURCE_DIR) + "/models/configs/" + model).value();
  const EngineConfiguration chosen = configure(options, config, {}).value();
  return cuda_ops_options(options, chosen, 0);
}

constexpr Fp8Experts k397B = {.choices = 10, .experts = 512, .hidden = 4096, .width = 1024, .shared_width = 1024};
constexpr const char* k397BConfig = "qwen3.5-397b-a17b-fp8";

// The prompt tokens of a chunk and a decode row of every running sequence.
TEST(GpuKernels, TheWorkspaceHoldsTheExpertsRowsOfAWholeStep) {
  EXPECT_EQ(asked(k397BConfig, {.pp = 2}, 16384).workspace_wanted_bytes, fp8_experts_bytes(16384 + 64, k397B));
  EXPECT_EQ(asked(k397BConfig, {.pp = 2}, 4096).workspace_wanted_bytes, fp8_experts_bytes(4096 + 64, k397B));
  Fp8Experts half = k397B;
  half.width = half.shared_width = 512;
  EXPECT_EQ(asked(k397BConfig, {.tp = 2}, 16384).workspace_wanted_bytes, fp8_experts_bytes(16384 + 64, half));
  // Without expert parallelism a rank's experts see all dp groups' tokens: half of the chunk and of the sequences each.
  EXPECT_EQ(asked(k397BConfig, {.tp = 2, .dp = 2}, 16384).workspace_wanted_bytes, fp8_experts_bytes(16384 + 64, half));
}

// What arrives is as much as the ranks send out at a time, and the shared expert is not beside them.
TEST(GpuKernels, ARankOfExpertsNeedsNoMoreThanWhatArrivesAtOnce) {
  const Fp8Experts part = {.choices = 10, .experts = 256, .hidden = 4096, .width = 1024, .experts_total = 512};
  const ParallelSizes sizes = {.tp = 2, .ep = 2};
  EXPECT_EQ(asked(k397BConfig, sizes, 16384).workspace_wanted_bytes, fp8_experts_bytes(2 * kCudaDispatchTokens, part));
  EXPECT_EQ(asked(k397BConfig, sizes, 16384, 128).workspace_wanted_bytes, fp8_experts_bytes(256, part));
  EXPECT_EQ(asked(k397BConfig, sizes, 1024).workspace_wanted_bytes, fp8_experts_bytes(1024 + 64, part));
  // Of two dp groups, half of the chunk and of the sequences each.
  const ParallelSizes groups = {.tp = 2, .ep = 2, .dp = 2};
  EXPECT_EQ(asked(k397BConfig, groups, 16384).workspace_wanted_bytes, fp8_experts_bytes(2 * kCudaDispatchTokens, part));
  EXPECT_EQ(asked(k397BConfig, groups, 1024).workspace_wanted_bytes, fp8_experts_bytes(1024 + 64, part));
}

TEST(GpuKernels, TheWorkspaceIsNoLargePartOfASmallGpu) {
  constexpr size_t kGiB = size_t{1} << 30;
  const CudaOpsOptions whole = asked(k397BConfig, {.pp = 2}, 16384);
  EXPECT_EQ(workspace_bytes_on(whole, 141 * kGiB), whole.workspace_wanted_bytes);
  EXPECT_EQ(workspace_bytes_on(whole, 24 * kGiB), 24 * kGiB / 16);
  EXPECT_EQ(workspace_bytes_on(whole, 8 * kGiB), kGiB) << "no less than any FP8 model's";
}

// Its blocks wait for each other: not where others use the GPU too.
TEST(GpuKernels, LayersAtOnceAreOneRanksThatHasItsGpuForItself) {
  EXPECT_TRUE(asked("qwen3.5-35b-a3b-fp8", {}, 16384).row_layers);
  EXPECT_FALSE(asked("qwen3.5-35b-a3b-fp8", {.tp = 2}, 16384).row_layers);
  EXPECT_FALSE(asked("qwen3.5-35b-a3b-fp8", {.pp = 2}, 16384).row_layers);
  for (bool EngineOptions::* off : {&EngineOptions::disable_row_launch, &EngineOptions::ranks_share_gpu}) {
    EngineOptions options;
    options.*off = true;
    EXPECT_FALSE(cuda_ops_options(options, {}, 0).row_layers);
  }
}

TEST(GpuKernels, OtherModelsAndKernelsAskForNoMore) {
  EXPECT_EQ(asked("qwen3.5-27b-fp8", {}, 16384).workspace_wanted_bytes, 0U);
  EXPECT_EQ(asked("qwen3.5-27b-fp8", {}, 16384).workspace_bytes, kCudaFp8WorkspaceBytes);
  EXPECT_LT(asked("qwen3.5-35b-a3b-fp8", {}, 16384).workspace_wanted_bytes, kCudaFp8WorkspaceBytes);
}

}  // namespace
}  // namespace hylas
