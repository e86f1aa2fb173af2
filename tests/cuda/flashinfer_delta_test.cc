// FlashInfer's gated delta rule held to the CPU's: tails of tiles, ragged batches with decode rows, empty and padded
// rows, states of every type, weak and strong decay, any cut of the work.
#include <gtest/gtest.h>

#include "cuda/flashinfer_side.h"

namespace hylas::test {
namespace {

struct GdnCase {
  DeltaShape shape;
  DType state, weight;
};

using Rows = std::vector<RowSpec>;

// Inputs of one batch; rows have gaps between them.
struct GdnInputs {
  GdnInputs(std::mt19937& random, const GdnCase& c, int64_t tokens, float decay)
      : qkv(random_tensor(random, DType::kBF16, {tokens, c.shape.channels()}, 1.f, 8)),
        a(random_tensor(random, DType::kF32, {tokens, c.shape.value_heads}, 1.f)),
        b(random_tensor(random, DType::kF32, {tokens, c.shape.value_heads}, 1.f)),
        a_log(random_tensor(random, c.weight, {c.shape.value_heads}, 0.5f)),
        dt_bias(random_tensor(random, c.weight, {c.shape.value_heads}, 0.5f)) {
    for (int64_t h = 0; h < c.shape.value_heads; ++h)
      set(dt_bias, h, 0, static_cast<float>(get(dt_bias, h, 0)) + decay);
  }
  HostTensor qkv, a, b, a_log, dt_bias;
};

class FlashInferDelta : public testing::TestWithParam<GdnCase> {
 protected:
  HostTensor pool(int64_t slots) {
    const DeltaShape& shape = GetParam().shape;
    return random_tensor(random_, GetParam().state, {slots, shape.value_heads, shape.key_dim, shape.value_dim}, 0.3f);
  }
  HostTensor no_output(int64_t tokens) const {
    return poisoned(DType::kBF16, {tokens, GetParam().shape.value_heads, 128}, 8);
  }
  // Both sides on the same batch.
  void compare(const Rows& rows, int32_t decode_rows, float decay) {
    const GdnCase& c = GetParam();
    HostBatch batch(rows, decode_rows);
    const BatchOnDevice dbatch(batch);
    const GdnInputs in(random_, c, batch.batch.tokens, decay);
    HostTensor states = pool(8), out = no_output(batch.batch.tokens);
    const OnDevice dqkv(in.qkv), da(in.a), db(in.b), da_log(in.a_log), ddt_bias(in.dt_bias), dstates(states), dout(out);
    cpu_ops().delta_rule(in.qkv, in.a, in.b, in.a_log, in.dt_bias, c.shape, states, batch.batch, out);
    run_on(flashinfer_ops(),
           [&](Ops& ops) { ops.delta_rule(dqkv, da, db, da_log, ddt_bias, c.shape, dstates, dbatch.batch, dout); });
    // Upstream's kernel was seen within 4.3e-3 of a recurrence in f32; under a strong decay a token's outputs may all
    // but vanish beside those of others.
    EXPECT_TRUE(near_in_parts(dout, out, 1e-2, 0.6, c.shape.value_heads * 128)) << "outputs, a part is a token";
    EXPECT_TRUE(near_in_parts(dstates, states, 1e-2, 0.05, 128 * 128)) << "states, a part is a head";
  }
  std::mt19937 random_{76};
};

INSTANTIATE_TEST_SUITE_P(Kinds, FlashInferDelta,
                         testing::Values(GdnCase{{8, 16, 128, 128}, DType::kF32, DType::kF32},
                                         GdnCase{{4, 8, 128, 128}, DType::kF16, DType::kBF16},
                                         GdnCase{{2, 2, 128, 128}, DType::kBF16, DType::kF32},
                                         GdnCase{{4, 16, 128, 128}, DType::kF16, DType::kF32},
                                         GdnCase{{1, 2, 128, 128}, DType::kF32, DType::kBF16}));

TEST_P(FlashInferDelta, OneRowOfEveryTail) {
  for (int32_t tokens : {1, 2, 63, 64, 65, 127, 128, 129, 300}) {
    for (int32_t context : {0, 64}) {
      SCOPED_TRACE(testing::Message() << tokens << " tokens after " << context);
      compare({{tokens, context, context == 0 ? -1 : 3, 1}}, 0, 0.f);
    }
  }
}

TEST_P(FlashInferDelta, RaggedBatches) {
  const std::vector<std::pair<Rows, int32_t>> batches = {
      {{{64, 0, -1, 0}, {1, 64, 1, 1}, {63, 0, -1, 2}, {128, 128, 3, 3}, {65, 0, -1, 4}, {127, 64, 5, 5}}, 0},
      {{{1, 7, 4, 4}, {1, 9, -1, -1}, {64, 0, -1, 0}, {1, 128, 1, 1}, {0, 3, 2, 3}, {0, 0, -1, 7}, {200, 30, 5, 5}}, 2},
      {{{130, 0, -1, 7}, {9, 0, -1, -1}, {517, 64, 6, 0}, {2, 1, 1, 1}, {0, 5, 4, 4}}, 0},
      {{{1, 5, 0, 0}, {1, 64, 1, 2}, {0, 64, 3, 5}}, 2}};  // no prefill token at all, and a state to pass on
  for (size_t i = 0; i < batches.size(); ++i) {
    for (float decay : {-6.f, 0.f, 4.f}) {
      SCOPED_TRACE(testing::Message() << "batch " << i << " decay " << decay);
      compare(batches[i].first, batches[i].second, decay);
    }
  }
}

// A row alone, among others, and where the workspace holds a part of the heads or one row at a time: the same bits.
TEST_P(FlashInferDelta, ARowIsTheSameInEveryBatch) {
  const GdnCase& c = GetParam();
  const Rows rows = {{1, 7, 0, 0}, {70, 0, -1, 1}, {128, 64, 2, 2}, {33, 64, 3, 4}, {190, 0, -1, 5}};
  HostBatch batch(rows, 1);
  const BatchOnDevice dbatch(batch);
  const GdnInputs in(random_, c, batch.batch.tokens, 0.f);
  const HostTensor states = pool(8);
  const OnDevice dqkv(in.qkv), da(in.a), db(in.b), da_log(in.a_log), ddt_bias(in.dt_bias);
  const auto run = [&](Ops& on, const Batch& part, int64_t begin, OnDevice& pool_out) {
    OnDevice out(no_output(part.tokens));
    run_on(on, [&](Ops& ops) {
      ops.delta_rule(dqkv.view.rows(begin, part.tokens), da.view.rows(begin, part.tokens),
                     db.view.rows(begin, part.tokens), da_log, ddt_bias, c.shape, pool_out, part, out);
    });
    return out.host();
  };
  OnDevice whole_states(states), again_states(states), cut_states(states);
  const HostTensor whole = run(flashinfer_ops(), dbatch.batch, 0, whole_states);
  EXPECT_TRUE(same_bits(run(flashinfer_ops(), dbatch.batch, 0, again_states), whole)) << "a second time";
  EXPECT_TRUE(same_bits(again_states.host(), whole_states.host())) << "states, a second time";
  const int64_t head_bytes = batch.batch.tokens * (512 + 8 * (c.shape.value_heads / c.shape.key_heads)) +
                             c.shape.value_heads / c.shape.key_heads * (128 * 128 * 4);
  const auto small = make_flashinfer_ops(static_cast<size_t>(head_bytes) + 40000);
  EXPECT_TRUE(same_bits(run(*small, dbatch.batch, 0, cut_states), whole)) << "cut by heads and rows";
  EXPECT_TRUE(same_bits(cut_states.host(), whole_states.host())) << "states, cut by heads and rows";
  for (size_t r = 0; r < rows.size(); ++r) {
    HostBatch alone({rows[r]}, r < 1 ? 1 : 0);
    const BatchOnDevice dalone(alone);
    const int32_t begin = batch.batch.row_begin.as<int32_t>()[r];
    OnDevice mine(states);
    const HostTensor out = run(flashinfer_ops(), dalone.batch, begin, mine);
    EXPECT_TRUE(same_bits(out, whole.view.rows(begin, rows[r].tokens))) << "row " << r;
    EXPECT_TRUE(same_bits(mine.host().view.rows(rows[r].write, 1), whole_states.host().view.rows(rows[r].write, 1)))
        << "state of row " << r;
  }
}

// Chunks cut at multiples of 64: the same bits where the pool keeps f32; a 16-bit state is rounded between chunks.
TEST_P(FlashInferDelta, ChunksAtMultiplesOf64) {
  const GdnCase& c = GetParam();
  constexpr int64_t kTokens = 300;
  const GdnInputs in(random_, c, kTokens, 0.f);
  const OnDevice qkv(in.qkv), a(in.a), b(in.b), a_log(in.a_log), dt_bias(in.dt_bias);
  const HostTensor fresh = pool(1);
  const auto run = [&](const std::vector<int32_t>& ends, OnDevice& states) {
    OnDevice out(no_output(kTokens));
    int32_t begin = 0;
    for (int32_t end : ends) {
      const int32_t tokens = end - begin;
      HostBatch batch({{tokens, begin, begin == 0 ? -1 : 0, 0}}, 0);
      const BatchOnDevice dbatch(batch);
      run_on(flashinfer_ops(), [&](Ops& ops) {
        ops.delta_rule(qkv.view.rows(begin, tokens), a.view.rows(begin, tokens), b.view.rows(begin, tokens), a_log,
                       dt_bias, c.shape, states, dbatch.batch, out.view.rows(begin, tokens));
      });
      begin = end;
    }
    return out.host();
  };
  OnDevice whole_states(fresh), cut_states(fresh);
  const HostTensor whole = run({300}, whole_states), cut = run({64, 256, 300}, cut_states);
  if (c.state == DType::kF32) {
    EXPECT_TRUE(same_bits(cut, whole));
    EXPECT_TRUE(same_bits(cut_states.host(), whole_states.host()));
  } else {
    EXPECT_TRUE(near_in_parts(OnDevice(cut), whole, 1e-2, 0.05, c.shape.value_heads * 128));
    EXPECT_TRUE(near_in_parts(cut_states, whole_states.host(), 1e-2, 0.05, 128 * 128));
  }
}

}  // namespace
}  // namespace hylas::test
