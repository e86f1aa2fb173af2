// Rows laid by expert from whole tiles on, and the products over them: the bits of each expert's own product, and
// nothing of tiles that nobody's rows lie in.
#include <gtest/gtest.h>

#include <cstring>
#include <set>

#include "cuda/fp8_experts_side.h"
#include "cuda/rows_side.h"
#include "ops/cuda/fp8_gemm.h"
#include "ops/cuda/moe_kernels.h"
#include "ops/cuda/products.h"
#include "tensor/cuda/cuda_device.h"

namespace hylas::test {
namespace {

constexpr int64_t kHidden = 256, kWidth = 128;
constexpr int32_t kUnset = 777;

struct Case {
  const char* name;
  int64_t tokens;
  int choices, experts;
  int begin;  // the first expert here; the model has as many before it as it says
  // Choice j of token t, of all the model's experts.
  int32_t (*choose)(int64_t t, int j, const Case& c);
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

// Neighbours from some expert on, in an order that scatters.
int32_t scattered(int64_t t, int j, const Case& c) {
  return static_cast<int32_t>((t * t * 7 + t / 3 + j) % (c.begin + c.experts));
}
int32_t odd(int64_t t, int j, const Case& c) { return scattered(t, j, c) | 1; }
int32_t one(int64_t, int, const Case& c) { return c.begin + c.experts / 2; }
int32_t elsewhere(int64_t t, int j, const Case& c) { return static_cast<int32_t>((t + j) % c.begin); }
int32_t last(int64_t, int j, const Case& c) { return c.begin + c.experts - 1 - j; }

HostTensor unset(int64_t count) {
  return int_tensor(std::vector<int32_t>(static_cast<size_t>(count), kUnset), {count});
}

cuda::Stream stream() { return static_cast<CudaDevice&>(cuda_ops().device()).stream(); }

cuda::Fp8Rows fp8_rows(const OnDevice& values, const OnDevice& scales) {
  return {values.view.data, scales.view.as<float>(), values.view.dim(0), values.view.dim(1), scales.view.row_stride};
}

class CudaGroupedRows : public testing::TestWithParam<Case> {
 protected:
  CudaGroupedRows() : case_(GetParam()), pairs_(case_.tokens * case_.choices) {
    tile_ = fp8_grouped_tile(pairs_, case_.experts);
    rows_ = fp8_grouped_rows(pairs_, case_.experts, tile_.rows);
    for (int64_t t = 0; t < case_.tokens; ++t) {
      for (int j = 0; j < case_.choices; ++j) ids_.push_back(case_.choose(t, j, case_));
    }
    const OnDevice ids(int_tensor(ids_, {case_.tokens, case_.choices})), counters(unset(case_.experts));
    expert_ = std::make_unique<OnDevice>(unset(rows_ + 1));
    token_ = std::make_unique<OnDevice>(unset(rows_));
    pair_of_ = std::make_unique<OnDevice>(unset(pairs_));
    cuda::moe_sort_padded({.ids = cuda::view(ids.view),
                           .tokens = case_.tokens,
                           .k = case_.choices,
                           .expert_begin = case_.begin,
                           .experts = case_.experts,
                           .run_rows = tile_.rows,
                           .pair_token = token_->view.as<int32_t>(),
                           .pair_of = pair_of_->view.as<int32_t>(),
                           .counters = counters.view.as<int32_t>()},
                          expert_->view.as<int32_t>(), rows_, stream());
    const HostTensor expert = expert_->host(), pair_of = pair_of_->host();
    row_expert_.assign(expert.view.as<int32_t>(), expert.view.as<int32_t>() + rows_);
    used_ = expert.view.as<int32_t>()[rows_];
    row_of_.assign(pair_of.view.as<int32_t>(), pair_of.view.as<int32_t>() + pairs_);
  }

  // Rows [used_, rows_) of what a kernel wrote are poison still.
  void expect_untouched(const OnDevice& rows) const {
    const HostTensor host = rows.host();
    const auto row = static_cast<size_t>(host.view.row_stride * dtype_bytes(host.view.dtype));
    for (size_t i = static_cast<size_t>(used_) * row; i < static_cast<size_t>(rows_) * row; ++i) {
      ASSERT_EQ(host.bytes[i], std::byte{0xff}) << "row " << i / row << " of " << used_;
    }
  }

  // Every pair's row of `rows` is its token's row of its expert's own, `alone` [experts][tokens].
  void expect_equal(const OnDevice& rows, const std::vector<HostTensor>& alone) const {
    const HostTensor host = rows.host();
    const auto row = static_cast<size_t>(host.view.row_stride * dtype_bytes(host.view.dtype));
    for (int64_t i = 0; i < pairs_; ++i) {
      if (row_of_[i] < 0) continue;
      const HostTensor& wanted = alone[static_cast<size_t>(ids_[i] - case_.begin)];
      ASSERT_EQ(0, std::memcmp(host.bytes.data() + static_cast<size_t>(row_of_[i]) * row,
                               wanted.bytes.data() + static_cast<size_t>(i / case_.choices) * row, row))
          << "pair " << i << " in row " << row_of_[i];
    }
  }

