// The experts on the GPU: moe(), and its halves for expert parallelism.
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "cuda/parity.h"

namespace hylas::test {
namespace {

struct MoeCase {
  DType act, weight;
  int64_t tokens, hidden, width, shared_width;
  int experts, choices;
};

struct Layer {
  std::vector<Matrix> matrices;  // gate, up, down of every expert, then of the shared one
  std::vector<std::unique_ptr<WeightOnDevice>> copies;

  template <class Get>
  void fill(int begin, int end, Get get, ExpertWeights& experts) const {
    experts.expert_begin = begin;
    for (int e = begin; e < end; ++e) {
      experts.gate.push_back(get(3 * e));
      experts.up.push_back(get(3 * e + 1));
      experts.down.push_back(get(3 * e + 2));
    }
  }
};

class CudaMoe : public testing::TestWithParam<MoeCase> {
 protected:
  void SetUp() override {
    const MoeCase& c = GetParam();
    for (int e = 0; e <= c.experts; ++e) {
      const int64_t width = e < c.experts ? c.width : c.shared_width;
      layer_.matrices.push_back(random_matrix(random_, c.weight, width, c.hidden, 0.08f));
      layer_.matrices.push_back(random_matrix(random_, c.weight, width, c.hidden, 0.08f));
      layer_.matrices.push_back(random_matrix(random_, c.weight, c.hidden, width, 0.08f));
    }
    for (const Matrix& matrix : layer_.matrices) layer_.copies.push_back(std::make_unique<WeightOnDevice>(matrix));
    std::vector<int32_t> order(static_cast<size_t>(c.experts)), all;
    std::iota(order.begin(), order.end(), 0);
    for (int64_t t = 0; t < c.tokens; ++t) {
      std::shuffle(order.begin(), order.end(), random_);
      all.insert(all.end(), order.begin(), order.begin() + c.choices);
    }
    ids_ = int_tensor(all, {c.tokens, c.choices});
    weights_ = random_tensor(random_, DType::kF32, {c.tokens, c.choices}, 0.5f);
    logit_ = random_tensor(random_, DType::kF32, {c.tokens, 1}, 1.f);
  }
  LinearWeight host(int i) const { return layer_.matrices[static_cast<size_t>(i)].weight(); }
  LinearWeight device(int i) const { return layer_.copies[static_cast<size_t>(i)]->weight(); }
  double tolerance() const { return GetParam().act == DType::kBF16 ? 5e-3 : 1e-5; }

  std::mt19937 random_{76};
  Layer layer_;
  HostTensor ids_, weights_, logit_;
};
INSTANTIATE_TEST_SUITE_P(Kinds, CudaMoe,
                         testing::Values(MoeCase{DType::kF32, DType::kF32, 7, 40, 24, 16, 5, 2},
                                         MoeCase{DType::kF32, DType::kF8E4M3, 30, 256, 128, 128, 8, 3},
                                         MoeCase{DType::kBF16, DType::kBF16, 1, 128, 64, 64, 8, 2},
                                         MoeCase{DType::kBF16, DType::kBF16, 700, 256, 128, 64, 6, 2},
                                         MoeCase{DType::kBF16, DType::kF8E4M3, 64, 512, 256, 128, 64, 8},
                                         MoeCase{DType::kBF16, DType::kF8E4M3, 400, 512, 384, 256, 4, 2},
                                         MoeCase{DType::kBF16, DType::kBF16, 33, 72, 40, 24, 4, 4}));

TEST_P(CudaMoe, EqualsTheCpuWholeAndInPart) {
  const MoeCase& c = GetParam();
  const Matrix x = random_matrix(random_, c.act, c.tokens, c.hidden, 1.f, 8);
  OnDevice dx(x), dids(ids_), dweights(weights_), dlogit(logit_);
  const SharedExpertWeights shared{host(3 * c.experts), host(3 * c.experts + 1), host(3 * c.experts + 2)};
  const SharedExpertWeights dshared{device(3 * c.experts), device(3 * c.experts + 1), device(3 * c.experts + 2)};
  for (const auto& [begin, end, slices, with_shared] :
       {std::tuple{0, c.experts, 1, true}, {0, c.experts, 4, true}, {1, 3, 2, false}, {0, 0, 1, true}}) {
    ExpertWeights experts, dexperts;
    layer_.fill(begin, end, [&](int i) { return host(i); }, experts);
    layer_.fill(begin, end, [&](int i) { return device(i); }, dexperts);
    if (begin == end && c.tokens > 100) continue;
    HostTensor partials = poisoned(DType::kF32, {slices, c.tokens, c.hidden});
    OnDevice dpartials(partials);
    cpu_ops().moe(x.view, ids_, weights_, experts, with_shared ? &shared : nullptr, logit_, partials);
    cuda_ops().moe(dx, dids, dweights, dexperts, with_shared ? &dshared : nullptr, dlogit, dpartials);
    EXPECT_TRUE(near(dpartials, partials, tolerance()))
        << "experts " << begin << " to " << end << ", slices " << slices;
  }
}

// The halves give moe()'s bits.
TEST_P(CudaMoe, TheHalvesMakeTheWhole) {
  const MoeCase& c = GetParam();
  const Matrix x = random_matrix(random_, c.act, c.tokens, c.hidden, 1.f);
  OnDevice dx(x), dids(ids_), dweights(weights_), dlogit(logit_);
  const SharedExpertWeights dshared{device(3 * c.experts), device(3 * c.experts + 1), device(3 * c.experts + 2)};
  ExpertWeights dexperts;
  layer_.fill(0, c.experts, [&](int i) { return device(i); }, dexperts);
  OnDevice whole(poisoned(DType::kF32, {2, c.tokens, c.hidden})),
      halves(poisoned(DType::kF32, {2, c.tokens, c.hidden}));
  cuda_ops().moe(dx, dids, dweights, dexperts, &dshared, dlogit, whole);

  // Every (token, choice) as a row of its own, in another order.
  const int64_t pairs = c.tokens * c.choices;
  std::vector<int32_t> order(static_cast<size_t>(pairs)), token(order), expert(order), place(order);
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), random_);
  for (int32_t i = 0; i < static_cast<int32_t>(pairs); ++i) {
    const int32_t pair = order[static_cast<size_t>(i)];
    token[static_cast<size_t>(i)] = pair / c.choices;
    expert[static_cast<size_t>(i)] = ids_.view.as<int32_t>()[pair];
    place[static_cast<size_t>(pair)] = i;
  }
  OnDevice dtoken(int_tensor(token, {pairs})), dexpert(int_tensor(expert, {pairs, 1})),
      dplace(int_tensor(place, {c.tokens, c.choices}));
  OnDevice drows_x(poisoned(c.act, {pairs, c.hidden})), drows(poisoned(DType::kF32, {2, pairs, c.hidden}));
  cuda_ops().gather_rows(dx, dtoken, drows_x);
  cuda_ops().moe_expert_rows(drows_x, dexpert, dexperts, drows, {});
  cuda_ops().moe_combine(drows, dplace, dweights, dx, &dshared, dlogit, halves);
  EXPECT_EQ(whole.host().bytes, halves.host().bytes);
}

