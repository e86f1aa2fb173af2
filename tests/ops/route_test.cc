// Choice of experts.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "support/reference_ops.h"

namespace hylas::test {
namespace {

class Route : public PerIsa {};
HYLAS_PER_ISA(Route);

TEST_P(Route, TakesTheLargestProbabilitiesAndRenormalises) {
  Machine machine(GetParam());
  struct Case {
    int64_t tokens, experts, k;
  };
  for (const Case& c : {Case{3, 4, 2}, Case{50, 16, 4}, Case{20, 512, 10}, Case{1, 7, 7}, Case{0, 8, 2}}) {
    HostTensor logits = random_tensor(random, DType::kF32, {c.tokens, c.experts}, 3.f, 1);
    HostTensor ids = poisoned(DType::kI32, {c.tokens, c.k}), weights = poisoned(DType::kF32, {c.tokens, c.k});
    cpu::moe_route(machine.pool, machine.scratch, logits, ids, weights);
    for (int64_t t = 0; t < c.tokens; ++t) {
      std::vector<double> x = values(logits, t, 1), wanted;
      std::vector<int32_t> order(x.size());
      std::iota(order.begin(), order.end(), 0);
      std::stable_sort(order.begin(), order.end(),
                       [&](int32_t a, int32_t b) { return x[static_cast<size_t>(a)] > x[static_cast<size_t>(b)]; });
      double sum = 0;
      for (int64_t i = 0; i < c.k; ++i) {
        EXPECT_EQ(ids.view.row<int32_t>(t)[i], order[static_cast<size_t>(i)]);
        wanted.push_back(
            std::exp(x[static_cast<size_t>(order[static_cast<size_t>(i)])] - x[static_cast<size_t>(order[0])]));
        sum += wanted.back();
      }
      for (double& weight : wanted) weight /= sum;
      EXPECT_TRUE(close(values(weights, t, 1), wanted, 1e-7, 2e-6));
    }
  }
}

TEST_P(Route, LowestIdWinsTies) {
  Machine machine(GetParam());
  HostTensor logits = poisoned(DType::kF32, {1, 40}), ids = poisoned(DType::kI32, {1, 3});
  HostTensor weights = poisoned(DType::kF32, {1, 3});
  for (int64_t e = 0; e < 40; ++e) set(logits, 0, e, e % 10 == 7 ? 2.f : 1.f);
  cpu::moe_route(machine.pool, machine.scratch, logits, ids, weights);
  EXPECT_EQ(values(ids), (std::vector<double>{7, 17, 27}));
}

TEST_P(Route, BrokenLogitsStillGiveValidIds) {
  Machine machine(GetParam());
  HostTensor logits = poisoned(DType::kF32, {1, 9}), ids = poisoned(DType::kI32, {1, 2});
  HostTensor weights = poisoned(DType::kF32, {1, 2});
  cpu::moe_route(machine.pool, machine.scratch, logits, ids, weights);
  EXPECT_EQ(values(ids), (std::vector<double>{0, 1}));
}

}  // namespace
}  // namespace hylas::test
