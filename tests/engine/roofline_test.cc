#include "engine/roofline.h"

#include <gtest/gtest.h>

#include "model/partition.h"

namespace hylas {
namespace {

ModelConfig released(const std::string& name) {
  return parse_model_config(std::string(HYLAS_SOURCE_DIR) + "/models/configs/" + name).value();
}

// `prompts` whole prompts of 3500 tokens.
std::vector<PlanRow> prompts(int32_t count) {
  std::vector<PlanRow> rows(count);
  for (int32_t i = 0; i < count; ++i) {
    rows[i].sequence = i;
    rows[i].length = 3500;
    rows[i].sample = true;
  }
  return rows;
}

Roofline roofline(const std::string& model, const char* gpu, const ParallelSizes& sizes) {
  const ModelConfig config = released(model);
  return {config, find_gpu(gpu).value(), sizes, balance(estimate_costs(config), sizes.pp).value()};
}

// Of all stages on average, for each token.
StepTime per_token(const std::string& model, const char* gpu, const ParallelSizes& sizes) {
  const Roofline costs = roofline(model, gpu, sizes);
  const std::vector<PlanRow> rows = prompts(4);
  StepTime mean;
  for (int32_t stage = 0; stage < sizes.pp; ++stage) {
    const StepTime time = costs.step(stage, rows);
    const double tokens = 4 * 3500.0 * sizes.pp;
    mean.gemm_us += time.gemm_us / tokens;
    mean.mixer_us += time.mixer_us / tokens;
    mean.glue_us += time.glue_us / tokens;
    mean.comm_us += time.comm_us / tokens;
  }
  return mean;
}

void expect_time(const StepTime& time, double gemm, double mixer, double glue, double comm) {
  EXPECT_NEAR(time.gemm_us / gemm, 1, 0.03);
  EXPECT_NEAR(time.mixer_us / mixer, 1, 0.06);
  EXPECT_NEAR(time.glue_us / glue, 1, 0.08) << "activations between kernels: counted tensor by tensor";
  EXPECT_NEAR(time.comm_us, comm, 0.03 * comm);
}

// An independent estimate of the same model by hand: microseconds a token and GPU for products, mixers, glue and
// all-reduces (docs/simulator.md).
TEST(Roofline, AgreesWithTheHandCalculation) {
  const std::string model = "qwen3.5-397b-a17b-fp8";
  expect_time(per_token(model, "H20", {.tp = 8}), 14.58, 3.33, 7.12, 5.10);
  expect_time(per_token(model, "H20", {.tp = 2, .pp = 4}), 14.58, 1.93, 2.24, 0.73);
  expect_time(per_token(model, "H20", {.pp = 8}), 14.58, 1.70, 1.42, 0);
  expect_time(per_token(model, "H200", {.tp = 8}), 3.16, 0.58, 5.63, 5.10);
  expect_time(per_token(model, "H200", {.tp = 4, .pp = 2}), 3.16, 0.42, 3.05, 2.18);
  expect_time(per_token("qwen3.5-35b-a3b-fp8", "H200", {}), 4.02, 0.74, 2.79, 0);
}

TEST(Roofline, AFewTokensCostTheirWeightsOnly) {
  const Roofline costs = roofline("qwen3.5-397b-a17b-fp8", "H200", {.tp = 8});
  std::vector<PlanRow> rows(1);
  rows[0].begin = 4096;
  rows[0].length = 1;
  rows[0].kind = RowKind::kDecode;
  rows[0].sample = true;
  const StepTime one = costs.step(0, rows);
  // 17.5 GB of weights, of which head and router count here as well, over eight GPUs of 4.3 TB/s.
  EXPECT_NEAR(one.gemm_us + one.mixer_us, 520, 80);
  rows.resize(2, rows[0]);
  EXPECT_GT(costs.step(0, rows).gemm_us, 1.3 * one.gemm_us) << "another token wakes other experts";
}

TEST(Roofline, AttentionGrowsWithThePrefix) {
  const Roofline costs = roofline("qwen3.5-9b", "H100", {});
  std::vector<PlanRow> rows = prompts(1);
  const double fresh = costs.step(0, rows).total_us();
  rows[0].begin = 100000;
  EXPECT_GT(costs.step(0, rows).total_us(), 1.5 * fresh);
}

TEST(Roofline, AStepWithoutRowsTakesNoTime) {
  const Roofline costs = roofline("qwen3.5-9b", "H100", {});
  EXPECT_EQ(costs.step(0, {}).total_us(), 0);
  EXPECT_EQ(costs.hand_off_us({}), 0);
}

TEST(Roofline, ALinkCarriesOneRowOfHiddenStatesForEachToken) {
  const Roofline costs = roofline("qwen3.5-397b-a17b-fp8", "H200", {.tp = 2, .pp = 4});
  EXPECT_NEAR(costs.hand_off_us(prompts(1)), 3500 * 8192 / 337.5e9 * 1e6, 1e-6);
}

TEST(FindGpu, InAnyCaseOrSaysWhichThereAre) {
  EXPECT_STREQ(find_gpu("h200").value().name, "H200");
  const auto unknown = find_gpu("b200");
  ASSERT_FALSE(unknown.ok());
  EXPECT_EQ(unknown.error().message, "--gpu b200: must be one of H20, H100, H200");
}

}  // namespace
}  // namespace hylas
