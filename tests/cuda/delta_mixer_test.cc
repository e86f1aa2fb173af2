// A decode step of a linear layer in one kernel: held to the CPU's three operators, and to the bits of our own three.
#include <gtest/gtest.h>

#include "cuda/flashinfer_side.h"
#include "cuda/rows_side.h"

namespace hylas::test {
namespace {

struct MixerCase {
  DeltaShape shape;
  DType state, weight;
  int32_t rows;
  bool taken = true;  // by the one kernel
};

class CudaDeltaMixer : public testing::TestWithParam<MixerCase> {
 protected:
  std::mt19937 random_{79};
};
INSTANTIATE_TEST_SUITE_P(Kinds, CudaDeltaMixer,
                         testing::Values(MixerCase{{16, 32, 128, 128}, DType::kF16, DType::kBF16, 1},
                                         MixerCase{{16, 32, 128, 128}, DType::kF16, DType::kBF16, 8},
                                         MixerCase{{16, 32, 128, 128}, DType::kF16, DType::kBF16, 64},
                                         MixerCase{{16, 32, 128, 128}, DType::kBF16, DType::kF32, 21},
                                         MixerCase{{16, 16, 128, 128}, DType::kF32, DType::kF32, 3},
                                         MixerCase{{16, 16, 128, 128}, DType::kBF16, DType::kBF16, 40},
                                         MixerCase{{16, 48, 128, 128}, DType::kF32, DType::kBF16, 17},
                                         MixerCase{{16, 64, 128, 128}, DType::kF16, DType::kF32, 9},
                                         MixerCase{{2, 16, 128, 128}, DType::kF32, DType::kBF16, 5},
                                         MixerCase{{2, 2, 128, 128}, DType::kF16, DType::kBF16, 6},
                                         MixerCase{{16, 32, 128, 128}, DType::kF32, DType::kF32, 40},
                                         // What the one kernel does not take.
                                         MixerCase{{1, 1, 128, 128}, DType::kF16, DType::kBF16, 6, false},
                                         MixerCase{{1, 16, 128, 128}, DType::kF16, DType::kBF16, 5, false},
                                         MixerCase{{2, 4, 64, 128}, DType::kF32, DType::kBF16, 4, false},
                                         MixerCase{{2, 4, 128, 64}, DType::kF16, DType::kF32, 4, false}));

// Rows in place, from a slot to another, fresh ones and padding, in turn. Each row's slots are its own: 2 r and 2 r
// + 1.
std::vector<RowSpec> decode_rows(int32_t rows) {
  std::vector<RowSpec> specs;
  for (int32_t r = 0; r < rows; ++r) {
    const int32_t slot = 2 * r;
    switch (r % 5) {
      case 1:
        specs.push_back({1, 64, slot, slot + 1});
        break;
      case 2:
        specs.push_back({1, 0, -1, slot + 1});
        break;
      case 3:
        specs.push_back({1, 9, -1, -1});
        break;
      default:
        specs.push_back({1, 5 + r, slot, slot});
    }
  }
  return specs;
}

// Everything that a call takes, on the host.
struct MixerData {
  MixerData(std::mt19937& random, const MixerCase& kind, DType act, int64_t tokens, int64_t slots)
      : shape(kind.shape),
        u(random_tensor(random, act, {tokens, kind.shape.channels()}, 1.f, 8)),
        z(random_tensor(random, act, {tokens, kind.shape.value_heads, kind.shape.value_dim}, 1.f, 16)),
        a(random_tensor(random, DType::kF32, {tokens, kind.shape.value_heads}, 2.f, 4)),
        b(random_tensor(random, DType::kF32, {tokens, kind.shape.value_heads}, 1.f)),
        conv(random_tensor(random, kind.weight, {kind.shape.channels(), 4}, 0.5f)),
        a_log(random_tensor(random, kind.weight, {kind.shape.value_heads}, 0.7f)),
        dt_bias(random_tensor(random, kind.weight, {kind.shape.value_heads}, 0.5f)),
        norm(random_tensor(random, kind.weight, {kind.shape.value_dim}, 1.f)),
        windows(random_tensor(random, act, {slots, kind.shape.channels(), 3}, 1.f)),
        states(random_tensor(random, kind.state,
                             {slots, kind.shape.value_heads, kind.shape.key_dim, kind.shape.value_dim}, 0.3f)),
        c(poisoned(act, {tokens, kind.shape.channels()})),
        out(poisoned(act, {tokens, kind.shape.value_heads, kind.shape.value_dim}, 8)) {}
  DeltaWeights weights() const { return {conv, a_log, dt_bias, norm, 1e-6f}; }
  void run(Ops& ops, const Batch& batch) const {
    ops.delta_mixer(u, z, a, b, weights(), shape, windows, states, batch, c, out);
  }
  DeltaShape shape;
  HostTensor u, z, a, b, conv, a_log, dt_bias, norm, windows, states, c, out;
};

// The same on the GPU.
struct MixerOnDevice {
  explicit MixerOnDevice(const MixerData& data)
      : shape(data.shape),
        u(data.u),
        z(data.z),
        a(data.a),
        b(data.b),
        conv(data.conv),
        a_log(data.a_log),
        dt_bias(data.dt_bias),
        norm(data.norm),
        windows(data.windows),
        states(data.states),
        c(data.c),
        out(data.out) {}
  void run(const Batch& batch) { run(batch, out); }
  void run(const Batch& batch, const ActRows& to, Ops& ops = cuda_ops()) {
    const DeltaWeights weights = {conv, a_log, dt_bias, norm, 1e-6f};
    ops.delta_mixer(u, z, a, b, weights, shape, windows, states, batch, c, to);
  }
  void run_one_by_one(const Batch& batch, Ops& ops = cuda_ops()) {
    ops.conv_silu(u, conv, windows, batch, c);
    ops.delta_rule(c, a, b, a_log, dt_bias, shape, states, batch, out);
    ops.gated_rms_norm(out, z, norm, 1e-6f, out);
  }
  DeltaShape shape;
  OnDevice u, z, a, b, conv, a_log, dt_bias, norm, windows, states, c, out;
};

TEST_P(CudaDeltaMixer, EqualsTheCpuAndTheBitsOfThreeKernels) {
  const MixerCase& c = GetParam();
  const HostBatch batch(decode_rows(c.rows), c.rows);
  const BatchOnDevice dbatch(batch);
  MixerData data(random_, c, DType::kBF16, c.rows, 2 * c.rows);
  MixerOnDevice once(data), one_by_one(data);
  once.run(dbatch.batch);
  one_by_one.run_one_by_one(dbatch.batch);
  EXPECT_EQ(same_bytes(once.c, OnDevice(data.c)), c.taken)
      << "the one kernel leaves the convolution's output as it was";
  data.run(cpu_ops(), batch.batch);
  EXPECT_EQ(once.windows.host().bytes, one_by_one.windows.host().bytes);
  EXPECT_EQ(once.states.host().bytes, one_by_one.states.host().bytes);
  const HostTensor mine = once.out.host(), wanted = one_by_one.out.host();
  for (int32_t r = 0; r < c.rows; ++r) {
    if (batch.batch.state_write.as<int32_t>()[r] < 0) continue;
    const Tensor row = mine.view.rows(r, 1), same = wanted.view.rows(r, 1);
    const size_t bytes = static_cast<size_t>(row.row_elements()) * 2;
    EXPECT_EQ(std::memcmp(row.data, same.data, bytes), 0) << "row " << r;
  }
  // The CPU leaves poison where a row is padded, and so does the kernel; the three make NaN of it.
  EXPECT_TRUE(near(once.out, data.out, 8e-3));
  EXPECT_TRUE(equal(once.windows, data.windows, 0, 0));
  EXPECT_TRUE(near(once.states, data.states, c.state == DType::kBF16 ? 1e-2 : 8e-3));
}

TEST_P(CudaDeltaMixer, RowsComeQuantized) {
  const MixerCase& c = GetParam();
  if (c.shape.value_dim != 128) return;  // a head's values are a block
  for (const bool prefill : {false, true}) {
    std::vector<RowSpec> rows = decode_rows(c.rows);
    if (prefill) rows.push_back({70, 0, -1, 2 * c.rows});
    const HostBatch batch(rows, c.rows);
    const BatchOnDevice dbatch(batch);
    const int64_t tokens = batch.batch.tokens;
    MixerData data(random_, c, DType::kBF16, tokens, 2 * c.rows + 1);
    MixerOnDevice plain(data);
    plain.run(dbatch.batch);
    for (const RowForm form : {RowForm::kBoth, RowForm::kFp8}) {
      MixerOnDevice device(data);
      const RowsOnDevice out({tokens, c.shape.value_heads, c.shape.value_dim});
      device.run(dbatch.batch, out.in(form));
      const auto padded = [&](int64_t t) { return t < c.rows && rows[static_cast<size_t>(t)].write < 0; };
      EXPECT_TRUE(quantized_like(out, plain.out.host().view, padded)) << prefill;
      EXPECT_TRUE(same_bytes(device.states, plain.states));
    }
  }
}

// Prefill rows in the batch, and activations in f32: the three kernels.
TEST_P(CudaDeltaMixer, OtherBatchesGoToThreeKernels) {
  const MixerCase& c = GetParam();
  if (c.rows > 9) return;
  for (const DType act : {DType::kF32, DType::kBF16}) {
    std::vector<RowSpec> rows = decode_rows(c.rows);
    if (act == DType::kBF16) rows.push_back({70, 0, -1, 2 * c.rows});
    const HostBatch batch(rows, c.rows);
    const BatchOnDevice dbatch(batch);
    MixerData data(random_, c, act, batch.batch.tokens, 2 * c.rows + 1);
    MixerOnDevice device(data);
    device.run(dbatch.batch);
    data.run(cpu_ops(), batch.batch);
    EXPECT_TRUE(near(device.out, data.out, 8e-3)) << dtype_name(act);
    EXPECT_TRUE(equal(device.windows, data.windows, 0, 0)) << dtype_name(act);
  }
}

// FlashInfer's kernel gets queries and keys from the convolution as it gets them from our preparation.
TEST_P(CudaDeltaMixer, PrefillByFlashInferHasTheBitsOfThreeKernels) {
  const MixerCase& c = GetParam();
  if (c.rows > 21) return;
  std::vector<RowSpec> rows = decode_rows(c.rows);
  for (const int32_t tokens : {70, 0, 2, 130, 1}) {
    const auto r = static_cast<int32_t>(rows.size());
    rows.push_back({tokens, 64 * (r % 2), r % 2 == 0 ? -1 : 2 * r, tokens == 130 ? -1 : 2 * r + 1});
  }
  const HostBatch batch(rows, c.rows);
  const BatchOnDevice dbatch(batch);
  const int64_t tokens = batch.batch.tokens;
  const MixerData data(random_, c, DType::kBF16, tokens, 2 * static_cast<int64_t>(rows.size()));
  MixerOnDevice once(data), one_by_one(data);
  run_on(flashinfer_ops(), [&](Ops& ops) {
    once.run(dbatch.batch, once.out, ops);
    one_by_one.run_one_by_one(dbatch.batch, ops);
  });
  EXPECT_TRUE(same_bytes(once.windows, one_by_one.windows));
  EXPECT_TRUE(same_bytes(once.states, one_by_one.states));
  const HostTensor mine = once.out.host(), wanted = one_by_one.out.host();
  for (size_t r = 0; r < rows.size(); ++r) {
    if (rows[r].write < 0) continue;
    const int32_t begin = batch.batch.row_begin.as<int32_t>()[r];
    EXPECT_TRUE(same_bits(mine.view.rows(begin, rows[r].tokens), wanted.view.rows(begin, rows[r].tokens))) << r;
  }
}

// A row alone and among others: the same bits, though others launch another kernel for many heads.
TEST_P(CudaDeltaMixer, ARowIsTheSameInEveryBatch) {
  const MixerCase& c = GetParam();
  const std::vector<RowSpec> rows = decode_rows(c.rows);
  const HostBatch batch(rows, c.rows);
  const BatchOnDevice dbatch(batch);
  const MixerData data(random_, c, DType::kBF16, c.rows, 2 * c.rows);
  MixerOnDevice together(data), alone(data);
  together.run(dbatch.batch);
  for (int32_t r = 0; r < c.rows; ++r) {
    const HostBatch one({rows[static_cast<size_t>(r)]}, 1);
    const BatchOnDevice done(one);
    const DeltaWeights weights = {alone.conv, alone.a_log, alone.dt_bias, alone.norm, 1e-6f};
    cuda_ops().delta_mixer(alone.u.view.rows(r, 1), alone.z.view.rows(r, 1), alone.a.view.rows(r, 1),
                           alone.b.view.rows(r, 1), weights, c.shape, alone.windows, alone.states, done.batch,
                           alone.c.view.rows(r, 1), alone.out.view.rows(r, 1));
    settle(cuda_ops());
  }
  EXPECT_EQ(together.out.host().bytes, alone.out.host().bytes);
  EXPECT_EQ(together.windows.host().bytes, alone.windows.host().bytes);
  EXPECT_EQ(together.states.host().bytes, alone.states.host().bytes);
}

}  // namespace
}  // namespace hylas::test
