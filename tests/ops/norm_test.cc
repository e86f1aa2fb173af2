// Norms, the gate product and copies of rows.
#include <gtest/gtest.h>

#include "support/reference_ops.h"

namespace hylas::test {
namespace {

class Norm : public PerIsa {};
HYLAS_PER_ISA(Norm);

struct NormCase {
  DType act, weight;
  int64_t tokens, width;
};
std::vector<NormCase> norm_cases() {
  std::vector<NormCase> cases;
  for (DType act : {DType::kF32, DType::kBF16}) {
    for (DType weight : {DType::kF32, DType::kBF16}) {
      for (int64_t width : {1, 8, 37, 128, 1024}) cases.push_back({act, weight, width == 37 ? 70 : 3, width});
    }
  }
  cases.push_back({DType::kF32, DType::kF32, 0, 64});
  return cases;
}

TEST_P(Norm, RmsNormMultipliesByOnePlusWeight) {
  Machine machine(GetParam());
  for (const NormCase& c : norm_cases()) {
    HostTensor x = random_tensor(random, c.act, {c.tokens, c.width}, 2.f, 5);
    HostTensor weight = random_tensor(random, c.weight, {c.width}, 0.3f);
    HostTensor out = poisoned(c.act, {c.tokens, c.width}, 3);
    cpu::rms_norm(machine.pool, machine.scratch, x, weight, 1e-6f, out);
    EXPECT_TRUE(close(values(out), reference::rms_norm(values(x), weight, 1e-6, true), 1e-6, 4 * rounding(c.act)))
        << c.width;
  }
}

TEST_P(Norm, AddRmsNormAddsTheTreeOfPartialSumsFirst) {
  Machine machine(GetParam());
  for (const NormCase& c : norm_cases()) {
    for (int64_t slices : {1, 2, 4}) {
      HostTensor partials = random_tensor(random, DType::kF32, {slices, c.tokens, c.width}, 1.f);
      HostTensor residual = random_tensor(random, c.act, {c.tokens, c.width}, 2.f, 2);
      HostTensor weight = random_tensor(random, c.weight, {c.width}, 0.3f);
      HostTensor out = poisoned(c.act, {c.tokens, c.width}, 3);
      std::vector<double> sum = values(residual);
      for (size_t i = 0; i < sum.size(); ++i) {
        for (int64_t s = 0; s < slices; ++s) sum[i] += get(partials, s, static_cast<int64_t>(i));
      }
      cpu::add_rms_norm(machine.pool, machine.scratch, partials, residual, weight, 1e-6f, out);
      EXPECT_TRUE(close(values(residual), sum, 1e-5, rounding(c.act)));
      EXPECT_TRUE(
          close(values(out), reference::rms_norm(values(residual), weight, 1e-6, true), 1e-6, 4 * rounding(c.act)));
    }
  }
}

// A pipeline stage that ends with the residual and one that begins with it see the numbers of a single stage.
TEST_P(Norm, AddRmsNormWithoutOutputThenRmsNormIsTheSame) {
  Machine machine(GetParam());
  HostTensor partials = random_tensor(random, DType::kF32, {4, 9, 96}, 1.f);
  HostTensor whole = random_tensor(random, DType::kBF16, {9, 96}, 2.f), halves = whole;
  HostTensor weight = random_tensor(random, DType::kBF16, {96}, 0.3f);
  HostTensor out = poisoned(DType::kBF16, {9, 96}), out2 = poisoned(DType::kBF16, {9, 96});
  cpu::add_rms_norm(machine.pool, machine.scratch, partials, whole, weight, 1e-6f, out);
  cpu::add_rms_norm(machine.pool, machine.scratch, partials, halves, weight, 1e-6f, Tensor());
  cpu::rms_norm(machine.pool, machine.scratch, halves, weight, 1e-6f, out2);
  EXPECT_EQ(out.bytes, out2.bytes);
}

TEST_P(Norm, PartialSumsAreAddedAsATree) {
  Machine machine(GetParam());
  HostTensor partials = poisoned(DType::kF32, {4, 1, 1});
  float parts[] = {1e8f, 3.f, -1e8f, 5.f};  // ((p0 + p1) + (p2 + p3)) in f32 is not 8
  for (int64_t s = 0; s < 4; ++s) set(partials, s, 0, parts[s]);
  HostTensor residual = poisoned(DType::kF32, {1, 1}), weight = random_tensor(random, DType::kF32, {1}, 1.f);
  set(residual, 0, 0, 0.f);
  cpu::add_rms_norm(machine.pool, machine.scratch, partials, residual, weight, 1e-6f, Tensor());
  volatile float left = parts[0] + parts[1], right = parts[2] + parts[3];
  EXPECT_EQ(get(residual, 0, 0), left + right);
}

TEST_P(Norm, GatedNormTakesTheWeightAsItIs) {
  Machine machine(GetParam());
  for (DType act : {DType::kF32, DType::kBF16}) {
    for (int64_t dim : {32, 40, 128}) {
      HostTensor x = random_tensor(random, act, {5, 3, dim}, 2.f), z = random_tensor(random, act, {5, 3, dim}, 3.f, 7);
      HostTensor weight = random_tensor(random, DType::kF32, {dim}, 1.f), out = poisoned(act, {5, 3, dim});
      std::vector<double> wanted = reference::rms_norm(values(x), weight, 1e-6, false), gate = values(z);
      for (size_t i = 0; i < gate.size(); ++i) wanted[i] *= reference::silu(gate[i]);
      cpu::gated_rms_norm(machine.pool, machine.scratch, x, z, weight, 1e-6f, out);
      EXPECT_TRUE(close(values(out), wanted, 1e-6, 4 * rounding(act)));
    }
  }
}

TEST_P(Norm, SiluMul) {
  Machine machine(GetParam());
  for (DType act : {DType::kF32, DType::kBF16}) {
    for (int64_t width : {1, 24, 3584, 5000}) {
      HostTensor gate = random_tensor(random, act, {3, width}, 20.f, 1),
                 up = random_tensor(random, act, {3, width}, 1.f);
      HostTensor out = poisoned(act, {3, width}, 2);
      std::vector<double> wanted = values(gate), right = values(up);
      for (size_t i = 0; i < wanted.size(); ++i) wanted[i] = reference::silu(wanted[i]) * right[i];
      cpu::silu_mul(machine.pool, machine.scratch, gate, up, out);
      EXPECT_TRUE(close(values(out), wanted, 1e-7, 2 * rounding(act)));
    }
  }
}

TEST_P(Norm, SiluOfExtremesIsFinite) {
  Machine machine(GetParam());
  HostTensor gate = poisoned(DType::kF32, {1, 4}), up = poisoned(DType::kF32, {1, 4}),
             out = poisoned(DType::kF32, {1, 4});
  float extremes[] = {-1e30f, -100.f, 0.f, 1e30f};
  for (int64_t i = 0; i < 4; ++i) {
    set(gate, 0, i, extremes[i]);
    set(up, 0, i, 1.f);
  }
  cpu::silu_mul(machine.pool, machine.scratch, gate, up, out);
  EXPECT_TRUE(close(values(out), {0, 0, 0, 1e30}, 1e-6, 1e-6));
}

TEST_P(Norm, SiluOfNanIsNan) {
  Machine machine(GetParam());
  HostTensor gate = random_tensor(random, DType::kF32, {1, 40}, 1.f),
             up = random_tensor(random, DType::kF32, {1, 40}, 1.f);
  for (int64_t i : {3, 37}) set(gate, 0, i, std::nanf(""));
  cpu::silu_mul(machine.pool, machine.scratch, gate, up, gate);
  for (int64_t i = 0; i < 40; ++i) EXPECT_EQ(std::isnan(get(gate, 0, i)), i == 3 || i == 37) << i;
}

TEST_P(Norm, SameBitsForAnyNumberOfThreads) {
  HostTensor x = random_tensor(random, DType::kF32, {300, 2, 72}, 2.f),
             z = random_tensor(random, DType::kF32, {300, 2, 72}, 2.f);
  HostTensor weight = random_tensor(random, DType::kF32, {72}, 1.f);
  std::vector<std::vector<std::byte>> results;
  for (int threads : {1, 2, 3}) {
    Machine machine(GetParam(), threads);
    HostTensor out = poisoned(DType::kF32, {300, 2, 72});
    cpu::gated_rms_norm(machine.pool, machine.scratch, x, z, weight, 1e-6f, out);
    results.push_back(out.bytes);
  }
  EXPECT_EQ(results[0], results[1]);
  EXPECT_EQ(results[0], results[2]);
}

TEST(CopyRows, EmbedConvertsToTheActivationType) {
  std::mt19937 random(1);
  cpu::ThreadPool pool(2);
  HostTensor ids = int_tensor({3, 0, 3, 6}, {4});
  for (DType stored : {DType::kF32, DType::kBF16}) {
    for (DType act : {DType::kF32, DType::kBF16}) {
      HostTensor table = random_tensor(random, stored, {7, 33}, 1.f, 2), out = poisoned(act, {4, 33});
      cpu::embed(pool, ids, table, 0, out);
      for (int64_t t = 0; t < 4; ++t) {
        int64_t id = ids.view.as<int32_t>()[t];
        EXPECT_TRUE(close(values(out, t, 1), values(table, id, 1), 0, stored == act ? 0 : rounding(act)));
      }
    }
  }
  cpu::embed(pool, int_tensor({}, {0}), random_tensor(random, DType::kF32, {7, 33}, 1.f), 0,
             poisoned(DType::kF32, {0, 33}));
}

TEST(CopyRows, TheRanksOfAVocabularyParallelTableAddUpToTheWholeTable) {
  std::mt19937 random(4);
  cpu::ThreadPool pool(2);
  HostTensor ids = int_tensor({0, 4, 5, 8, 9, 11}, {6});
  HostTensor table = random_tensor(random, DType::kBF16, {12, 33}, 1.f), whole = poisoned(DType::kF32, {6, 33});
  cpu::embed(pool, ids, table, 0, whole);
  std::vector<double> sum(6 * 33);
  for (int32_t begin : {0, 5, 9}) {
    int32_t end = begin == 0 ? 5 : begin == 5 ? 9 : 12;
    HostTensor part = poisoned(DType::kF32, {6, 33});
    cpu::embed(pool, ids, table.view.rows(begin, end - begin), begin, part);
    for (int64_t t = 0; t < 6; ++t) {
      int32_t id = ids.view.as<int32_t>()[t];
      if (id >= begin && id < end) continue;
      EXPECT_EQ(values(part, t, 1), std::vector<double>(33, 0.0));
    }
    std::vector<double> rows = values(part);
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += rows[i];
  }
  EXPECT_EQ(sum, values(whole));
}

TEST(CopyRows, ConversionRoundsOnce) {
  std::mt19937 random(5);
  cpu::ThreadPool pool(2);
  HostTensor x = random_tensor(random, DType::kF32, {20, 9}, 1.f, 4), narrow = poisoned(DType::kBF16, {20, 9}, 1);
  cpu::convert(pool, x, narrow);
  EXPECT_TRUE(close(values(narrow), values(x), 0, rounding(DType::kBF16)));
  HostTensor wide = poisoned(DType::kF32, {20, 9});
  cpu::convert(pool, narrow, wide);
  EXPECT_EQ(values(wide), values(narrow));
}

TEST(CopyRows, GatherTakesRowsByIndex) {
  std::mt19937 random(2);
  cpu::ThreadPool pool(2);
  HostTensor x = random_tensor(random, DType::kBF16, {50, 9}, 1.f, 4), out = poisoned(DType::kBF16, {40, 9}, 1);
  std::vector<int32_t> index;
  for (int32_t i = 0; i < 40; ++i) index.push_back(49 - i);
  cpu::gather_rows(pool, x, int_tensor(index, {40}), out);
  for (int64_t i = 0; i < 40; ++i)
    EXPECT_TRUE(close(values(out, i, 1), values(x, index[static_cast<size_t>(i)], 1), 0, 0));
}

TEST(CopyRows, ConcatPutsTheFirstInFront) {
  std::mt19937 random(3);
  cpu::ThreadPool pool(2);
  HostTensor a = random_tensor(random, DType::kBF16, {20, 5}, 1.f),
             b = random_tensor(random, DType::kBF16, {20, 3}, 1.f, 9);
  HostTensor out = poisoned(DType::kBF16, {20, 8});
  cpu::concat_columns(pool, a, b, out);
  for (int64_t t = 0; t < 20; ++t) {
    std::vector<double> wanted = values(a, t, 1), right = values(b, t, 1);
    wanted.insert(wanted.end(), right.begin(), right.end());
    EXPECT_TRUE(close(values(out, t, 1), wanted, 0, 0));
  }
}

}  // namespace
}  // namespace hylas::test
