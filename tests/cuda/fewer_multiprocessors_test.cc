// The kernels as an H20 has them, 78 multiprocessors instead of 132: other tiles and blocks, the same bits.
#include <gtest/gtest.h>

#include "cuda/fp8_experts_side.h"

namespace hylas::test {
namespace {

std::unique_ptr<Ops> ops_of(int multiprocessors) {
  CudaOpsOptions options{.multiprocessors_max = multiprocessors};
  options.fp8 = {.linear = true, .experts = true};
  return make_cuda_ops(options).value();
}

// What `call` writes to `out` with the kernels of 78 and of all multiprocessors.
template <class Call>
void expect_the_same(const HostTensor& out, const Call& call) {
  static const std::unique_ptr<Ops> kAll = ops_of(0), kFewer = ops_of(78);
  const OnDevice all(out), fewer(out);
  run_on(*kAll, [&](Ops& ops) { call(ops, all); });
  run_on(*kFewer, [&](Ops& ops) { call(ops, fewer); });
  EXPECT_EQ(all.host().bytes, fewer.host().bytes);
  EXPECT_NE(fewer.host().bytes, out.bytes) << "nothing was written";
}

void expect_the_same_product(DType type, int64_t rows, int64_t inputs, int64_t outputs) {
  SCOPED_TRACE(testing::Message() << dtype_name(type) << " " << rows << " x " << inputs << " x " << outputs);
  std::mt19937 random(211);
  const OnDevice x(random_matrix(random, DType::kBF16, rows, inputs, 1.f));
  const WeightOnDevice w(random_matrix(random, type, outputs, inputs, 0.05f));
  expect_the_same(poisoned(DType::kBF16, {rows, outputs}), [&](Ops& ops, const Tensor& out) {
    const LinearWeight weight = w.weight();
    ops.linear(x, {&weight, 1}, {&out, 1});
  });
}

// DeepGEMM's tiles of 64 and 128 rows, of 64 and 128 outputs, alone and with a partner; gemm_decode's up to 64 rows.
TEST(FewerMultiprocessors, ProductsInFp8) {
  for (const int64_t rows : {17, 64, 65, 300, 1030, 2900}) {
    for (const int64_t outputs : {64, 1024, 12288}) expect_the_same_product(DType::kF8E4M3, rows, 384, outputs);
  }
}

TEST(FewerMultiprocessors, ProductsInBf16) {
  for (const int64_t rows : {1, 33, 128}) {
    for (const int64_t outputs : {904, 12288}) expect_the_same_product(DType::kBF16, rows, 512, outputs);
  }
}

// Few rows an expert and whole tiles of 64 and of 128.
TEST(FewerMultiprocessors, Experts) {
  for (const int64_t tokens : {12, 150, 700}) {
    const ExpertLayer layer({tokens, 256, 384, 128, 6, 2, 5});
    const OnDevice x(layer.x), ids(int_tensor(layer.ids, {tokens, 2})), weights(layer.weights), logit(layer.logit);
    const ExpertWeights experts = layer.experts();
    expect_the_same(poisoned(DType::kF32, {1, tokens, 256}),
                    [&](Ops& ops, const Tensor& out) { ops.moe(x, ids, weights, experts, &layer.shared, logit, out); });
  }
}

}  // namespace
}  // namespace hylas::test
