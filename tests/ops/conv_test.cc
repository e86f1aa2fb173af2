// Causal convolution and its state.
#include <gtest/gtest.h>

#include <cmath>

#include "support/reference_ops.h"

namespace hylas::test {
namespace {

class Conv : public PerIsa {};
HYLAS_PER_ISA(Conv);

// Rows shorter than the history, fresh ones, one that reads and writes different slots, padding.
const std::vector<RowSpec> kRows = {{1, 7, 0, 0}, {1, 0, -1, 1}, {1, 3, -1, -1}, {2, 9, 2, 3},
                                    {0, 4, 4, 4}, {3, 0, -1, 5}, {70, 64, 6, 6}, {0, 5, 7, 8}};

TEST_P(Conv, EqualsTheReferenceAndKeepsTheLastThreeInputs) {
  Machine machine(GetParam());
  for (DType act : {DType::kF32, DType::kBF16}) {
    for (int64_t channels : {8, 100, 192}) {
      HostBatch batch(kRows, 3);
      int64_t tokens = batch.batch.tokens;
      HostTensor u = random_tensor(random, act, {tokens, channels}, 1.f, 16);
      HostTensor weight = random_tensor(random, act, {channels, 4}, 1.f), out = poisoned(act, {tokens, channels}, 4);
      HostTensor pool = random_tensor(random, act, {11, channels, 3}, 1.f), before = pool;
      for (int64_t slot : {1, 3, 5, 8}) {  // only written
        for (int64_t i = 0; i < 3 * channels; ++i) set(pool, slot, i, NAN);
      }
      cpu::conv_silu(machine.pool, machine.scratch, u, weight, pool, batch.batch, out);
      std::vector<bool> written(11, false);
      for (size_t r = 0; r < kRows.size(); ++r) {
        int64_t begin = batch.batch.row_begin.as<int32_t>()[r];
        if (kRows[r].write < 0) {
          EXPECT_TRUE(std::isnan(get(out, begin, 0)));
          continue;
        }
        std::vector<double> state(static_cast<size_t>(3 * channels), 0.0);
        if (kRows[r].read >= 0) state = values(before, kRows[r].read, 1);
        std::vector<double> wanted = reference::conv_silu(values(u, begin, kRows[r].tokens), weight, state);
        EXPECT_TRUE(close(values(out, begin, kRows[r].tokens), wanted, 1e-6, 2 * rounding(act))) << "row " << r;
        EXPECT_TRUE(close(values(pool, kRows[r].write, 1), state, 0, 0)) << "state of row " << r;
        written[static_cast<size_t>(kRows[r].write)] = true;
      }
      for (int64_t slot = 0; slot < 11; ++slot) {
        if (written[static_cast<size_t>(slot)]) continue;
        EXPECT_TRUE(close(values(pool, slot, 1), values(before, slot, 1), 0, 0));
      }
    }
  }
}

TEST_P(Conv, SameBitsHoweverTheRowIsCut) {
  constexpr int64_t kTokens = 200, kChannels = 136;
  HostTensor u = random_tensor(random, DType::kBF16, {kTokens, kChannels}, 1.f);
  HostTensor weight = random_tensor(random, DType::kBF16, {kChannels, 4}, 1.f);
  auto run = [&](int threads, const std::vector<int32_t>& cuts) {
    Machine machine(GetParam(), threads);
    HostTensor out = poisoned(DType::kBF16, {kTokens, kChannels}), pool = poisoned(DType::kBF16, {2, kChannels, 3});
    int32_t begin = 0, slot = -1;
    for (int32_t end : cuts) {
      HostBatch batch({{end - begin, begin, slot, slot == 0 ? 1 : 0}}, 0);
      cpu::conv_silu(machine.pool, machine.scratch, u.view.rows(begin, end - begin), weight, pool, batch.batch,
                     out.view.rows(begin, end - begin));
      begin = end;
      slot = slot == 0 ? 1 : 0;
    }
    std::vector<double> result = values(out), state = values(pool, slot, 1);
    result.insert(result.end(), state.begin(), state.end());
    return result;
  };
  std::vector<double> whole = run(1, {200});
  EXPECT_EQ(run(2, {200}), whole);
  EXPECT_EQ(run(3, {64, 128, 192, 200}), whole);
  EXPECT_EQ(run(2, {1, 2, 3, 5, 12, 112, 200}), whole);
}

}  // namespace
}  // namespace hylas::test
