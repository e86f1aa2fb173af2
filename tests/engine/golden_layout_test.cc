// Golden checkpoints over ranks: which layouts each one admits is written down (tests/data/accepted_layouts.txt), and
// there every layout gives the reference's greedy tokens.
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <set>
#include <sstream>

#include "engine/configuration.h"
#include "engine/golden_prompts.h"
#include "support/goldens.h"
#include "support/layout_models.h"
#include "support/test_device.h"

namespace hylas {
namespace {

std::string name_of(const ParallelSizes& s) { return fmt::format("tp{}/pp{}/ep{}/dp{}", s.tp, s.pp, s.ep, s.dp); }

// tp 1, 2, 4 x pp 1 - 4 x ep 1, 2, 4 x dp 1, 2, up to 8 ranks, of which one divides the other.
std::vector<ParallelSizes> all_sizes() {
  std::vector<ParallelSizes> all;
  for (int tp : {1, 2, 4}) {
    for (int pp : {1, 2, 3, 4}) {
      for (int ep : {1, 2, 4}) {
        for (int dp : {1, 2}) {
          if (tp * pp <= 8 && tp % ep == 0 && tp % dp == 0) all.push_back({.tp = tp, .pp = pp, .ep = ep, .dp = dp});
        }
      }
    }
  }
  return all;
}

// "model: tp1/pp2/ep1/dp1 ..." of each line. On another machine than the one that compiled this the repository is the
// current folder.
std::map<std::string, std::set<std::string>> written_down() {
  std::map<std::string, std::set<std::string>> accepted;
  const std::string name = "tests/data/accepted_layouts.txt";
  std::ifstream file(std::string(HYLAS_SOURCE_DIR) + "/" + name);
  if (!file) file.open(name);
  for (std::string line; std::getline(file, line);) {
    if (line.empty() || line[0] == '#') continue;
    std::istringstream words(line);
    std::string model, layout;
    words >> model;
    model.pop_back();
    while (words >> layout) accepted[model].insert(layout);
  }
  return accepted;
}

EngineOptions options_of(const std::string& path, const ParallelSizes& sizes) {
  EngineOptions options;
  options.model_path = path;
  options.device = test::test_device();
  options.ranks_share_gpu = true;
  options.dtype = "float32";
  options.context_length = 1024;
  options.parallel = sizes;
  options.enable_dp_attention = sizes.dp > 1;
  options.threads = sizes.world() == 1 ? 2 : sizes.world();
  options.chunked_prefill_size = 128 * sizes.dp;
  return options;
}

std::set<std::string> admitted(const std::string& path) {
  const ModelConfig model = parse_model_config(path).value();
  std::set<std::string> accepted;
  for (const ParallelSizes& sizes : all_sizes()) {
    const auto configured = configure(options_of(path, sizes), model, {});
    if (configured.ok()) {
      accepted.insert(name_of(sizes));
    } else {
      EXPECT_EQ(configured.error().code, ErrorCode::kUnsupported) << configured.error().message;
    }
  }
  return accepted;
}

TEST(AcceptedLayouts, AreTheOnesWrittenDown) {
  const auto written = written_down();
  std::map<std::string, std::string> models;
  for (const test::GoldenModel& model : test::golden_models()) models[model.name] = model.dir;
  for (const int layers : {8, 5}) {
    for (const auto kind : {test::LayoutKind::kDense, test::LayoutKind::kMoe, test::LayoutKind::kMoeFp8}) {
      const test::LayoutModel model{kind, layers};
      models[model.name()] = layout_model_path(model);
    }
  }
  for (const auto& [name, path] : models) {
    ASSERT_TRUE(written.contains(name)) << name;
    EXPECT_EQ(admitted(path), written.at(name)) << name;
  }
}

class GoldenLayouts : public testing::TestWithParam<test::GoldenModel> {};

TEST_P(GoldenLayouts, GreedyTokensAreTheReferences) {
  const test::GoldenFile golden(GetParam(), "golden_fp32.safetensors");
  const std::set<std::string> accepted = written_down()[GetParam().name];
  ASSERT_FALSE(accepted.empty()) << GetParam().name << " is not in tests/data/accepted_layouts.txt";
  for (const ParallelSizes& sizes : all_sizes()) {
    if (sizes.world() == 1 || !accepted.contains(name_of(sizes))) continue;
    SCOPED_TRACE(name_of(sizes));
    Result<std::unique_ptr<Engine>> engine = Engine::start(options_of(GetParam().dir, sizes));
    ASSERT_TRUE(engine.ok()) << engine.error().message;
    expect_golden_tokens(**engine, golden, {"p1", "p5", "p64", "p130", "p517"});
  }
}

INSTANTIATE_TEST_SUITE_P(ModelsSlow, GoldenLayouts, testing::ValuesIn(test::golden_models()),
                         [](const auto& info) { return info.param.test_name(); });

}  // namespace
}  // namespace hylas
