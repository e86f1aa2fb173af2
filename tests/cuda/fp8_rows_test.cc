// Products of at most 16 rows with FP8 weights beside the CPU's on the same quantized activations.
#include <gtest/gtest.h>

#include "cuda/fp8_side.h"
#include "cuda/rows_side.h"

namespace hylas::test {
namespace {

struct Case {
  int64_t rows, inputs, outputs, gap;
};

class CudaFp8Rows : public testing::TestWithParam<Case> {
 protected:
  std::mt19937 random_{94};
};

// Every kernel, full and not; fewer blocks of inputs than warps, as many, more than a warp holds at a time and no
// multiple of them; outputs that leave a block's part empty; few and many blocks of outputs.
std::vector<Case> cases() {
  std::vector<Case> all;
  for (int64_t rows : {1, 2, 3, 7, 8, 9, 16}) {
    all.push_back({rows, 128, 40, 8});
    all.push_back({rows, 256, 61, 3});
    all.push_back({rows, 2048, 136, 0});
    all.push_back({rows, 1280, 4360, 16});  // in every size of block
    all.push_back({rows, 256, 9232, 0});
    all.push_back({rows, 128, 12296, 0});
    all.push_back({rows, 256, 16400, 0});
    all.push_back({rows, 4096, 24, 0});
    all.push_back({rows, 5120, 16, 0});
  }
  for (int64_t rows : {1, 6, 13}) all.push_back({rows, 17408, 24, 0});
  return all;
}
INSTANTIATE_TEST_SUITE_P(Shapes, CudaFp8Rows, testing::ValuesIn(cases()));

// Rows that are nothing but zeros (or hold a value far above the others) are quantized like any other.
Matrix rows_of(std::mt19937& random, const Case& c) {
  Matrix x = random_matrix(random, DType::kBF16, c.rows, c.inputs, 1.f, (c.gap + 7) / 8 * 8);
  for (int64_t i = 0; i < c.inputs; ++i) {
    if (c.rows > 2) set_element(x.view, c.rows / 2, i, 0.f);
    if (i % (3 * kFp8Block) == 3) set_element(x.view, c.rows - 1, i, 300.f);
  }
  return x;
}

TEST_P(CudaFp8Rows, EqualsTheCpuOnTheQuantizedRows) {
  const Case c = GetParam();
  const Matrix x = rows_of(random_, c), small = quantized(x.view);
  const Matrix w = random_matrix(random_, DType::kF8E4M3, c.outputs, c.inputs, 0.05f, c.gap / 16 * 16),
               v = random_matrix(random_, DType::kF8E4M3, 24, c.inputs, 0.05f);
  HostTensor out = poisoned(DType::kBF16, {c.rows, c.outputs}, c.gap), more = poisoned(DType::kF32, {c.rows, 24});
  OnDevice dx(x), dout(out), dmore(more);
  const WeightOnDevice dw(w), dv(v);
  const LinearWeight weights[] = {w.weight(), v.weight()}, dweights[] = {dw.weight(), dv.weight()};
  HostTensor wanted = poisoned(DType::kF32, {c.rows, c.outputs}), wanted_more = poisoned(DType::kF32, {c.rows, 24});
  const Tensor outs[] = {wanted, wanted_more}, douts[] = {dout, dmore};
  cpu_ops().linear(small.view, weights, outs);
  run_on(engine_ops(), [&](Ops& ops) { ops.linear(dx, dweights, douts); });
  EXPECT_TRUE(near(dmore, wanted_more, 1e-5)) << "a value that was rounded the other way would show";
  EXPECT_TRUE(near(dout, wanted, 2.5e-3));
  for (int64_t r = 0; r < c.rows; ++r) {
    for (int64_t i = 0; i < c.outputs; ++i) set(out, r, i, static_cast<float>(get(wanted, r, i)));
  }
  EXPECT_TRUE(equal(dout, out, 1e-3, 2 * rounding(DType::kBF16))) << "and nothing between the rows";
}

// The whole sum comes as the first slice.
TEST_P(CudaFp8Rows, SlicesAddUpToTheWhole) {
  const Case c = GetParam();
  const Matrix x = rows_of(random_, c), small = quantized(x.view);
  const Matrix w = random_matrix(random_, DType::kF8E4M3, c.outputs, c.inputs, 0.05f);
  OnDevice dx(x);
  const WeightOnDevice dw(w);
  HostTensor whole = poisoned(DType::kF32, {1, c.rows, c.outputs});
  cpu_ops().linear_partial(small.view, w.weight(), whole);
  for (int64_t slices : {1, 4}) {
    OnDevice dpartials(poisoned(DType::kF32, {slices, c.rows, c.outputs}));
    run_on(engine_ops(), [&](Ops& ops) { ops.linear_partial(dx, dw.weight(), dpartials); });
    const HostTensor got = dpartials.host();
    EXPECT_TRUE(close(values(got, 0, 1), values(whole), 1e-3, 1e-4)) << slices;
    for (int64_t s = 1; s < slices; ++s) {
      for (const double value : values(got, s, 1)) ASSERT_EQ(value, 0) << s;
    }
  }
}

// Both products of a gated MLP and silu in one launch, or in several where there are more rows.
TEST(CudaFp8Mlp, GateAndUpEqualTheCpuOnTheQuantizedRows) {
  std::mt19937 random(98);
  for (const auto& [inputs, width] : {std::pair<int64_t, int64_t>{256, 61}, {1280, 72}, {640, 4424}}) {
    const Matrix gate = random_matrix(random, DType::kF8E4M3, width, inputs, 0.05f),
                 up = random_matrix(random, DType::kF8E4M3, width, inputs, 0.05f);
    const WeightOnDevice dgate(gate), dup(up);
    for (int64_t rows : {1, 2, 3, 8, 13, 16, 17}) {
      if (rows > 16 && width % 8 != 0) continue;  // DeepGEMM does not take it
      const Matrix x = random_matrix(random, DType::kBF16, rows, inputs, 1.f, 8), small = quantized(x.view);
      HostTensor wanted = poisoned(DType::kF32, {rows, width}), scratch = poisoned(DType::kF32, {rows, width});
      cpu_ops().linear_silu_mul(small.view, gate.weight(), up.weight(), wanted, scratch);
      const OnDevice dx(x), out(poisoned(DType::kBF16, {rows, width})), more(poisoned(DType::kBF16, {rows, width}));
      run_on(engine_ops(), [&](Ops& ops) { ops.linear_silu_mul(dx, dgate.weight(), dup.weight(), out, more); });
      EXPECT_TRUE(near(out, wanted, 6e-3)) << rows << " rows, " << width << " of " << inputs;
      // Bit for bit what the two products and silu_mul give.
      const OnDevice a(poisoned(DType::kBF16, {rows, width})), b(poisoned(DType::kBF16, {rows, width}));
      run_on(engine_ops(), [&](Ops& ops) { ops.Ops::linear_silu_mul(dx, dgate.weight(), dup.weight(), a, b); });
      EXPECT_EQ(values(out.host()), values(a.host())) << rows << " rows, " << width << " of " << inputs;
    }
  }
}

// Out of `matrices` over rows [begin, begin + count) of x: of FP8 weights in `type`, of others in f32.
std::vector<HostTensor> run(const OnDevice& x, int64_t begin, int64_t count, const std::vector<LinearWeight>& matrices,
                            Ops& on, DType type = DType::kF32) {
  std::vector<std::unique_ptr<OnDevice>> outs;
  std::vector<Tensor> views;
  for (const LinearWeight& matrix : matrices) {
    const DType out = matrix.weight.dtype == DType::kF8E4M3 ? type : DType::kF32;
    outs.push_back(std::make_unique<OnDevice>(poisoned(out, {count, matrix.weight.dim(0)})));
    views.push_back(*outs.back());
  }
  run_on(on, [&](Ops& ops) { ops.linear(x.view.rows(begin, count), matrices, views); });
  std::vector<HostTensor> results;
  for (const auto& out : outs) results.push_back(out->host());
  return results;
}

bool same_bits(const HostTensor& a, const HostTensor& b) { return a.bytes == b.bytes; }

TEST(CudaFp8RowsBits, ARowIsTheSameInEveryBatch) {
  std::mt19937 random(95);
  for (const auto& [inputs, outputs] :
       {std::pair<int64_t, int64_t>{2048, 160}, {2048, 5000}, {256, 11000}, {5120, 72}}) {
    const OnDevice x(random_matrix(random, DType::kBF16, 16, inputs, 1.f));
    const WeightOnDevice w(random_matrix(random, DType::kF8E4M3, outputs, inputs, 0.05f));
    const HostTensor all = run(x, 0, 16, {w.weight()}, engine_ops())[0];
    for (int64_t count = 1; count < 16; ++count) {
      for (int64_t begin : {int64_t{0}, 16 - count}) {
        const HostTensor part = run(x, begin, count, {w.weight()}, engine_ops())[0];
        EXPECT_EQ(values(part), values(all, begin, count)) << count << " rows from " << begin;
      }
    }
  }
}

// A matrix alone, a part of it, and beside others. Results in f32 beside rounded ones are one for each head (a and b of
// a delta layer): they have the bits of the kernel of few outputs, as alone, in the launch of FP8's. Where nothing is
// rounded a matrix of 32 outputs goes to gemm_decode, whose sums have another order.
TEST(CudaFp8RowsBits, AMatrixIsTheSameBesideOthers) {
  std::mt19937 random(96);
  const int64_t inputs = 2048;
  const OnDevice x(random_matrix(random, DType::kBF16, 16, inputs, 1.f));
  const WeightOnDevice large(random_matrix(random, DType::kF8E4M3, 8192, inputs, 0.05f)),
      other(random_matrix(random, DType::kF8E4M3, 200, inputs, 0.05f)),
      a(random_matrix(random, DType::kBF16, 32, inputs, 0.05f)),
      b(random_matrix(random, DType::kBF16, 13, inputs, 0.05f));
  for (int64_t rows : {1, 3, 8, 16}) {
    const auto made = [&](const std::vector<LinearWeight>& matrices, DType type = DType::kF32) {
      return run(x, 0, rows, matrices, engine_ops(), type);
    };
    const std::vector<LinearWeight> all = {large.weight(), a.weight(), other.weight(), b.weight()};
    const auto together = made(all), rounded = made(all, DType::kBF16);
    EXPECT_TRUE(same_bits(together[0], made({large.weight()})[0])) << rows;
    EXPECT_TRUE(same_bits(together[2], made({other.weight()})[0])) << rows;
    const HostTensor a_alone = run(x, 0, rows, {a.weight()}, cuda_ops())[0],
                     b_alone = run(x, 0, rows, {b.weight()}, cuda_ops())[0];
    EXPECT_TRUE(same_bits(rounded[1], a_alone)) << rows;
    EXPECT_TRUE(same_bits(rounded[3], b_alone)) << rows;
    EXPECT_TRUE(same_bits(together[3], b_alone)) << rows;
    EXPECT_FALSE(same_bits(together[1], a_alone)) << "no other order is seen here, " << rows;
    EXPECT_TRUE(same_bits(rounded[0], made({large.weight()}, DType::kBF16)[0])) << rows;
    const LinearWeight whole = large.weight();
    const LinearWeight part{whole.weight.rows(4096, 48), whole.scale.rows(32, 1)};
    const HostTensor few = made({part})[0];
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t i = 0; i < 48; ++i) ASSERT_EQ(get(few, r, i), get(together[0], r, 4096 + i)) << rows;
    }
  }
}

// Bf16 matrices that the kernel of small ones does not take, and more matrices than one launch holds.
TEST(CudaFp8RowsBits, WhatDoesNotFitInOneLaunchComesInSeveral) {
  std::mt19937 random(97);
  const OnDevice x(random_matrix(random, DType::kBF16, 5, 640, 1.f));
  std::vector<std::unique_ptr<WeightOnDevice>> held;
  std::vector<LinearWeight> matrices;
  for (const DType kind : {DType::kF8E4M3, DType::kBF16}) {
    for (int i = 0; i < 5; ++i) {
      held.push_back(std::make_unique<WeightOnDevice>(random_matrix(random, kind, 16 + 8 * i, 640, 0.05f)));
      matrices.push_back(held.back()->weight());
    }
  }
  const auto together = run(x, 0, 5, matrices, engine_ops());
  for (size_t i = 0; i < matrices.size(); ++i) {
    EXPECT_TRUE(same_bits(together[i], run(x, 0, 5, {matrices[i]}, engine_ops())[0])) << i;
  }
}

}  // namespace
}  // namespace hylas::test
