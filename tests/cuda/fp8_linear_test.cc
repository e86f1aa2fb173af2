// Products on the FP8 tensor cores beside the CPU's on the same quantized activations.
#include <gtest/gtest.h>

#include "cuda/fp8_side.h"
#include "ops/decode_plan.h"

namespace hylas::test {
namespace {

struct Case {
  int64_t rows, inputs, outputs, gap;
};

class CudaFp8Linear : public testing::TestWithParam<Case> {
 protected:
  std::mt19937 random_{91};
};
// Every tile, whole and cut; few rows of many outputs, which go to gemm_decode; odd numbers of tiles, which leave a
// block of a pair alone; 9B's longest rows.
INSTANTIATE_TEST_SUITE_P(Shapes, CudaFp8Linear,
                         testing::Values(Case{1, 128, 128, 0}, Case{5, 256, 40, 8}, Case{30, 384, 12296, 8},
                                         Case{63, 384, 136, 0}, Case{16, 1152, 12416, 0}, Case{64, 256, 25000, 8},
                                         Case{64, 128, 512, 16}, Case{65, 512, 1024, 8}, Case{300, 640, 1304, 0},
                                         Case{129, 12288, 64, 0}, Case{700, 256, 2048, 8}, Case{1030, 384, 136, 0},
                                         Case{1500, 256, 2176, 0}));

TEST_P(CudaFp8Linear, EqualsTheCpuOnTheQuantizedRows) {
  const auto [rows, inputs, outputs, gap] = GetParam();
  Matrix x = random_matrix(random_, DType::kBF16, rows, inputs, 1.f, gap);
  for (int64_t c = 0; c < inputs; ++c) {  // nothing but zeros, and one value far above the others
    set_element(x.view, rows / 2, c, 0.f);
    if (c % kFp8Block == 3) set_element(x.view, rows - 1, c, 300.f);
  }
  const Matrix w = random_matrix(random_, DType::kF8E4M3, outputs, inputs, 0.05f, 0),
               v = random_matrix(random_, DType::kF8E4M3, 24, inputs, 0.05f), small = quantized(x.view);
  HostTensor out = poisoned(DType::kBF16, {rows, outputs}, gap), more = poisoned(DType::kF32, {rows, 24});
  OnDevice dx(x), dout(out), dmore(more);
  const WeightOnDevice dw(w), dv(v);
  const LinearWeight weights[] = {w.weight(), v.weight()}, dweights[] = {dw.weight(), dv.weight()};
  HostTensor wanted = poisoned(DType::kF32, {rows, outputs}), wanted_more = poisoned(DType::kF32, {rows, 24});
  const Tensor outs[] = {wanted, wanted_more}, douts[] = {dout, dmore};
  cpu_ops().linear(small.view, weights, outs);
  on_fp8([&](Ops& ops) { ops.linear(dx, dweights, douts); });
  EXPECT_TRUE(near(dout, wanted, 2.5e-3));
  EXPECT_TRUE(near(dmore, wanted_more, 2.5e-3));
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < outputs; ++c) set(out, r, c, static_cast<float>(get(wanted, r, c)));
  }
  // Where terms cancel the tensor cores' sums show: they keep some 14 bits of the largest product.
  EXPECT_TRUE(equal(dout, out, 8e-2, 2 * rounding(DType::kBF16))) << "and nothing between the rows";
}

