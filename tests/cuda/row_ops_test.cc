// Copies of rows, norms, the gate product and routing on the GPU.
#include <gtest/gtest.h>

#include "cuda/parity.h"

namespace hylas::test {
namespace {

struct RowCase {
  DType act, weight;
  int64_t rows, columns, gap;
};

class CudaRows : public testing::TestWithParam<RowCase> {
 protected:
  std::mt19937 random_{71};
  double tolerance() const { return 2 * rounding(GetParam().act); }
};
INSTANTIATE_TEST_SUITE_P(
    Kinds, CudaRows,
    testing::Values(RowCase{DType::kF32, DType::kF32, 3, 40, 0}, RowCase{DType::kF32, DType::kBF16, 70, 96, 5},
                    RowCase{DType::kBF16, DType::kF32, 5, 2048, 0}, RowCase{DType::kBF16, DType::kBF16, 129, 4096, 8},
                    RowCase{DType::kBF16, DType::kBF16, 1, 5120, 3}, RowCase{DType::kF32, DType::kF32, 2, 9000, 4}));

TEST_P(CudaRows, RmsNorm) {
  const auto [act, kind, rows, columns, gap] = GetParam();
  HostTensor x = random_tensor(random_, act, {rows, columns}, 3.f, gap),
             w = random_tensor(random_, kind, {columns}, 0.3f);
  HostTensor out = poisoned(act, {rows, columns}, gap);
  OnDevice dx(x), dw(w), dout(out);
  cpu_ops().rms_norm(x, w, 1e-6f, out);
  cuda_ops().rms_norm(dx, dw, 1e-6f, dout);
  EXPECT_TRUE(equal(dout, out, 1e-6, tolerance()));
  cuda_ops().rms_norm(dx, dw, 1e-6f, dx);  // in place
  EXPECT_TRUE(equal(dx, out, 1e-6, tolerance()));
}

TEST_P(CudaRows, AddRmsNorm) {
  const auto [act, kind, rows, columns, gap] = GetParam();
  for (int64_t slices : {1, 2, 4}) {
    HostTensor partials = random_tensor(random_, DType::kF32, {slices, rows, columns}, 1.f);
    HostTensor residual = random_tensor(random_, act, {rows, columns}, 1.f, gap),
               w = random_tensor(random_, kind, {columns}, 0.3f);
    HostTensor out = poisoned(act, {rows, columns}, gap);
    OnDevice dpartials(partials), dresidual(residual), dw(w), dout(out), alone(residual);
    cpu_ops().add_rms_norm(partials, residual, w, 1e-6f, out);
    cuda_ops().add_rms_norm(dpartials, dresidual, dw, 1e-6f, dout);
    EXPECT_TRUE(equal(dresidual, residual, 0, 0)) << slices << " slices are added in the CPU's order";
    EXPECT_TRUE(equal(dout, out, 1e-6, tolerance()));
    cuda_ops().add_rms_norm(dpartials, alone, Tensor(), 1e-6f, Tensor());
    EXPECT_TRUE(equal(alone, residual, 0, 0));
  }
}

TEST_P(CudaRows, SiluMul) {
  const auto [act, kind, rows, columns, gap] = GetParam();
  HostTensor gate = random_tensor(random_, act, {rows, columns}, 4.f, gap),
             up = random_tensor(random_, act, {rows, columns}, 1.f);
  HostTensor out = poisoned(act, {rows, columns}, gap);
  OnDevice dgate(gate), dup(up), dout(out);
  cpu_ops().silu_mul(gate, up, out);
  cuda_ops().silu_mul(dgate, dup, dout);
  EXPECT_TRUE(equal(dout, out, 1e-6, tolerance()));
}

TEST_P(CudaRows, RowsAreTakenConvertedAndJoined) {
  const auto [act, kind, rows, columns, gap] = GetParam();
  HostTensor table = random_tensor(random_, kind, {rows, columns}, 1.f, gap);
  std::vector<int32_t> which;
  for (int32_t i = 0; i < 37; ++i) which.push_back(1000 + static_cast<int32_t>(random_() % (rows + 2)) - 1);
  HostTensor ids = int_tensor(which, {37}), out = poisoned(act, {37, columns}, gap);
  OnDevice dtable(table), dids(ids), dout(out);
  cpu_ops().embed(ids, table, 1000, out);
  cuda_ops().embed(dids, dtable, 1000, dout);
  EXPECT_TRUE(equal(dout, out, 0, 0));

  for (int32_t& id : which) id = static_cast<int32_t>(random_() % rows);
  HostTensor index = int_tensor(which, {37}), taken = poisoned(kind, {37, columns});
  OnDevice dindex(index), dtaken(taken);
  cpu_ops().gather_rows(table, index, taken);
  cuda_ops().gather_rows(dtable, dindex, dtaken);
  EXPECT_TRUE(equal(dtaken, taken, 0, 0));

  HostTensor converted = poisoned(act, {rows, columns});
  OnDevice dconverted(converted);
  cpu_ops().convert(table, converted);
  cuda_ops().convert(dtable, dconverted);
  EXPECT_TRUE(equal(dconverted, converted, 0, 0));

  HostTensor left = random_tensor(random_, act, {rows, 24}, 1.f), joined = poisoned(act, {rows, 24 + columns});
  OnDevice dleft(left), djoined(joined);
  cpu_ops().concat_columns(left, converted, joined);
  cuda_ops().concat_columns(dleft, dconverted, djoined);
  EXPECT_TRUE(equal(djoined, joined, 0, 0));
}

TEST_P(CudaRows, GatedRmsNorm) {
  const auto [act, kind, rows, columns, gap] = GetParam();
  for (int64_t dim : {8, 24, 128}) {
    HostTensor x = random_tensor(random_, act, {rows, 6, dim}, 2.f, gap),
               z = random_tensor(random_, act, {rows, 6, dim}, 2.f);
    HostTensor w = random_tensor(random_, kind, {dim}, 1.f), out = poisoned(act, {rows, 6, dim});
    OnDevice dx(x), dz(z), dw(w), dout(out);
    cpu_ops().gated_rms_norm(x, z, w, 1e-6f, out);
    cuda_ops().gated_rms_norm(dx, dz, dw, 1e-6f, dout);
    EXPECT_TRUE(equal(dout, out, 1e-6, tolerance()));
  }
}

TEST(CudaRoute, TheSameExpertsInTheSameOrder) {
  std::mt19937 random(5);
  for (const auto& [tokens, experts, k] :
       {std::array<int64_t, 3>{1, 4, 2}, {33, 16, 4}, {600, 256, 8}, {50, 512, 10}, {9, 1000, 40}}) {
    HostTensor logits = random_tensor(random, DType::kF32, {tokens, experts}, 2.f);
    for (int64_t i = 0; i < experts; i += 3) set(logits, 0, i, 1.5f);  // ties: the lowest id first
    HostTensor ids = poisoned(DType::kI32, {tokens, k}), weights = poisoned(DType::kF32, {tokens, k});
    OnDevice dlogits(logits), dids(ids), dweights(weights);
    cpu_ops().moe_route(logits, ids, weights);
    cuda_ops().moe_route(dlogits, dids, dweights);
    EXPECT_TRUE(equal(dids, ids, 0, 0)) << experts;
    EXPECT_TRUE(equal(dweights, weights, 0, 1e-5)) << experts;
  }
}

}  // namespace
}  // namespace hylas::test
