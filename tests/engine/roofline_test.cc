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

Roofline roofline(const std::string& model, const char* gpu, const ParallelSizes& sizes,
                  const KernelCosts& costs = KernelCosts::bound()) {
  const ModelConfig config = released(model);
  return {config, find_gpu(gpu).value(), sizes, balance(estimate_costs(config), sizes.pp).value(), costs};
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
    mean.experts_us += time.experts_us / tokens;
    mean.mixer_us += time.mixer_us / tokens;
    mean.comm_us += time.comm_us / tokens;
  }
  return mean;
}

void expect_time(const StepTime& time, double gemm, double experts, double mixer, double comm) {
  EXPECT_NEAR(time.gemm_us / gemm, 1, 0.03);
  EXPECT_NEAR(time.experts_us / experts, 1, 0.03);
  EXPECT_NEAR(time.mixer_us / mixer, 1, 0.03);
  EXPECT_NEAR(time.comm_us, comm, 0.03 * comm);
}

// An independent estimate of the same model by hand: microseconds a token and GPU for products, experts, mixers and
// sums by what the data sheet says, each product the longer of its arithmetic and its bytes (docs/simulator.md).
TEST(Roofline, AgreesWithTheHandCalculation) {
  const std::string model = "qwen3.5-397b-a17b-fp8";
  expect_time(per_token(model, "H20", {.tp = 8}), 8.390, 6.376, 1.132, 4.779);
  expect_time(per_token(model, "H20", {.tp = 2, .pp = 4}), 6.900, 6.376, 1.132, 0.683);
  expect_time(per_token(model, "H20", {.pp = 8}), 6.687, 6.376, 1.132, 0);
  expect_time(per_token(model, "H200", {.tp = 8}), 1.394, 2.335, 0.169, 4.779);
  expect_time(per_token(model, "H200", {.tp = 4, .pp = 2}), 1.161, 1.567, 0.169, 2.048);
  expect_time(per_token("qwen3.5-35b-a3b-fp8", "H200", {}), 1.504, 1.145, 0.452, 0);
}

TEST(Roofline, AFewTokensCostTheirWeightsOnly) {
  const Roofline costs = roofline("qwen3.5-397b-a17b-fp8", "H200", {.tp = 8});
  std::vector<PlanRow> rows(1);
  rows[0].begin = 4096;
  rows[0].length = 1;
  rows[0].kind = RowKind::kDecode;
  rows[0].sample = true;
  const StepTime one = costs.step(0, rows);
  // 17.5 GB of weights, of which head and router count here as well, over eight GPUs of 4.8 TB/s.
  EXPECT_NEAR(one.gemm_us + one.experts_us, 470, 70);
  rows.resize(2, rows[0]);
  EXPECT_GT(costs.step(0, rows).experts_us, 1.8 * one.experts_us) << "another token wakes other experts";
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
  EXPECT_NEAR(costs.hand_off_us(prompts(1)), 3500 * 8192 / 450e9 * 1e6, 1e-6);
}

// What our kernels lose of the bound is what the simulator is for.
TEST(Roofline, OurKernelsTakeLonger) {
  for (const char* model : {"qwen3.5-397b-a17b-fp8", "qwen3.5-35b-a3b", "qwen3.5-9b", "qwen3.5-27b-fp8"}) {
    for (const int32_t length : {1, 100, 3500}) {
      std::vector<PlanRow> rows = prompts(1);
      rows[0].length = length;
      const double bound = roofline(model, "H100", {.tp = 2}).step(0, rows).total_us();
      EXPECT_GT(roofline(model, "H100", {.tp = 2}, {}).step(0, rows).total_us(), 1.1 * bound) << model << " " << length;
    }
  }
}

// Several exchanges of 2048 tokens a rank, as the engine makes them: each reads the experts' weights again.
TEST(Roofline, ExpertsOfSeveralRanksComeAgainWithEachExchange) {
  const Roofline costs = roofline("qwen3.5-397b-a17b-fp8", "H200", {.tp = 2, .ep = 2}, {});
  std::vector<PlanRow> rows = prompts(1);
  rows[0].length = 4096;
  const StepTime one = costs.step(0, rows);
  rows[0].length = 2 * 4096;
  const StepTime two = costs.step(0, rows);
  EXPECT_NEAR(two.experts_us, 2 * one.experts_us, 1e-6 * two.experts_us);
}

// A sixteenth of an H200: 131072 tokens do not fit, and go through the experts in two parts.
TEST(Roofline, ExpertsTakeWhatTheWorkspaceHolds) {
  const Roofline costs = roofline("qwen3.5-397b-a17b-fp8", "H200", {.pp = 8}, {});
  std::vector<PlanRow> rows = prompts(1);
  rows[0].length = 65536;
  const double one = costs.step(1, rows).experts_us;
  rows[0].length = 131072;
  EXPECT_NEAR(costs.step(1, rows).experts_us, 2 * one, 1e-6 * one);
  rows[0].length = 32768;
  EXPECT_GT(costs.step(1, rows).experts_us, 0.501 * one) << "tiles are less full";
}

// Rows alone and among prompts: decode has kernels of its own.
TEST(Roofline, DecodeRowsReadTheirStatesAndPages) {
  const Roofline costs = roofline("qwen3.5-9b", "H200", {}, {});
  std::vector<PlanRow> rows(64);
  for (PlanRow& row : rows) row = {.kind = RowKind::kDecode, .begin = 1000, .length = 1, .sample = true};
  const StepTime near = costs.step(0, rows);
  for (PlanRow& row : rows) row.begin = 31000;
  const StepTime far = costs.step(0, rows);
  // Eight layers of four heads of keys and values, 256 bytes each.
  EXPECT_NEAR(far.mixer_us - near.mixer_us, 64 * 30000.0 * 8 * 4 * 2 * 256 / (4.8e6 * 0.75), 1);
  rows.push_back({.begin = 0, .length = 2000});
  EXPECT_GT(costs.step(0, rows).mixer_us, far.mixer_us);
}

}  // namespace
}  // namespace hylas
