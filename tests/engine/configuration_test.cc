#include "engine/configuration.h"
#include "engine/rank_loading.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/layout_models.h"

namespace hylas {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

ModelConfig model() {
  ModelConfig model;
  model.vocab_size = 1000;
  model.num_layers = 4;
  model.max_position_embeddings = 4096;
  model.dtype = DType::kBF16;
  model.state_dtype = DType::kF16;
  model.eos_ids = {5};
  return model;
}

EngineConfiguration chosen(const EngineOptions& options) {
  Result<EngineConfiguration> result = configure(options, model(), {});
  HYLAS_CHECK(result.ok(), "{}", result.error().message);
  return std::move(result).value();
}

template <class Change>
Error refusal(Change change) {
  EngineOptions options;
  change(options);
  Result<EngineConfiguration> result = configure(options, model(), {});
  return result.ok() ? Error{ErrorCode::kCancelled, "accepted"} : result.error();
}

TEST(Configuration, AutoTakesTheCheckpointsTypes) {
  DecoderOptions decoder = chosen({}).decoder;
  EXPECT_EQ(decoder.act, DType::kBF16);
  EXPECT_EQ(decoder.kv, DType::kBF16);
  EXPECT_EQ(decoder.state, DType::kF16);
  EXPECT_EQ(decoder.layer_begin, 0);
  EXPECT_EQ(decoder.layer_end, 4);
  EXPECT_FALSE(decoder.with_mtp);
}

TEST(Configuration, KvFollowsTheActivationsUnlessItIsNamed) {
  EngineOptions options;
  options.dtype = "float32";
  EXPECT_EQ(chosen(options).decoder.kv, DType::kF32);
  options.kv_cache_dtype = "fp8_e4m3";
  options.state_dtype = "bfloat16";
  DecoderOptions decoder = chosen(options).decoder;
  EXPECT_EQ(decoder.act, DType::kF32);
  EXPECT_EQ(decoder.kv, DType::kF8E4M3);
  EXPECT_EQ(decoder.state, DType::kBF16);
}

TEST(Configuration, AStepHoldsItsPrefillTokensAndADecodeRowForEveryRunningSequence) {
  EngineConfiguration defaults = chosen({});
  EXPECT_EQ(defaults.prefill_tokens_max, kCpuPrefillTokens);
  EXPECT_EQ(defaults.limits.rows_max, kRunningMaxDefault);
  EXPECT_EQ(defaults.limits.tokens_max, kCpuPrefillTokens + kRunningMaxDefault);
  EXPECT_EQ(defaults.context_length, 4096);

  EngineOptions options;
  options.chunked_prefill_size = 8192;
  options.max_prefill_tokens = 4096;
  options.max_running_requests = 3;
  options.context_length = 100;
  EngineConfiguration asked = chosen(options);
  EXPECT_EQ(asked.prefill_tokens_max, 4096) << "the smaller of the two bounds the step";
  EXPECT_EQ(asked.limits.tokens_max, 4099);
  EXPECT_EQ(asked.limits.context_length, 100);
}

TEST(Configuration, TheGenerationConfigsStopIdsWin) {
  EXPECT_THAT(chosen({}).eos_ids, ElementsAre(5));
  GenerationConfig generation;
  generation.eos_ids = {8, 9};
  EXPECT_THAT(configure({}, model(), generation)->eos_ids, ElementsAre(8, 9));
}

TEST(Configuration, TheBudgetGetsWhatWasAskedFor) {
  EngineOptions options;
  options.max_total_tokens = 640;
  options.max_running_requests = 2;
  options.mem_fraction_static = 0.25;
  options.page_size = 16;
  StateLayout layout{{{.name = "kv", .scope = StateScope::kPerToken, .layers = {3}, .segments = {{"k", 1, 8}}},
                      {.name = "s", .scope = StateScope::kPerSequence, .layers = {0}, .segments = {{"s", 1, 10}}}}};
  BudgetInputs inputs = chosen(options).budget(1000, 10, layout);
  EXPECT_EQ(inputs.free_bytes, 1000);
  EXPECT_EQ(inputs.arena_bytes, 10);
  EXPECT_EQ(inputs.fraction, 0.25);
  EXPECT_EQ(inputs.token_bytes, 32);
  EXPECT_EQ(inputs.sequence_bytes, 40);
  EXPECT_EQ(inputs.page_size, 16);
  EXPECT_EQ(inputs.kv_tokens_max, 640);
  EXPECT_EQ(inputs.running_max, 2);
  EXPECT_EQ(inputs.context_length, 4096);
}

TEST(Configuration, OneGpuRecordsDecodeStepsUpToItsSequences) {
  EngineOptions options;
  options.max_running_requests = 10;
  options.cuda_graph_rows = {16, 2, 4};
  EXPECT_THAT(chosen(options).graph_rows, IsEmpty()) << "not on a CPU";
  options.device = "cuda";
  EXPECT_THAT(chosen(options).graph_rows, ElementsAre(2, 4, 10));
  options.cuda_graph_rows_max = 3;
  EXPECT_THAT(chosen(options).graph_rows, ElementsAre(2, 3));
  options.parallel.pp = 2;
  options.pp_layer_partition = "2,2";
  EXPECT_THAT(chosen(options).graph_rows, ElementsAre(2, 3)) << "every stage records its own";
  options.disable_cuda_graph = true;
  EXPECT_THAT(chosen(options).graph_rows, IsEmpty());
}

TEST(Configuration, DpGroupsRecordStepsOfTheSequencesOfOne) {
  EngineOptions options;
  options.device = "cuda";
  options.parallel = {.tp = 2, .ep = 2, .dp = 2};
  options.enable_dp_attention = true;
  options.max_running_requests = 8;
  const ModelConfig model = parse_model_config(test::layout_model_path({test::LayoutKind::kMoe, 8})).value();
  EXPECT_THAT(configure(options, model, {}).value().graph_rows, ElementsAre(1, 2, 4));
}

TEST(Configuration, TheMtpHeadDraftsWithinOneDpGroup) {
  EngineOptions options;
  options.with_mtp = true;
  options.enable_dp_attention = true;
  options.parallel = {.tp = 2, .ep = 2};
  ModelConfig model = parse_model_config(test::layout_model_path({test::LayoutKind::kMoe, 8})).value();
  model.mtp_layers = 1;
  EXPECT_TRUE(configure(options, model, {}).value().decoder.with_mtp);
  options.parallel.dp = 2;
  const auto refused = configure(options, model, {});
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::kUnsupported);
  EXPECT_EQ(refused.error().message, "--mtp works with one dp group, not with --dp-size 2");
}