// So do several ranks that each get all tokens and write the rows of the experts that they hold.
TEST_P(CudaMoe, RanksWriteTheRowsOfTheirExperts) {
  const MoeCase& c = GetParam();
  const Matrix x = random_matrix(random_, c.act, c.tokens, c.hidden, 1.f);
  OnDevice dx(x), dids(ids_), dweights(weights_), dlogit(logit_);
  const SharedExpertWeights dshared{device(3 * c.experts), device(3 * c.experts + 1), device(3 * c.experts + 2)};
  ExpertWeights all;
  layer_.fill(0, c.experts, [&](int i) { return device(i); }, all);
  OnDevice whole(poisoned(DType::kF32, {2, c.tokens, c.hidden})), parts(poisoned(DType::kF32, {2, c.tokens, c.hidden}));
  cuda_ops().moe(dx, dids, dweights, all, &dshared, dlogit, whole);
  OnDevice drows(poisoned(DType::kF32, {2, c.tokens * c.choices, c.hidden})),
      dshared_rows(poisoned(DType::kF32, {2, c.tokens, c.hidden})),
      alone(poisoned(DType::kF32, {2, c.tokens, c.hidden}));
  for (const auto& [begin, end] : {std::pair{1, c.experts}, {0, 1}, {0, 0}}) {
    ExpertWeights held;
    layer_.fill(begin, end, [&](int i) { return device(i); }, held);
    const SharedRows shared{begin == 0 && end == 1 ? nullptr : &dshared, dx, dshared_rows};
    cuda_ops().moe_expert_rows(dx, dids, held, drows, shared);
  }
  std::vector<int32_t> in_place(static_cast<size_t>(c.tokens * c.choices));
  std::iota(in_place.begin(), in_place.end(), 0);
  OnDevice dplace(int_tensor(in_place, {c.tokens, c.choices}));
  cuda_ops().moe_combine(drows, dplace, dweights, dx, &dshared, dlogit, parts);
  EXPECT_EQ(whole.host().bytes, parts.host().bytes);
  // sigmoid(100) is 1 in f32.
  HostTensor open = poisoned(DType::kF32, {c.tokens, 1});
  for (int64_t t = 0; t < c.tokens; ++t) *open.view.row<float>(t) = 100.f;
  OnDevice dopen(open);
  cuda_ops().moe(dx, dids, dweights, {}, &dshared, dopen, alone);
  EXPECT_EQ(alone.host().bytes, dshared_rows.host().bytes);
}

}  // namespace
}  // namespace hylas::test
