// Convolution and delta rule on the GPU, over ragged batches with padding, empty rows and states of every type.
#include <gtest/gtest.h>

#include "cuda/parity.h"

namespace hylas::test {
namespace {

struct DeltaCase {
  DeltaShape shape;
  DType act, state, weight;
};

class CudaDelta : public testing::TestWithParam<DeltaCase> {
 protected:
  std::mt19937 random_{75};
};
INSTANTIATE_TEST_SUITE_P(Kinds, CudaDelta,
                         testing::Values(DeltaCase{{4, 8, 128, 128}, DType::kBF16, DType::kF32, DType::kF32},
                                         DeltaCase{{4, 8, 128, 128}, DType::kBF16, DType::kF16, DType::kBF16},
                                         DeltaCase{{2, 2, 128, 128}, DType::kBF16, DType::kBF16, DType::kF32},
                                         DeltaCase{{2, 4, 16, 24}, DType::kF32, DType::kF32, DType::kF32},
                                         DeltaCase{{1, 8, 32, 40}, DType::kF32, DType::kF16, DType::kBF16},
                                         DeltaCase{{2, 6, 128, 128}, DType::kF32, DType::kF32, DType::kF32}));

std::vector<std::pair<std::vector<RowSpec>, int32_t>> batches() {
  return {
      {{{1, 5, 0, 0}, {1, 64, 1, 2}, {1, 9, -1, -1}, {1, 0, -1, 3}}, 4},  // decode: in place, elsewhere, padded, fresh
      {{{1, 7, 4, 4}, {64, 0, -1, 0}, {1, 128, 1, 1}, {0, 3, 2, 3}, {0, 0, -1, 7}, {200, 30, 5, 5}, {9, 0, -1, -1}}, 1},
      {{{65, 0, -1, 6}}, 0},
      {{{517, 63, 6, 0}, {2, 1, 1, 1}, {1, 0, -1, 2}}, 0}};
}

TEST_P(CudaDelta, ConvEqualsTheCpu) {
  const DeltaCase& c = GetParam();
  const int64_t channels = c.shape.channels();
  for (const auto& [rows, decode] : batches()) {
    HostBatch batch(rows, decode);
    const BatchOnDevice dbatch(batch);
    const int64_t tokens = batch.batch.tokens;
    HostTensor u = random_tensor(random_, c.act, {tokens, channels}, 1.f, 8),
               w = random_tensor(random_, c.weight, {channels, 4}, 0.5f);
    HostTensor pool = random_tensor(random_, c.act, {8, channels, 3}, 1.f), out = poisoned(c.act, {tokens, channels});
    OnDevice du(u), dw(w), dpool(pool), dout(out);
    cpu_ops().conv_silu(u, w, pool, batch.batch, out);
    cuda_ops().conv_silu(du, dw, dpool, dbatch.batch, dout);
    EXPECT_TRUE(equal(dout, out, 1e-6, 2 * rounding(c.act)));
    EXPECT_TRUE(equal(dpool, pool, 0, 0));
  }
}

TEST_P(CudaDelta, DeltaRuleEqualsTheCpu) {
  const DeltaCase& c = GetParam();
  const DeltaShape& shape = c.shape;
  const double tolerance = c.act == DType::kBF16 ? 6e-3 : c.state == DType::kF32 ? 2e-5 : 2e-3;
  const double state_tolerance = c.state == DType::kBF16 ? 1e-2 : tolerance;
  for (const auto& [rows, decode] : batches()) {
    HostBatch batch(rows, decode);
    const BatchOnDevice dbatch(batch);
    const int64_t tokens = batch.batch.tokens, heads = shape.value_heads;
    HostTensor qkv = random_tensor(random_, c.act, {tokens, shape.channels()}, 1.f),
               a = random_tensor(random_, DType::kF32, {tokens, heads}, 2.f);
    HostTensor b = random_tensor(random_, DType::kF32, {tokens, heads}, 1.f),
               a_log = random_tensor(random_, c.weight, {heads}, 0.7f);
    HostTensor dt_bias = random_tensor(random_, c.weight, {heads}, 0.5f);
    HostTensor pool = random_tensor(random_, c.state, {8, heads, shape.key_dim, shape.value_dim}, 0.3f);
    HostTensor out = poisoned(c.act, {tokens, heads, shape.value_dim});
    OnDevice dqkv(qkv), da(a), db(b), da_log(a_log), ddt_bias(dt_bias), dpool(pool), dout(out);
    cpu_ops().delta_rule(qkv, a, b, a_log, dt_bias, shape, pool, batch.batch, out);
    cuda_ops().delta_rule(dqkv, da, db, da_log, ddt_bias, shape, dpool, dbatch.batch, dout);
    EXPECT_TRUE(near(dout, out, tolerance)) << tokens << " tokens";
    EXPECT_TRUE(near(dpool, pool, state_tolerance)) << tokens << " tokens";
  }
}

// Chunks cut at multiples of 64: the same bits, outputs and states.
TEST_P(CudaDelta, ChunksDoNotMatter) {
  const DeltaCase& c = GetParam();
  const DeltaShape& shape = c.shape;
  const int64_t heads = shape.value_heads, tokens = 300;
  OnDevice qkv(random_tensor(random_, c.act, {tokens, shape.channels()}, 1.f)),
      a(random_tensor(random_, DType::kF32, {tokens, heads}, 2.f));
  OnDevice b(random_tensor(random_, DType::kF32, {tokens, heads}, 1.f)),
      a_log(random_tensor(random_, c.weight, {heads}, 0.7f));
  OnDevice dt_bias(random_tensor(random_, c.weight, {heads}, 0.5f));
  const auto run = [&](const std::vector<int32_t>& ends, HostTensor& out) {
    OnDevice pool(random_tensor(random_, c.state, {1, heads, shape.key_dim, shape.value_dim}, 0.f));
    OnDevice dout(poisoned(c.act, {tokens, heads, shape.value_dim}));
    int32_t begin = 0;
    for (int32_t end : ends) {
      HostBatch batch({{end - begin, begin, begin == 0 ? -1 : 0, 0}}, 0);
      const BatchOnDevice dbatch(batch);
      cuda_ops().delta_rule(qkv.view.rows(begin, end - begin), a.view.rows(begin, end - begin),
                            b.view.rows(begin, end - begin), a_log, dt_bias, shape, pool, dbatch.batch,
                            dout.view.rows(begin, end - begin));
      begin = end;
    }
    out = dout.host();
    return pool.host();
  };
  HostTensor whole, cut;
  const HostTensor whole_state = run({300}, whole), cut_state = run({64, 256, 300}, cut);
  EXPECT_EQ(whole.bytes, cut.bytes);
  EXPECT_EQ(whole_state.bytes, cut_state.bytes);
}

}  // namespace
}  // namespace hylas::test
