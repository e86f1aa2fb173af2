// Gated delta rule: recurrent and chunked form against the recurrence in double.
#include <gtest/gtest.h>

#include <cmath>

#include "support/reference_ops.h"

namespace hylas::test {
namespace {

class DeltaRule : public PerIsa {};
HYLAS_PER_ISA(DeltaRule);

// Random inputs of `tokens` tokens; `decay` and `write` shift the gates: a = 5 forgets almost everything in a step, a =
// -9 almost nothing.
struct Problem {
  Problem(std::mt19937& random, const DeltaShape& delta_shape, DType act, int64_t tokens, float decay, float write)
      : shape(delta_shape),
        qkv(random_tensor(random, act, {tokens, shape.channels()}, 1.f, 8)),
        a(random_tensor(random, DType::kF32, {tokens, shape.value_heads}, 1.f)),
        b(random_tensor(random, act, {tokens, shape.value_heads}, 1.f)),
        a_log(random_tensor(random, DType::kF32, {shape.value_heads}, 0.5f)),
        dt_bias(random_tensor(random, DType::kBF16, {shape.value_heads}, 0.5f)) {
    for (int64_t t = 0; t < tokens; ++t) {
      for (int64_t h = 0; h < shape.value_heads; ++h) {
        set(a, t, h, static_cast<float>(get(a, t, h)) + decay);
        set(b, t, h, static_cast<float>(get(b, t, h)) + write);
      }
    }
  }

  reference::DeltaInputs inputs(int64_t head, int64_t begin, int64_t tokens) const {
    reference::DeltaInputs in;
    int64_t key_head = head / (shape.value_heads / shape.key_heads);
    auto part = [&](int64_t t, int64_t offset, int64_t count) {
      std::vector<double> x;
      for (int64_t i = 0; i < count; ++i) x.push_back(get(qkv, t, offset + i));
      return x;
    };
    for (int64_t t = begin; t < begin + tokens; ++t) {
      in.query.push_back(part(t, key_head * shape.key_dim, shape.key_dim));
      in.key.push_back(part(t, (shape.key_heads + key_head) * shape.key_dim, shape.key_dim));
      in.value.push_back(part(t, 2 * shape.key_heads * shape.key_dim + head * shape.value_dim, shape.value_dim));
      in.a.push_back(get(a, t, head));
      in.b.push_back(get(b, t, head));
    }
    in.a_log = get(a_log, head, 0);
    in.dt_bias = get(dt_bias, head, 0);
    return in;
  }

  // Tokens [begin, begin + batch.tokens) of the problem.
  void run(Machine& machine, const HostTensor& pool, const Batch& batch, int64_t begin, const HostTensor& out) const {
    cpu::delta_rule(machine.pool, machine.scratch, qkv.view.rows(begin, batch.tokens), a.view.rows(begin, batch.tokens),
                    b.view.rows(begin, batch.tokens), a_log, dt_bias, shape, pool, batch,
                    out.view.rows(begin, batch.tokens));
  }

