// Every layout of ranks says, bit for bit, what one rank says.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "base/check.h"
#include "engine/layout_workload.h"
#include "support/layout_models.h"

namespace hylas {
namespace {

using test::LayoutKind;
using test::LayoutModel;
using test::LayoutOutcome;

LayoutOutcome run(const EngineOptions& options) {
  Result<std::unique_ptr<Engine>> started = Engine::start(options);
  HYLAS_CHECK(started.ok(), "{}", started.error().message);
  return test::run_layout_workload(**started);
}

std::string name_of(const ParallelSizes& s) { return fmt::format("tp{}_pp{}_ep{}_dp{}", s.tp, s.pp, s.ep, s.dp); }

// tp 1, 2, 4 x pp 1 - 4 x ep x dp, up to 8 ranks.
std::vector<ParallelSizes> layouts(bool with_experts) {
  std::vector<ParallelSizes> all;
  for (int tp : {1, 2, 4}) {
    for (int pp : {1, 2, 3, 4}) {
      for (int ep : {1, 2, 4}) {
        for (int dp : {1, 2}) {
          if (tp * pp > 8 || tp % ep != 0 || tp % dp != 0 || (ep > 1 && !with_experts)) continue;
          all.push_back({.tp = tp, .pp = pp, .ep = ep, .dp = dp});
        }
      }
    }
  }
  return all;
}

struct Case {
  LayoutModel model;
  const char* dtype;
  ParallelSizes sizes;
  std::string name() const { return fmt::format("{}_{}_{}", model.name(), dtype, name_of(sizes)); }
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.name(); }

std::vector<Case> all_cases() {
  std::vector<Case> cases;
  for (int layers : {8, 5}) {
    for (LayoutKind kind : {LayoutKind::kDense, LayoutKind::kMoe, LayoutKind::kMoeFp8}) {
      const char* dtype = kind == LayoutKind::kDense && layers == 8 ? "float32" : "bfloat16";
      for (const ParallelSizes& sizes : layouts(kind != LayoutKind::kDense)) {
        if (sizes.world() > 1) cases.push_back({{kind, layers}, dtype, sizes});
      }
    }
  }
  return cases;
}

class Layouts : public testing::TestWithParam<Case> {
 protected:
  static const LayoutOutcome& lone_rank(const Case& c) {
    static std::map<std::string, LayoutOutcome> known;
    const std::string key = c.model.name() + c.dtype;
    if (!known.contains(key)) known[key] = run(test::layout_options(layout_model_path(c.model), c.dtype, {}));
    return known[key];
  }
};

TEST_P(Layouts, SayWhatOneRankSays) {
  const Case& c = GetParam();
  const LayoutOutcome& expected = lone_rank(c);
  ASSERT_GT(expected.retractions, 0u) << "the memory was never tight";
  const LayoutOutcome got = run(test::layout_options(layout_model_path(c.model), c.dtype, c.sizes));
  for (const auto& [index, said] : expected.said) {
    EXPECT_EQ(got.said.at(index).tokens, said.tokens) << "request " << index;
    EXPECT_EQ(got.said.at(index).logprob_bits, said.logprob_bits) << "request " << index;
  }
}

// What the sanitizers take of it: all four sizes at once, and a pipeline of as many stages as there may be.
std::vector<Case> some_cases() {
  std::vector<Case> cases;
  for (const Case& c : all_cases()) {
    const ParallelSizes& s = c.sizes;
    const bool mixed = s.tp == 2 && s.pp == 2 && s.ep == 2 && s.dp == 2 && c.model.kind == LayoutKind::kMoe;
    const bool deep = s.tp == 2 && s.pp == 4 && s.dp == 1 && c.model.kind == LayoutKind::kDense;
    if (c.model.layers == 5 && (mixed || deep)) cases.push_back(c);
  }
  return cases;
}
INSTANTIATE_TEST_SUITE_P(Some, Layouts, testing::ValuesIn(some_cases()),
                         [](const auto& info) { return info.param.name(); });
INSTANTIATE_TEST_SUITE_P(MatrixSlow, Layouts, testing::ValuesIn(all_cases()),
                         [](const auto& info) { return info.param.name(); });

}  // namespace
}  // namespace hylas
