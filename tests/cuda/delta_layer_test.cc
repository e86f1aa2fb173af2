// A delta layer of which parts run beside the delta rule: the bits of the operators one after the other, whatever the
// batch, and the CPU's numbers.
#include <gtest/gtest.h>

#include "cuda/flashinfer_side.h"
#include "cuda/rows_side.h"
#include "ops/prefill_parts.h"

namespace hylas::test {
namespace {

// As the engine makes them, FlashInfer's prefill among it.
Ops& layer_ops() {
  static const std::unique_ptr<Ops> kOps = [] {
    CudaOpsOptions options;
    options.fp8 = {.linear = true, .experts = true};
    options.prefill = {.delta = true, .attention = true};
    return make_cuda_ops(options).value();
  }();
  return *kOps;
}

struct LayerCase {
  DType weight;
  DeltaShape shape;
  int64_t hidden;
};

// Weights of a layer and its pools.
struct LayerData {
  LayerData(std::mt19937& random, const LayerCase& c, int64_t slots)
      : c(c),
        qkv(random_matrix(random, c.weight, c.shape.channels(), c.hidden, 0.05f)),
        z(random_matrix(random, c.weight, values(), c.hidden, 0.05f)),
        a(random_matrix(random, DType::kBF16, c.shape.value_heads, c.hidden, 0.05f)),
        b(random_matrix(random, DType::kBF16, c.shape.value_heads, c.hidden, 0.05f)),
        last(random_matrix(random, c.weight, c.hidden, values(), 0.05f)),
        conv(random_tensor(random, DType::kBF16, {c.shape.channels(), 4}, 0.5f)),
        a_log(random_tensor(random, DType::kF32, {c.shape.value_heads}, 0.7f)),
        dt_bias(random_tensor(random, DType::kF32, {c.shape.value_heads}, 0.5f)),
        norm(random_tensor(random, DType::kBF16, {c.shape.value_dim}, 1.f)),
        post_norm(random_tensor(random, DType::kBF16, {c.hidden}, 0.3f)),
        windows(random_tensor(random, DType::kBF16, {slots, c.shape.channels(), 3}, 1.f)),
        states(random_tensor(random, DType::kF16, {slots, c.shape.value_heads, 128, 128}, 0.3f)) {}
  int64_t values() const { return int64_t{c.shape.value_heads} * c.shape.value_dim; }
  LayerCase c;
  Matrix qkv, z, a, b, last;
  HostTensor conv, a_log, dt_bias, norm, post_norm, windows, states;
};

// What it leaves.
struct LayerResult {
  HostTensor partials, hidden, values, fp8, scales;
};

// Whether rows [begin, begin + rows) are the same in both.
bool same_rows(const LayerResult& a, const LayerResult& b, int64_t begin, int64_t rows) {
  const auto same = [&](const HostTensor& one, const HostTensor& other, int64_t first) {
    const int64_t columns = one.view.rank == 3 ? one.view.dim(2) : one.view.dim(1);
    const auto row_bytes = static_cast<size_t>(columns * dtype_bytes(one.view.dtype));
    const size_t at = static_cast<size_t>(first) * row_bytes;
    return std::memcmp(one.bytes.data() + at, other.bytes.data() + at, static_cast<size_t>(rows) * row_bytes) == 0;
  };
  bool all = same(a.hidden, b.hidden, begin) && same(a.values, b.values, begin) && same(a.fp8, b.fp8, begin);
  for (int64_t s = 0; s < a.partials.view.dim(0); ++s) {
    all = all && same(a.partials, b.partials, s * a.partials.view.dim(1) + begin);
  }
  for (int64_t block = 0; block < a.scales.view.dim(0); ++block) {
    const float *one = a.scales.view.row<float>(block), *other = b.scales.view.row<float>(block);
    all = all && std::equal(one + begin, one + begin + rows, other + begin);
  }
  return all;
}

// A run of it on the GPU over copies of the pools, with poison where it is to write.
struct LayerRun {
  LayerRun(const LayerData& data, const Matrix& rows, const HostTensor& residual)
      : LayerRun(data, rows, residual, rows.view.dim(0)) {}
  LayerRun(const LayerData& data, const Matrix& rows, const HostTensor& residual, int64_t tokens)
      : qkv(data.qkv),
        z(data.z),
        a(data.a),
        b(data.b),
        last(data.last),
        conv(data.conv),
        a_log(data.a_log),
        dt_bias(data.dt_bias),
        norm(data.norm),
        post_norm(data.post_norm),
        windows(data.windows),
        states(data.states),
        u(poisoned(DType::kBF16, {tokens, data.c.shape.channels()})),
        gate(poisoned(DType::kBF16, {tokens, data.c.shape.value_heads, 128})),
        of_a(poisoned(DType::kF32, {tokens, data.c.shape.value_heads})),
        of_b(poisoned(DType::kF32, {tokens, data.c.shape.value_heads})),
        convolved(poisoned(DType::kBF16, {tokens, data.c.shape.channels()})),
        hidden(residual),
        x(rows),
        out({tokens, data.values()}),
        shape(data.c.shape) {}

