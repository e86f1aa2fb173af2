// As many experts as the models have, as narrow as tensor parallelism makes them: units of several runs, items of
// several tiles, and all blocks busy to the end.
#include <gtest/gtest.h>

#include <cstring>

#include "cuda/fp8_experts_side.h"

namespace hylas::test {
namespace {

// A few experts' matrices, over and over.
constexpr int kDistinct = 8;

struct Layer {
  explicit Layer(const ExpertCase& c) : some({c.tokens, c.hidden, c.width, c.width, kDistinct, 1, kDistinct}), c(c) {
    std::vector<const Matrix*> pairs, downs;
    for (int e = 0; e < c.experts; ++e) {
      pairs.insert(pairs.end(), {&some.gate[e % kDistinct], &some.up[e % kDistinct]});
      downs.push_back(&some.down[e % kDistinct]);
    }
    both = std::make_unique<Together>(pairs);
    last = std::make_unique<Together>(downs);
    for (int e = 0; e < c.experts; ++e) {
      experts.gate.push_back(both->placed[2 * e]);
      experts.up.push_back(both->placed[2 * e + 1]);
      experts.down.push_back(last->placed[e]);
    }
    std::vector<int32_t> order(static_cast<size_t>(c.experts));
    std::iota(order.begin(), order.end(), 0);
    for (int64_t t = 0; t < c.tokens; ++t) {
      std::shuffle(order.begin(), order.end(), some.random);
      ids.insert(ids.end(), order.begin(), order.begin() + c.choices);
    }
    weights = random_tensor(some.random, DType::kF32, {c.tokens, c.choices}, 0.5f);
  }

  // The CPU's sums of `count` tokens from `begin` on.
  HostTensor wanted(int64_t begin, int64_t count) const {
    HostTensor sums = poisoned(DType::kF32, {count, c.hidden});
    const Tensor x = some.x.view.rows(begin, count);
    const HostTensor of_shared = expert_rows(x, some.gate.back(), some.up.back(), some.down.back());
    std::vector<HostTensor> rows;
    for (int e = 0; e < kDistinct; ++e) rows.push_back(expert_rows(x, some.gate[e], some.up[e], some.down[e]));
    for (int64_t t = 0; t < count; ++t) {
      const int64_t token = begin + t;
      for (int64_t i = 0; i < c.hidden; ++i) {
        double sum = get(of_shared, t, i) / (1 + std::exp(-get(some.logit, token, 0)));
        for (int j = 0; j < c.choices; ++j) {
          const int32_t id = ids[static_cast<size_t>(token * c.choices + j)];
          sum += get(weights, token, j) * get(rows[static_cast<size_t>(id % kDistinct)], t, i);
        }
        set(sums, t, i, static_cast<float>(sum));
      }
    }
    sums.view = sums.view.reshaped({1, count, c.hidden});
    return sums;
  }

  ExpertLayer some;
  ExpertCase c;
  std::unique_ptr<Together> both, last;
  ExpertWeights experts;
  std::vector<int32_t> ids;
  HostTensor weights;
};

class CudaNarrowExperts : public testing::TestWithParam<ExpertCase> {};
INSTANTIATE_TEST_SUITE_P(
    Shapes, CudaNarrowExperts,
    testing::Values(ExpertCase{8, 4096, 128, 128, 512, 10, 512}, ExpertCase{64, 4096, 128, 128, 512, 10, 512},
                    ExpertCase{256, 4096, 128, 128, 512, 10, 512}, ExpertCase{8, 4096, 256, 256, 512, 10, 512},
                    ExpertCase{64, 4096, 256, 256, 512, 10, 512}, ExpertCase{256, 4096, 256, 256, 512, 10, 512},
                    ExpertCase{256, 2048, 256, 256, 256, 8, 256}));

// The last tokens are those of the CPU, and all have the bits that they have among few.
TEST_P(CudaNarrowExperts, OfManyTokensAreThoseOfFew) {
  const Layer layer(GetParam());
  const ExpertCase& c = layer.c;
  const OnDevice dx(layer.some.x), dids(int_tensor(layer.ids, {c.tokens, c.choices})), dweights(layer.weights),
      dlogit(layer.some.logit);
  const auto run = [&](int64_t begin, int64_t count) {
    const OnDevice partials(poisoned(DType::kF32, {1, count, c.hidden}));
    run_on(few_rows_ops(), [&](Ops& ops) {
      ops.moe(dx.view.rows(begin, count), dids.view.rows(begin, count), dweights.view.rows(begin, count), layer.experts,
              &layer.some.shared, dlogit.view.rows(begin, count), partials);
    });
    return partials.host();
  };
  constexpr int64_t kFew = 8;
  const HostTensor all = run(0, c.tokens);
  const size_t bytes = static_cast<size_t>(kFew * c.hidden) * sizeof(float);
  for (int64_t t = 0; t < c.tokens; t += kFew) {
    const HostTensor few = run(t, kFew);
    ASSERT_EQ(std::memcmp(few.bytes.data(), all.bytes.data() + static_cast<size_t>(t / kFew) * bytes, bytes), 0) << t;
    if (t + kFew < c.tokens) continue;
    EXPECT_TRUE(near(OnDevice(few), layer.wanted(t, kFew), 1e-2));
  }
}

}  // namespace
}  // namespace hylas::test