TEST(Configuration, RanksTakeAGpuEach) {
  EngineOptions options;
  options.base_gpu_id = 1;
  EXPECT_THAT(choose_gpus(options, 3, 4).value(), ElementsAre(1, 2, 3));
  EXPECT_THAT(choose_gpus(options, 1, 0).value(), ElementsAre(1)) << "whoever opens it knows why there is none";
  const auto refused = choose_gpus(options, 4, 4);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::kUnsupported);
  EXPECT_THAT(refused.error().message, HasSubstr("4 ranks on this node take GPUs 1 to 4, and 4 can be seen here"));
  EXPECT_THAT(refused.error().message, HasSubstr("--base-gpu-id"));
  options.base_gpu_id = 0;
  options.ranks_share_gpu = true;
  EXPECT_THAT(choose_gpus(options, 3, 2).value(), ElementsAre(0, 1, 0));
}

TEST(Configuration, WeightsThatDoNotFitAreRefusedBeforeTheyAreRead) {
  constexpr int64_t kGib = int64_t{1} << 30;
  const std::vector<MemoryUse> gpus = {{.free_bytes = 130 * kGib, .ranks = 1}, {.free_bytes = 120 * kGib, .ranks = 2}};
  EXPECT_TRUE(check_weights_fit(gpus, std::vector<int64_t>{130 * kGib, 120 * kGib}, 140 * kGib, 2 * kGib).ok());
  const auto status = check_weights_fit(gpus, std::vector<int64_t>{130 * kGib, 121 * kGib}, 140 * kGib, 2 * kGib);
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, ErrorCode::kUnsupported);
  EXPECT_THAT(status.error().message, HasSubstr("of 2 ranks are 121.0 GiB, and 120.0 of its GPU's 140.0 GiB are free"));
  EXPECT_THAT(status.error().message, HasSubstr("2.0 for workspace, less with a lower --chunked-prefill-size"));
}