  DeltaShape shape;
  HostTensor qkv, a, b, a_log, dt_bias;
};

// Largest |wanted|: errors are measured against it, since single elements may cancel.
double size_of(const std::vector<double>& wanted) {
  double size = 1e-30;
  for (double x : wanted) size = std::max(size, std::abs(x));
  return size;
}

const DeltaShape kShapes[] = {{2, 4, 128, 128}, {2, 8, 32, 32}, {1, 3, 24, 40}};

void check_batch(Machine& machine, const Problem& problem, const std::vector<RowSpec>& rows, int32_t decode_rows,
                 DType state_type, DType act) {
  HostBatch batch(rows, decode_rows);
  const DeltaShape& shape = problem.shape;
  std::mt19937 random(5);
  HostTensor pool = random_tensor(random, state_type, {9, shape.value_heads, shape.key_dim, shape.value_dim}, 1.f);
  HostTensor before = pool, out = poisoned(act, {batch.batch.tokens, shape.value_heads, shape.value_dim});
  std::vector<bool> written(9, false);
  for (const RowSpec& row : rows) {
    if (row.write < 0) continue;
    written[static_cast<size_t>(row.write)] = true;
    bool only_written = row.read != row.write;
    for (int64_t i = 0; only_written && i < pool.view.row_elements(); ++i) set(pool, row.write, i, NAN);
  }
  problem.run(machine, pool, batch.batch, 0, out);
  int64_t state_size = int64_t{shape.key_dim} * shape.value_dim;
  double tolerance = 1e-5 + (act == DType::kBF16 ? 0x1p-8 : 0), state_tolerance = 1e-5 + 70 * rounding(state_type);
  if (state_type == DType::kF32) state_tolerance = 1e-5;
  for (size_t r = 0; r < rows.size(); ++r) {
    int64_t begin = batch.batch.row_begin.as<int32_t>()[r];
    if (rows[r].write < 0) {
      EXPECT_TRUE(rows[r].tokens == 0 || std::isnan(get(out, begin, 0)));
      continue;
    }
    for (int64_t h = 0; h < shape.value_heads; ++h) {
      std::vector<double> state(static_cast<size_t>(state_size), 0.0), got, got_state;
      for (int64_t i = 0; rows[r].read >= 0 && i < state_size; ++i) {
        state[static_cast<size_t>(i)] = get(before, rows[r].read, h * state_size + i);
      }
      std::vector<double> wanted = reference::delta_rule(problem.inputs(h, begin, rows[r].tokens), state);
      for (int64_t t = begin; t < begin + rows[r].tokens; ++t) {
        for (int64_t v = 0; v < shape.value_dim; ++v) got.push_back(get(out, t, h * shape.value_dim + v));
      }
      for (int64_t i = 0; i < state_size; ++i) got_state.push_back(get(pool, rows[r].write, h * state_size + i));
      double loose = state_type == DType::kF32 ? tolerance : tolerance + (rows[r].tokens > 64 ? state_tolerance : 0);
      EXPECT_TRUE(close(got, wanted, loose * size_of(wanted), 0)) << "row " << r << " head " << h;
      EXPECT_TRUE(close(got_state, state, state_tolerance * size_of(state), 0))
          << "state of row " << r << " head " << h;
    }
  }
  for (int64_t slot = 0; slot < 9; ++slot) {
    if (written[static_cast<size_t>(slot)]) continue;
    EXPECT_TRUE(close(values(pool, slot, 1), values(before, slot, 1), 0, 0));
  }
}

TEST_P(DeltaRule, EqualsTheRecurrenceForEveryRowOfABatch) {
  Machine machine(GetParam());
  const std::vector<RowSpec> rows = {{1, 70, 0, 0},  {1, 0, -1, 1}, {1, 1, -1, -1}, {1, 9, 2, 3},   {150, 0, -1, 4},
                                     {0, 3, -1, -1}, {7, 60, 5, 5}, {1, 64, 6, 6},  {69, 128, 8, 7}};
  for (const DeltaShape& shape : kShapes) {
    for (DType act : {DType::kF32, DType::kBF16}) {
      Problem problem(random, shape, act, 231, -2.f, 0.f);
      check_batch(machine, problem, rows, 4, DType::kF32, act);
    }
  }
}

TEST_P(DeltaRule, StrongAndWeakDecayAreAccurate) {
  Machine machine(GetParam());
  for (float decay : {-9.f, -5.f, 0.f, 3.f, 30.f}) {
    for (float write : {-3.f, 4.f}) {
      Problem problem(random, {1, 2, 128, 128}, DType::kF32, 141, decay, write);
      check_batch(machine, problem, {{1, 3, 0, 0}, {140, 10, 1, 1}}, 1, DType::kF32, DType::kF32);
    }
  }
}

// A burst of strong decay within a tile must not spoil what comes behind it.
TEST_P(DeltaRule, DecayDifferencesKeepTheirPrecision) {
  Machine machine(GetParam());
  Problem problem(random, {1, 1, 32, 32}, DType::kF32, 64, -7.f, 1.f);
  for (int64_t t = 10; t < 30; ++t) set(problem.a, t, 0, 300.f);
  check_batch(machine, problem, {{64, 0, 0, 0}}, 0, DType::kF32, DType::kF32);
}

TEST_P(DeltaRule, ARowWithoutTokensPassesItsStateOn) {
  Machine machine(GetParam());
  Problem problem(random, {1, 2, 32, 32}, DType::kF32, 0, 0.f, 0.f);
  check_batch(machine, problem, {{0, 5, 1, 2}, {0, 0, -1, 3}, {0, 9, 4, 4}}, 0, DType::kF32, DType::kF32);
}

TEST_P(DeltaRule, SixteenBitStatesAreRounded) {
  Machine machine(GetParam());
  for (DType state : {DType::kF16, DType::kBF16}) {
    Problem problem(random, {1, 2, 64, 40}, DType::kF32, 131, -2.f, 0.f);
    check_batch(machine, problem, {{1, 5, 0, 1}, {130, 0, 2, 2}}, 1, state, DType::kF32);
  }
}

TEST_P(DeltaRule, F16StatesSaturate) {
  Machine machine(GetParam());
  Problem problem(random, {1, 1, 8, 8}, DType::kF32, 3, -9.f, 9.f);
  for (int64_t t = 0; t < 3; ++t) {
    for (int64_t i = 16; i < 24; ++i) set(problem.qkv, t, i, 1e7f);
  }
  HostTensor pool = poisoned(DType::kF16, {2, 1, 8, 8}), out = poisoned(DType::kF32, {3, 1, 8});
  HostBatch batch({{1, 0, -1, 0}, {2, 0, -1, 1}}, 1);
  problem.run(machine, pool, batch.batch, 0, out);
  double largest = 0;
  for (double x : values(pool)) {
    EXPECT_TRUE(std::isfinite(x));
    largest = std::max(largest, std::abs(x));
  }
  EXPECT_EQ(largest, 65504);
}

// One prefill, chunks at multiples of 64, any threads, other rows beside it, separate slots: the same bits.
TEST_P(DeltaRule, SameBitsHoweverTheRowIsCutAtMultiplesOf64) {
  constexpr int64_t kTokens = 200;
  for (DType state : {DType::kF32, DType::kF16, DType::kBF16}) {
    DeltaShape shape = {2, 4, 40, 72};
    Problem problem(random, shape, DType::kF32, kTokens + 37, -3.f, 0.f);
    auto run = [&](int threads, const std::vector<int32_t>& cuts, bool companion) {
      Machine machine(GetParam(), threads);
      HostTensor pool = poisoned(state, {4, 4, 40, 72}), out = poisoned(DType::kF32, {kTokens + 37, 4, 72});
      int32_t begin = 0, slot = -1;
      for (int32_t end : cuts) {
        std::vector<RowSpec> rows = {{end - begin, begin, slot, slot == 0 ? 1 : 0}};
        if (companion && end == kTokens) rows.push_back({37, 5, -1, 3});
        HostBatch batch(rows, 0);
        problem.run(machine, pool, batch.batch, begin, out);
        begin = end;
        slot = slot == 0 ? 1 : 0;
      }
      std::vector<double> result = values(out, 0, kTokens), last = values(pool, slot, 1);
      result.insert(result.end(), last.begin(), last.end());
      return result;
    };
    std::vector<double> whole = run(1, {200}, false);
    EXPECT_EQ(run(2, {200}, true), whole);
    EXPECT_EQ(run(3, {64, 200}, false), whole);
    EXPECT_EQ(run(2, {128, 200}, true), whole);
    EXPECT_EQ(run(2, {64, 128, 192, 200}, false), whole);
    if (state == DType::kF32) {
      EXPECT_TRUE(close(run(2, {1, 8, 108, 200}, false), whole, 1e-5 * size_of(whole), 0));
    }
  }
}

TEST_P(DeltaRule, DecodingContinuesAPrefill) {
  Machine machine(GetParam());
  DeltaShape shape = {1, 2, 32, 64};
  Problem problem(random, shape, DType::kF32, 100, -2.f, 0.f);
  HostTensor pool = poisoned(DType::kF32, {2, 2, 32, 64}), out = poisoned(DType::kF32, {100, 2, 64});
  HostTensor whole = out;
  HostBatch all({{100, 0, -1, 1}}, 0), prefill({{70, 0, -1, 0}}, 0);
  problem.run(machine, pool, all.batch, 0, whole);
  problem.run(machine, pool, prefill.batch, 0, out);
  for (int32_t t = 70; t < 100; ++t) {
    HostBatch step({{1, t, 0, 0}}, 1);
    problem.run(machine, pool, step.batch, t, out);
  }
  EXPECT_TRUE(close(values(out), values(whole), 1e-5 * size_of(values(whole)), 0));
  EXPECT_TRUE(close(values(pool, 0, 1), values(pool, 1, 1), 1e-5 * size_of(values(pool, 1, 1)), 0));
}

}  // namespace
}  // namespace hylas::test