  // One after the other, or as the backend likes it. The norm behind goes where x was; without it the sums are a rank's
  // of several.
  LayerResult run(const Batch& batch, bool apart, bool with_norm = true) {
    Ops& ops = layer_ops();
    const int64_t tokens = batch.tokens;
    const LinearWeight last_weight = last.weight();
    const bool fp8 = last_weight.weight.dtype == DType::kF8E4M3;
    const SumOver over = with_norm ? SumOver::kRank : SumOver::kRanks;
    const DType type = ops.partial_type(last_weight, DType::kBF16, tokens, over);
    const OnDevice partials(poisoned(type, {fp8 ? 1 : 4, tokens, last_weight.weight.dim(0)}));
    const DeltaInputs inputs = {qkv.weight(), z.weight(), a.weight(), b.weight()};
    const DeltaWeights weights = {conv, a_log, dt_bias, norm, 1e-6f};
    const DeltaRows rows = {u, gate, of_a, of_b, convolved, out.in(ops.row_form(last_weight, DType::kBF16, tokens))};
    const NormBehind after = {hidden, post_norm, 1e-6f, x.in(RowForm::kBoth)};
    const NormBehind* behind = with_norm ? &after : nullptr;
    const ActRows in = x.in(fp8 ? RowForm::kBoth : RowForm::kValues);
    run_on(ops, [&](Ops& on) {
      if (apart) {
        on.Ops::delta_layer(in, inputs, weights, shape, windows, states, batch, rows, last_weight, partials, behind);
      } else {
        on.delta_layer(in, inputs, weights, shape, windows, states, batch, rows, last_weight, partials, behind);
      }
    });
    return {partials.host(), hidden.host(), x.values.host(), x.fp8.host(), x.scales.host()};
  }
  WeightOnDevice qkv, z, a, b, last;
  OnDevice conv, a_log, dt_bias, norm, post_norm, windows, states, u, gate, of_a, of_b, convolved, hidden;
  RowsOnDevice x, out;
  DeltaShape shape;
};

class CudaDeltaLayer : public testing::TestWithParam<LayerCase> {
 protected:
  std::mt19937 random_{181};
};
INSTANTIATE_TEST_SUITE_P(Kinds, CudaDeltaLayer,
                         testing::Values(LayerCase{DType::kF8E4M3, {4, 8, 128, 128}, 512},
                                         LayerCase{DType::kBF16, {4, 8, 128, 128}, 512},
                                         LayerCase{DType::kF8E4M3, {16, 32, 128, 128}, 2048},
                                         LayerCase{DType::kF8E4M3, {8, 64, 128, 128}, 256}));

using Rows = std::vector<RowSpec>;
const std::vector<std::pair<Rows, int32_t>> kBatches = {
    {{{600, 0, -1, 0}}, 0},                                                // one part
    {{{1152, 0, -1, 0}}, 0},                                               // the least of two parts
    {{{2304, 0, -1, 0}}, 0},                                               // the least of three
    {{{1301, 64, 1, 1}}, 0},                                               // from a state on, ragged
    {{{1, 5, 2, 2}, {1, 9, -1, -1}, {1, 0, -1, 3}, {2385, 64, 4, 5}}, 3},  // behind decode rows and padding
    {{{1, 5, 2, 2}, {1, 9, 3, 3}, {700, 0, -1, 0}, {531, 64, 1, 1}}, 2},   // two rows: only z runs beside
    {{{300, 0, -1, 0},
      {130, 0, -1, 1},
      {1, 0, -1, 2},
      {64, 0, -1, 3},
      {3, 0, -1, 4},
      {2, 0, -1, 5},
      {65, 0, -1, 6},
      {70, 0, -1, 7},
      {90, 0, -1, 8}},
     0}};  // so many that nothing runs beside

TEST_P(CudaDeltaLayer, WhatRunsBesideTheRuleChangesNoBit) {
  for (size_t i = 0; i < kBatches.size(); ++i) {
    if (GetParam().shape.value_heads > 8 && i != 4) continue;  // the models' shapes take long on the host
    SCOPED_TRACE(testing::Message() << "batch " << i);
    const HostBatch batch(kBatches[i].first, kBatches[i].second);
    const BatchOnDevice dbatch(batch);
    const int64_t tokens = batch.batch.tokens;
    const LayerData data(random_, GetParam(), 9);
    const Matrix x = random_matrix(random_, DType::kBF16, tokens, GetParam().hidden, 1.f);
    const HostTensor residual = random_tensor(random_, DType::kBF16, {tokens, GetParam().hidden}, 1.f);
    LayerRun apart(data, x, residual), beside(data, x, residual);
    const LayerResult wanted = apart.run(dbatch.batch, true), mine = beside.run(dbatch.batch, false);
    // Kernels that should have waited may happen to come late enough once.
    std::vector<LayerResult> more;
    for (int again = 0; again < 6; ++again) {
      LayerRun run(data, x, residual);
      more.push_back(run.run(dbatch.batch, false));
    }
    EXPECT_TRUE(same_bytes(beside.states, apart.states) && same_bytes(beside.windows, apart.windows));
    EXPECT_TRUE(same_bytes(beside.gate, apart.gate) && same_bytes(beside.u, apart.u));
    const Rows& rows = kBatches[i].first;
    for (size_t r = 0; r < rows.size(); ++r) {
      if (rows[r].write < 0) continue;
      const int64_t begin = batch.batch.row_begin.as<int32_t>()[r];
      EXPECT_TRUE(same_rows(mine, wanted, begin, rows[r].tokens)) << "row " << r;
      for (const LayerResult& again : more) {
        EXPECT_TRUE(same_rows(again, wanted, begin, rows[r].tokens)) << "row " << r << " again";
      }
    }
  }
}

TEST_P(CudaDeltaLayer, SumsForOtherRanksChangeNoBitEither) {
  const Rows& rows = kBatches[4].first;
  const HostBatch batch(rows, kBatches[4].second);
  const BatchOnDevice dbatch(batch);
  const LayerData data(random_, GetParam(), 9);
  const Matrix x = random_matrix(random_, DType::kBF16, batch.batch.tokens, GetParam().hidden, 1.f);
  const HostTensor residual = random_tensor(random_, DType::kBF16, {batch.batch.tokens, GetParam().hidden}, 1.f);
  LayerRun apart(data, x, residual), beside(data, x, residual);
  const LayerResult wanted = apart.run(dbatch.batch, true, false), mine = beside.run(dbatch.batch, false, false);
  for (size_t r = 0; r < rows.size(); ++r) {
    if (rows[r].write < 0) continue;
    EXPECT_TRUE(same_rows(mine, wanted, batch.batch.row_begin.as<int32_t>()[r], rows[r].tokens)) << "row " << r;
  }
}

// With 8 heads the cuts are what is said above: a test of the test.
TEST(CudaDeltaLayerBatches, CoverEveryKind) {
  const auto parts = [](size_t i) {
    const HostBatch batch(kBatches[i].first, kBatches[i].second);
    return prefill_parts(batch.batch.tokens, batch.batch.rows, batch.batch.decode_rows, 8, 132);
  };
  const int counts[] = {1, 2, 3, 2, 3, 1};
  for (size_t i = 0; i < 6; ++i) {
    EXPECT_TRUE(parts(i).beside) << i;
    EXPECT_EQ(parts(i).count, counts[i]) << i;
  }
  EXPECT_FALSE(parts(6).beside);
}

// In bf16, beside the CPU's.
TEST(CudaDeltaLayerParity, APromptAloneEqualsTheCpu) {
  std::mt19937 random(182);
  const LayerCase c = {DType::kBF16, {2, 4, 128, 128}, 256};
  const HostBatch batch({{1301, 64, 1, 1}}, 0);
  const BatchOnDevice dbatch(batch);
  constexpr int64_t kTokens = 1301;
  LayerData data(random, c, 2);
  const Matrix x = random_matrix(random, DType::kBF16, kTokens, c.hidden, 1.f);
  LayerRun device(data, x, random_tensor(random, DType::kBF16, {kTokens, c.hidden}, 1.f));
  const OnDevice mine(device.run(dbatch.batch, false, false).partials);
  HostTensor u = poisoned(DType::kBF16, {kTokens, c.shape.channels()}),
             convolved = poisoned(DType::kBF16, {kTokens, c.shape.channels()}),
             gate = poisoned(DType::kBF16, {kTokens, 4, 128}), a = poisoned(DType::kF32, {kTokens, 4}),
             b = poisoned(DType::kF32, {kTokens, 4}), out = poisoned(DType::kBF16, {kTokens, 512}),
             partials = poisoned(DType::kF32, {4, kTokens, c.hidden});
  const DeltaInputs inputs = {data.qkv.weight(), data.z.weight(), data.a.weight(), data.b.weight()};
  const DeltaWeights weights = {data.conv, data.a_log, data.dt_bias, data.norm, 1e-6f};
  cpu_ops().delta_layer(x.view, inputs, weights, c.shape, data.windows, data.states, batch.batch,
                        {u, gate, a, b, convolved, out}, data.last.weight(), partials, nullptr);
  EXPECT_TRUE(near(mine, partials, 2e-2));
  EXPECT_TRUE(near(device.states, data.states, 2e-2));
  EXPECT_TRUE(near(device.windows, data.windows, 1e-2));
}

}  // namespace
}  // namespace hylas::test