TEST(Configuration, MadeUpWeightsThatDoNotFitTheMemoryAreRefused) {
  constexpr int64_t kGib = int64_t{1} << 30;
  EXPECT_TRUE(check_dummy_weights_fit({.free_bytes = 20 * kGib, .ranks = 2}, 20 * kGib).ok());
  const auto status = check_dummy_weights_fit({.free_bytes = 20 * kGib, .ranks = 2}, 371 * kGib);
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, ErrorCode::kUnsupported);
  EXPECT_THAT(status.error().message, HasSubstr("would make 371.0 GiB of weights, and 20.0 GiB of memory are free"));
}

TEST(Configuration, AGpuPrefillsOrDecodesForOthers) {
  EngineOptions options;
  options.device = "cuda";
  for (const InstanceRole role : {InstanceRole::kPrefill, InstanceRole::kDecode}) {
    options.role = role;
    EXPECT_TRUE(configure(options, model(), {}).ok());
  }
}

TEST(Configuration, RefusesWhatThisBuildCannotDo) {
  Error device = refusal([](EngineOptions& o) { o.device = "tpu"; });
  EXPECT_EQ(device.code, ErrorCode::kInvalid);
  EXPECT_THAT(device.message, HasSubstr("--device tpu: must be cpu or cuda"));
  Error nodes = refusal([](EngineOptions& o) {
    o.role = InstanceRole::kDecode;
    o.parallel = {.pp = 2, .nodes = 2};
  });
  EXPECT_EQ(nodes.code, ErrorCode::kUnsupported);
  EXPECT_THAT(nodes.message, HasSubstr("--disaggregation-mode works on one node, not with --nnodes 2"));
  Error kv = refusal([](EngineOptions& o) { o.kv_cache_dtype = "float16"; });
  EXPECT_EQ(kv.code, ErrorCode::kUnsupported);
  EXPECT_THAT(kv.message, HasSubstr("--kv-cache-dtype float16: must be auto, bfloat16, fp8_e4m3, float32"));
  EXPECT_EQ(refusal([](EngineOptions& o) { o.dtype = "float16"; }).code, ErrorCode::kUnsupported);
}

TEST(Configuration, RefusesFlagsWithoutSense) {
  auto invalid = [](auto change) {
    Error error = refusal(change);
    EXPECT_EQ(error.code, ErrorCode::kInvalid) << error.message;
    return error.message;
  };
  EXPECT_THAT(invalid([](EngineOptions& o) { o.dtype = "int3"; }), HasSubstr("--dtype int3"));
  EXPECT_THAT(invalid([](EngineOptions& o) { o.load_format = "gguf"; }), HasSubstr("--load-format gguf"));
  EXPECT_THAT(invalid([](EngineOptions& o) { o.page_size = 0; }), HasSubstr("--page-size 0"));
  EXPECT_THAT(invalid([](EngineOptions& o) { o.chunked_prefill_size = 100; }),
              HasSubstr("--chunked-prefill-size 100: must be a multiple of 64"));
  EXPECT_THAT(invalid([](EngineOptions& o) { o.chunked_prefill_size = 0; }), HasSubstr("--chunked-prefill-size 0"));
  EXPECT_THAT(invalid([](EngineOptions& o) { o.max_prefill_tokens = 63; }), HasSubstr("--max-prefill-tokens 63"));
  EXPECT_THAT(invalid([](EngineOptions& o) { o.max_running_requests = -1; }), HasSubstr("--max-running-requests -1"));
  EXPECT_THAT(invalid([](EngineOptions& o) { o.context_length = 4097; }),
              HasSubstr("--context-length 4097: must lie between 2 and the model's 4096"));
  EXPECT_THAT(invalid([](EngineOptions& o) { o.threads = -1; }), HasSubstr("--threads -1"));
  EXPECT_THAT(invalid([](EngineOptions& o) { o.vocab_tokens = 1001; }), HasSubstr("1001 tokens"));
  EXPECT_THAT(invalid([](EngineOptions& o) { o.cuda_graph_rows = {8, 0}; }), HasSubstr("--cuda-graph-bs 0"));
  EXPECT_THAT(invalid([](EngineOptions& o) { o.cuda_graph_rows_max = 0; }), HasSubstr("--cuda-graph-max-bs 0"));
}

}  // namespace
}  // namespace hylas