// The whole sum comes as the first slice.
TEST_P(CudaFp8Linear, SlicesAddUpToTheWhole) {
  const auto [rows, inputs, outputs, gap] = GetParam();
  const Matrix x = random_matrix(random_, DType::kBF16, rows, inputs, 1.f, gap), small = quantized(x.view);
  const Matrix w = random_matrix(random_, DType::kF8E4M3, outputs, inputs, 0.05f, 0);
  OnDevice dx(x);
  const WeightOnDevice dw(w);
  HostTensor whole = poisoned(DType::kF32, {1, rows, outputs});
  cpu_ops().linear_partial(small.view, w.weight(), whole);
  for (int64_t slices : {1, 4}) {
    OnDevice dpartials(poisoned(DType::kF32, {slices, rows, outputs}));
    on_fp8([&](Ops& ops) { ops.linear_partial(dx, dw.weight(), dpartials); });
    const HostTensor got = dpartials.host();
    EXPECT_TRUE(close(values(got, 0, 1), values(whole), 2e-2, 2 * rounding(DType::kBF16))) << slices;
    for (int64_t s = 1; s < slices; ++s) {
      for (const double value : values(got, s, 1)) ASSERT_EQ(value, 0) << s;
    }
  }
}

// Gate and up, of few rows and of more; between rows nothing is written.
TEST(CudaFp8LinearRows, GateAndUpEqualTheCpu) {
  std::mt19937 random(93);
  constexpr int64_t kInputs = 256, kOutputs = 6160;
  const Matrix matrices[] = {random_matrix(random, DType::kF8E4M3, kOutputs, kInputs, 0.05f),
                             random_matrix(random, DType::kF8E4M3, kOutputs, kInputs, 0.05f)};
  const WeightOnDevice there[] = {WeightOnDevice(matrices[0]), WeightOnDevice(matrices[1])};
  for (const int64_t rows : {1, 20, 64, 65}) {
    const Matrix x = random_matrix(random, DType::kBF16, rows, kInputs, 1.f), small = quantized(x.view);
    const OnDevice dx(x);
    for (const int gate : {0, 1}) {
      HostTensor wanted = poisoned(DType::kF32, {rows, kOutputs}), scratch = poisoned(DType::kF32, {rows, kOutputs});
      cpu_ops().linear_silu_mul(small.view, matrices[gate].weight(), matrices[1 - gate].weight(), wanted, scratch);
      const OnDevice out(poisoned(DType::kBF16, {rows, kOutputs}, 8)), more(poisoned(DType::kBF16, {rows, kOutputs}));
      on_fp8([&](Ops& ops) { ops.linear_silu_mul(dx, there[gate].weight(), there[1 - gate].weight(), out, more); });
      EXPECT_TRUE(near(out, wanted, 5e-3)) << rows << " rows, gate " << gate;
      EXPECT_TRUE(equal(out, wanted, 8e-2, 8 * rounding(DType::kBF16))) << rows << " rows, gate " << gate;
    }
  }
}

// Every tile adds in the same order, so that batch mates change nothing: up to 64 rows, and more.
TEST(CudaFp8LinearRows, ARowIsTheSameInEveryBatch) {
  std::mt19937 random(92);
  constexpr int64_t kInputs = 640, kOutputs = 12416;
  const Matrix x = random_matrix(random, DType::kBF16, 1500, kInputs, 1.f);
  const Matrix w = random_matrix(random, DType::kF8E4M3, kOutputs, kInputs, 0.05f);
  OnDevice dx(x);
  const WeightOnDevice dw(w);
  const LinearWeight weight = dw.weight();
  const auto run = [&](int64_t begin, int64_t count) {
    const OnDevice part(poisoned(DType::kBF16, {count, kOutputs}));
    const Tensor out[] = {part};
    const Tensor rows = dx.view.rows(begin, count);
    on_fp8([&](Ops& ops) { ops.linear(rows, {&weight, 1}, out); });
    return part.host();
  };
  const HostTensor few = run(0, kDecodeFp8RowsMax), many = run(0, 1500);
  for (const auto& [begin, count] : {std::pair{0, 1}, {63, 1}, {7, 50}, {50, 65}, {640, 300}}) {
    const HostTensor& wanted = count <= kDecodeFp8RowsMax ? few : many;
    EXPECT_EQ(values(run(begin, count)), values(wanted, begin, count)) << count << " rows from " << begin;
  }
}

}  // namespace
}  // namespace hylas::test
