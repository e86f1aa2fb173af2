// Products of a decode step's rows with bf16 weights (ops/cuda/gemm_decode.cu): right beside the CPU's, and the same
// bits in every tile and batch.
#include <gtest/gtest.h>

#include <cstring>

#include "cuda/parity.h"
#include "ops/cuda/gemm_decode.h"
#include "tensor/cuda/cuda_device.h"

namespace hylas::test {
namespace {

Matrix bf16(std::mt19937& random, int64_t rows, int64_t columns, float size, int64_t gap = 0) {
  return random_matrix(random, DType::kBF16, rows, columns, size, gap);
}

class CudaDecodeLinear : public testing::TestWithParam<int64_t> {
 protected:
  std::mt19937 random_{91};
};
INSTANTIATE_TEST_SUITE_P(Rows, CudaDecodeLinear, testing::Values(1, 15, 16, 17, 33, 64, 65, 127, 128));

// Several matrices, the last tile of each with few outputs, no whole number of steps of K; one that goes another way.
TEST_P(CudaDecodeLinear, SeveralMatricesEqualTheCpu) {
  const int64_t rows = GetParam(), inputs = 328;
  const Matrix x = bf16(random_, rows, inputs, 1.f, 8);
  const OnDevice dx(x);
  std::vector<Matrix> matrices;
  std::vector<std::unique_ptr<WeightOnDevice>> there;
  std::vector<HostTensor> outs;
  std::vector<std::unique_ptr<OnDevice>> douts;
  std::vector<LinearWeight> weights, dweights;
  std::vector<Tensor> views, dviews;
  for (const int64_t outputs : {1304, 520, 8, 67, 136}) {
    matrices.push_back(bf16(random_, outputs, inputs, 0.05f, outputs % 16));
    there.push_back(std::make_unique<WeightOnDevice>(matrices.back()));
    outs.push_back(poisoned(outputs > 100 ? DType::kBF16 : DType::kF32, {rows, outputs}, 4));
    douts.push_back(std::make_unique<OnDevice>(outs.back()));
  }
  for (size_t i = 0; i < matrices.size(); ++i) {
    weights.push_back(matrices[i].weight());
    dweights.push_back(there[i]->weight());
    views.push_back(outs[i]);
    dviews.push_back(*douts[i]);
  }
  cpu_ops().linear(x.view, weights, views);
  cuda_ops().linear(dx, dweights, dviews);
  for (size_t i = 0; i < matrices.size(); ++i) {
    EXPECT_TRUE(equal(*douts[i], outs[i], 2e-5, 2 * rounding(outs[i].view.dtype))) << "matrix " << i;
  }
}

TEST_P(CudaDecodeLinear, SlicesEqualTheCpu) {
  const int64_t rows = GetParam(), inputs = 768, outputs = 712;
  const Matrix x = bf16(random_, rows, inputs, 1.f, 16), w = bf16(random_, outputs, inputs, 0.05f);
  const OnDevice dx(x);
  const WeightOnDevice dw(w);
  for (const int64_t slices : {1, 2, 4}) {
    HostTensor partials = poisoned(DType::kF32, {slices, rows, outputs});
    const OnDevice dpartials(partials);
    cpu_ops().linear_partial(x.view, w.weight(), partials);
    cuda_ops().linear_partial(dx, dw.weight(), dpartials);
    EXPECT_TRUE(equal(dpartials, partials, 2e-5, 1e-5)) << slices;
  }
}

// Whichever of the two lies first.
TEST_P(CudaDecodeLinear, GateAndUpEqualTheCpu) {
  const int64_t rows = GetParam(), inputs = 456, outputs = 1016;
  const Matrix x = bf16(random_, rows, inputs, 1.f);
  const Matrix matrices[] = {bf16(random_, outputs, inputs, 0.05f), bf16(random_, outputs, inputs, 0.05f)};
  const WeightOnDevice there[] = {WeightOnDevice(matrices[0]), WeightOnDevice(matrices[1])};
  const OnDevice dx(x);
  for (const int gate : {0, 1}) {
    HostTensor out = poisoned(DType::kBF16, {rows, outputs}, 4), scratch = poisoned(DType::kBF16, {rows, outputs});
    const OnDevice dout(out), dscratch(scratch);
    cpu_ops().linear_silu_mul(x.view, matrices[gate].weight(), matrices[1 - gate].weight(), out, scratch);
    cuda_ops().linear_silu_mul(dx, there[gate].weight(), there[1 - gate].weight(), dout, dscratch);
    // A product that is rounded the other way moves its factor by a whole step of bf16.
    EXPECT_TRUE(equal(dout, out, 1e-2, 4 * rounding(DType::kBF16))) << gate;
    EXPECT_TRUE(near(dout, out, 3e-3)) << gate;
  }
}

// A row alone among others, at any place, in any number of rows that this kernel takes.
TEST(CudaDecodeLinearBits, ARowIsTheSameInEveryBatch) {
  std::mt19937 random(92);
  constexpr int64_t kInputs = 1088, kOutputs = 1544;
  const OnDevice x(bf16(random, kDecodeRowsMax, kInputs, 1.f));
  const WeightOnDevice gate(bf16(random, kOutputs, kInputs, 0.05f)), up(bf16(random, kOutputs, kInputs, 0.05f));
  const auto run = [&](int64_t begin, int64_t rows) {
    const OnDevice out(poisoned(DType::kF32, {1, rows, kOutputs})), both(poisoned(DType::kBF16, {rows, kOutputs})),
        scratch(poisoned(DType::kBF16, {rows, kOutputs}));
    cuda_ops().linear_partial(x.view.rows(begin, rows), gate.weight(), out);
    cuda_ops().linear_silu_mul(x.view.rows(begin, rows), gate.weight(), up.weight(), both, scratch);
    return std::pair{out.host(), both.host()};
  };
  const auto all = run(0, kDecodeRowsMax);
  for (const auto& [begin, rows] : {std::pair<int64_t, int64_t>{0, 1}, {120, 8}, {96, 32}, {33, 50}, {60, 65}}) {
    const auto some = run(begin, rows);
    ASSERT_EQ(std::memcmp(some.first.view.row<float>(0), all.first.view.row<float>(0) + begin * kOutputs,
                          static_cast<size_t>(rows * kOutputs) * sizeof(float)),
              0)
        << rows << " rows from " << begin;
    EXPECT_EQ(values(some.second), values(all.second, begin, rows)) << rows << " rows from " << begin;
  }
}

// All tiles, also of fewer rows than there are: the same bits.
TEST(CudaDecodeLinearBits, TheTileDoesNotMatter) {
  std::mt19937 random(93);
  constexpr int64_t kInputs = 1152, kOutputs = 904, kRows = 16;
  const OnDevice x(bf16(random, kRows, kInputs, 1.f)), w(bf16(random, kOutputs, kInputs, 0.05f));
  cuda::Product product;
  product.x = {x.view.data, DType::kBF16, kInputs};
  product.weight_dtype = DType::kBF16;
  product.weight = {w.view.data, kInputs};
  product.rows = kRows, product.inputs = kInputs, product.outputs = kOutputs;
  product.slices = 2;
  product.slice_begin[1] = 576, product.slice_begin[2] = kInputs;
  product.slice_stride = kRows * kOutputs;
  cuda::DecodeGemm gemm(132);
  const auto run = [&](const DecodeTile& tile) {
    const OnDevice out(poisoned(DType::kF32, {2, kRows, kOutputs}));
    product.out = {out.view.data, DType::kF32, kOutputs};
    EXPECT_TRUE(gemm.takes(product));
    gemm.run(product, tile, static_cast<CudaDevice&>(cuda_ops().device()).stream());
    return out.host();
  };
  const HostTensor wanted = run({24, 128, 4});
  for (const int32_t columns : {16, 32, 64, 128}) {
    for (const int32_t groups : {2, 4, 8, 10, 16, 18, 24}) {
      DecodeTile most = {groups, columns, kDecodeStagesMax};
      while (decode_shared_bytes(most, false) > int64_t{225} << 10) --most.stages;
      for (const int32_t stages : {2, most.stages}) {
        const HostTensor got = run({groups, columns, stages});
        ASSERT_EQ(std::memcmp(got.bytes.data(), wanted.bytes.data(), wanted.bytes.size()), 0)
            << groups << " groups, " << columns << " columns, " << stages << " stages";
      }
    }
  }
}

}  // namespace
}  // namespace hylas::test