  Case case_;
  int64_t pairs_, rows_ = 0, used_ = 0;
  Fp8Tile tile_;
  std::vector<int32_t> ids_, row_expert_, row_of_;
  std::unique_ptr<OnDevice> expert_, token_, pair_of_;
};

// Tiles of 64 and of 128 rows, one block that sorts and many, more rows than a pass has threads.
INSTANTIATE_TEST_SUITE_P(Routes, CudaGroupedRows,
                         testing::Values(Case{"OneToken", 1, 3, 8, 0, last}, Case{"Few", 20, 2, 300, 0, scattered},
                                         Case{"Ragged", 333, 3, 6, 0, scattered}, Case{"Tall", 700, 4, 8, 0, odd},
                                         Case{"OneExpert", 900, 1, 32, 0, one}, Case{"Part", 500, 8, 16, 16, scattered},
                                         Case{"LastOnly", 640, 2, 100, 5, last},
                                         Case{"NoneHere", 300, 4, 8, 8, elsewhere},
                                         Case{"NoneOfMany", 1500, 2, 8, 8, elsewhere},
                                         Case{"Many", 4000, 10, 40, 0, odd}),
                         [](const auto& one) { return one.param.name; });

TEST_P(CudaGroupedRows, EveryExpertBeginsWithATileAndTheEndIsKnown) {
  std::vector<int64_t> count(static_cast<size_t>(case_.experts));
  std::set<int32_t> places;
  const HostTensor token = token_->host();
  for (int64_t i = 0; i < pairs_; ++i) {
    const int32_t expert = ids_[i] - case_.begin, row = row_of_[i];
    const bool held = expert >= 0 && expert < case_.experts;
    ASSERT_EQ(row >= 0, held) << "pair " << i;
    if (!held) continue;
    ++count[static_cast<size_t>(expert)];
    ASSERT_LT(row, rows_);
    ASSERT_EQ(row_expert_[row], expert);
    ASSERT_EQ(token.view.as<int32_t>()[row], i / case_.choices);
    ASSERT_TRUE(places.insert(row).second) << "row " << row << " twice";
  }
  int64_t row = 0;
  for (int32_t expert = 0; expert < case_.experts; ++expert) {
    const int64_t mine = count[static_cast<size_t>(expert)],
                  end = row + (mine + tile_.rows - 1) / tile_.rows * tile_.rows;
    for (int64_t i = 0; row < end; ++row, ++i) ASSERT_EQ(row_expert_[row], i < mine ? expert : -1) << "row " << row;
  }
  EXPECT_EQ(used_, row);
  for (; row < rows_; ++row) ASSERT_EQ(row_expert_[row], -1) << "row " << row;
}

// Gate and up, silu, down, as Ops::moe calls them, beside the same of each expert with all tokens' rows.
TEST_P(CudaGroupedRows, HaveTheBitsOfEachExpertsOwnProduct) {
  std::mt19937 random(97);
  std::vector<Matrix> first, second;
  std::vector<const Matrix*> firsts, seconds;
  for (int e = 0; e < case_.experts; ++e) {
    first.push_back(random_matrix(random, DType::kF8E4M3, 2 * kWidth, kHidden, 0.08f));
    second.push_back(random_matrix(random, DType::kF8E4M3, kHidden, kWidth, 0.08f));
  }
  for (int e = 0; e < case_.experts; ++e) firsts.push_back(&first[e]), seconds.push_back(&second[e]);
  const Together gate_up(firsts), down(seconds);
  const RowsOnDevice x(random_matrix(random, DType::kBF16, case_.tokens, kHidden, 1.f));
  const auto* row_expert = expert_->view.as<int32_t>();

  const int64_t scales = (rows_ + 3) / 4 * 4;
  const OnDevice taken(poisoned(DType::kF8E4M3, {rows_, kHidden})), taken_scales(poisoned(DType::kF32, {2, scales})),
      both(poisoned(DType::kBF16, {rows_, 2 * kWidth})), halves(poisoned(DType::kF8E4M3, {rows_, kWidth})),
      halves_scales(poisoned(DType::kF32, {1, scales})), out(poisoned(DType::kBF16, {rows_, kHidden}));
  const cuda::Fp8Rows tokens = fp8_rows(x.fp8, x.scales), laid = fp8_rows(taken, taken_scales),
                      between = fp8_rows(halves, halves_scales);
  cuda::take_fp8(tokens, row_expert, token_->view.as<int32_t>(), laid, stream());
  cuda::fp8_multiply_grouped(laid, cuda::view(gate_up.placed[0]), 2 * kWidth, case_.experts, tile_, row_expert,
                             cuda::view(both.view), stream());
  cuda::silu_mul_quantize_rows(cuda::view(both.view), row_expert, between, stream());
  cuda::fp8_multiply_grouped(between, cuda::view(down.placed[0]), kHidden, case_.experts, tile_, row_expert,
                             cuda::view(out.view), stream());
  for (const OnDevice* rows : {&taken, &both, &halves, &out}) expect_untouched(*rows);

  std::vector<HostTensor> both_alone, halves_alone, out_alone;
  const int64_t own = (case_.tokens + 3) / 4 * 4;
  for (int e = 0; e < case_.experts; ++e) {
    const OnDevice a(poisoned(DType::kBF16, {case_.tokens, 2 * kWidth})),
        b(poisoned(DType::kF8E4M3, {case_.tokens, kWidth})), s(poisoned(DType::kF32, {1, own})),
        c(poisoned(DType::kBF16, {case_.tokens, kHidden}));
    cuda::fp8_multiply(tokens, cuda::view(gate_up.placed[e]), 2 * kWidth, cuda::view(a.view), stream());
    cuda::silu_mul_quantize_rows(cuda::view(a.view), nullptr, fp8_rows(b, s), stream());
    cuda::fp8_multiply(fp8_rows(b, s), cuda::view(down.placed[e]), kHidden, cuda::view(c.view), stream());
    both_alone.push_back(a.host()), halves_alone.push_back(b.host()), out_alone.push_back(c.host());
  }
  expect_equal(both, both_alone);
  expect_equal(halves, halves_alone);
  expect_equal(out, out_alone);
}

}  // namespace
}  // namespace hylas::test
