// Products on the GPU: right beside the CPU's, and the same bits whatever the number of rows.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "cuda/parity.h"
#include "ops/decode_plan.h"

namespace hylas::test {
namespace {

struct LinearCase {
  DType act, weight;
  int64_t rows, inputs, outputs, gap;
};

class CudaLinear : public testing::TestWithParam<LinearCase> {
 protected:
  std::mt19937 random_{72};
};

std::vector<LinearCase> cases() {
  std::vector<LinearCase> all;
  for (DType act : {DType::kF32, DType::kBF16}) {
    for (DType weight : {DType::kF32, DType::kBF16, DType::kF8E4M3}) {
      all.push_back({act, weight, 1, 256, 256, 0});
      all.push_back({act, weight, 5, 72, 40, 0});   // no multiple of a step
      all.push_back({act, weight, 9, 133, 61, 3});  // no multiple of anything
      all.push_back({act, weight, 17, 512, 384, 16});
      all.push_back({act, weight, 64, 1024, 192, 0});
      all.push_back({act, weight, 300, 640, 1300, 0});
    }
  }
  return all;
}
INSTANTIATE_TEST_SUITE_P(Kinds, CudaLinear, testing::ValuesIn(cases()));

TEST_P(CudaLinear, EqualsTheCpu) {
  const auto [act, kind, rows, inputs, outputs, gap] = GetParam();
  const Matrix x = random_matrix(random_, act, rows, inputs, 1.f, gap);
  const Matrix w = random_matrix(random_, kind, outputs, inputs, 0.05f, gap),
               v = random_matrix(random_, kind, 33, inputs, 0.05f);
  HostTensor out = poisoned(act, {rows, outputs}, gap), more = poisoned(DType::kF32, {rows, 33});
  OnDevice dx(x), dout(out), dmore(more);
  const WeightOnDevice dw(w), dv(v);
  const LinearWeight weights[] = {w.weight(), v.weight()}, dweights[] = {dw.weight(), dv.weight()};
  const Tensor outs[] = {out, more}, douts[] = {dout, dmore};
  cpu_ops().linear(x.view, weights, outs);
  cuda_ops().linear(dx, dweights, douts);
  EXPECT_TRUE(equal(dout, out, 2e-5, 2 * rounding(act)));
  EXPECT_TRUE(equal(dmore, more, 2e-5, 1e-5));
}

TEST_P(CudaLinear, SlicesEqualTheCpu) {
  const auto [act, kind, rows, inputs, outputs, gap] = GetParam();
  const Matrix x = random_matrix(random_, act, rows, inputs, 1.f, gap),
               w = random_matrix(random_, kind, outputs, inputs, 0.05f, gap);
  OnDevice dx(x);
  const WeightOnDevice dw(w);
  for (int64_t slices : {1, 2, 4}) {
    HostTensor partials = poisoned(DType::kF32, {slices, rows, outputs});
    OnDevice dpartials(partials);
    cpu_ops().linear_partial(x.view, w.weight(), partials);
    cuda_ops().linear_partial(dx, dw.weight(), dpartials);
    EXPECT_TRUE(equal(dpartials, partials, 2e-5, 1e-5)) << slices;
  }
}

// Gate and up of a gated MLP, in one launch or in several.
TEST_P(CudaLinear, GateAndUpEqualTheCpu) {
  const auto [act, kind, rows, inputs, outputs, gap] = GetParam();
  const Matrix x = random_matrix(random_, act, rows, inputs, 1.f, gap);
  const Matrix gate = random_matrix(random_, kind, outputs, inputs, 0.05f, gap),
               up = random_matrix(random_, kind, outputs, inputs, 0.05f);
  HostTensor out = poisoned(act, {rows, outputs}, gap), scratch = poisoned(act, {rows, outputs});
  const OnDevice dx(x), dout(out), dscratch(scratch);
  const WeightOnDevice dgate(gate), dup(up);
  cpu_ops().linear_silu_mul(x.view, gate.weight(), up.weight(), out, scratch);
  cuda_ops().linear_silu_mul(dx, dgate.weight(), dup.weight(), dout, dscratch);
  // A product that is rounded the other way moves its factor by a whole step of bf16.
  EXPECT_TRUE(equal(dout, out, act == DType::kBF16 ? 1e-2 : 2e-5, 4 * rounding(act)));
  EXPECT_TRUE(near(dout, out, act == DType::kBF16 ? 3e-3 : 1e-5));
}

// Many rows go another way: FP8 weights are rounded to bf16 there.
TEST(CudaLinearRows, ManyRowsEqualTheCpu) {
  std::mt19937 random(80);
  for (DType kind : {DType::kBF16, DType::kF8E4M3}) {
    const Matrix x = random_matrix(random, DType::kBF16, 700, 1152, 1.f, 8);
    const Matrix w = random_matrix(random, kind, 384, 1152, 0.05f);
    OnDevice dx(x);
    const WeightOnDevice dw(w);
    HostTensor out = poisoned(DType::kBF16, {700, 384}, 8), partials = poisoned(DType::kF32, {4, 700, 384});
    OnDevice dout(out), dpartials(partials);
    const LinearWeight weight = w.weight(), dweight = dw.weight();
    const Tensor outs[] = {out}, douts[] = {dout};
    cpu_ops().linear(x.view, {&weight, 1}, outs);
    cuda_ops().linear(dx, {&dweight, 1}, douts);
    EXPECT_TRUE(near(dout, out, 4e-3));
    cpu_ops().linear_partial(x.view, weight, partials);
    cuda_ops().linear_partial(dx, dweight, dpartials);
    EXPECT_TRUE(near(dpartials, partials, kind == DType::kBF16 ? 1e-6 : 3e-3));
  }
}

// Every size of tile, and rows at every place in it; what cuBLASLt does (512 rows and more, bf16 from 129 on) has an
// order of its own, whatever the number of rows.
TEST(CudaLinearRows, ARowIsTheSameInEveryBatch) {
  std::mt19937 random(73);
  for (DType act : {DType::kF32, DType::kBF16}) {
    for (DType kind : {DType::kBF16, DType::kF8E4M3}) {
      const Matrix x = random_matrix(random, act, 1500, 1152, 1.f), w = random_matrix(random, kind, 2048, 1152, 0.05f);
      OnDevice dx(x);
      const WeightOnDevice dw(w);
      const auto run = [&](int64_t begin, int64_t rows) {
        HostTensor out = poisoned(DType::kF32, {2, rows, 2048});
        OnDevice dout(out);
        cuda_ops().linear_partial(dx.view.rows(begin, rows), dw.weight(), dout);
        return dout.host();
      };
      const bool bf16 = act == DType::kBF16 && kind == DType::kBF16;
      for (const auto& [begin, rows] : {std::pair<int64_t, int64_t>{0, 1},
                                        {477, 16},
                                        {3, 29},
                                        {100, 64},
                                        {700, 65},
                                        {64, 256},
                                        {1, 499},
                                        {8, 512},
                                        {200, 1024}}) {
        if (rows >= 512 && act == DType::kF32) continue;
        const int64_t few = bf16 ? kDecodeRowsMax : 511;
        const int64_t most = rows <= few ? few : rows < 512 ? 511 : 1500;  // of the same order
        const int64_t first = std::max<int64_t>(0, begin + rows - most);
        const HostTensor part = run(begin, rows), whole = run(first, most);
        for (int64_t s = 0; s < 2; ++s) {
          const float* mine = part.view.row<float>(s);
          const float* wanted = whole.view.row<float>(s) + (begin - first) * 2048;
          ASSERT_EQ(std::memcmp(mine, wanted, static_cast<size_t>(rows) * 2048 * sizeof(float)), 0) << rows << " rows";
        }
      }
    }
  }
}

// Gate and up of up to 64 rows go one way.
TEST(CudaLinearBits, GateAndUpDoNotDependOnTheRows) {
  std::mt19937 random(74);
  const OnDevice x(random_matrix(random, DType::kBF16, 64, 1024, 1.f));
  for (DType kind : {DType::kBF16, DType::kF8E4M3}) {
    const WeightOnDevice gate(random_matrix(random, kind, 320, 1024, 0.05f)),
        up(random_matrix(random, kind, 320, 1024, 0.05f));
    const auto run = [&](int64_t begin, int64_t rows) {
      const OnDevice out(poisoned(DType::kBF16, {rows, 320})), scratch(poisoned(DType::kBF16, {rows, 320}));
      cuda_ops().linear_silu_mul(x.view.rows(begin, rows), gate.weight(), up.weight(), out, scratch);
      return out.host();
    };
    const HostTensor all = run(0, 64);
    for (const auto& [begin, rows] : {std::pair<int64_t, int64_t>{0, 1}, {63, 1}, {5, 7}, {9, 16}, {20, 33}}) {
      EXPECT_EQ(values(run(begin, rows)), values(all, begin, rows)) << rows << " rows from " << begin;
    }
  }
}

// Few outputs, of one matrix and of two in one launch: a block has other rows and outputs where there are many rows.
TEST(CudaLinearBits, FewOutputsEqualTheCpuInEveryBatch) {
  std::mt19937 random(76);
  constexpr int64_t kRows = 511;
  for (const int64_t inputs : {512, 2048, 4096}) {
    const Matrix x = random_matrix(random, DType::kBF16, kRows, inputs, 1.f, 8),
                 router = random_matrix(random, DType::kBF16, 256, inputs, 0.05f),
                 gate = random_matrix(random, DType::kBF16, 3, inputs, 0.05f, 8);
    const OnDevice dx(x);
    const WeightOnDevice drouter(router), dgate(gate);
    struct Outs {
      explicit Outs(int64_t rows)
          : logits(poisoned(DType::kF32, {rows, 256}, 4)), gates(poisoned(DType::kBF16, {rows, 3})) {}
      OnDevice logits, gates;
    };
    const auto run = [&](int64_t begin, const Outs& to) {
      const LinearWeight weights[] = {drouter.weight(), dgate.weight()};
      const Tensor outs[] = {to.logits, to.gates};
      cuda_ops().linear(dx.view.rows(begin, to.logits.view.dim(0)), weights, outs);
    };
    const Outs all(kRows);
    run(0, all);
    HostTensor logits = poisoned(DType::kF32, {kRows, 256}, 4), gates = poisoned(DType::kBF16, {kRows, 3});
    const LinearWeight weights[] = {router.weight(), gate.weight()};
    const Tensor outs[] = {logits, gates};
    cpu_ops().linear(x.view, weights, outs);
    EXPECT_TRUE(equal(all.logits, logits, 2e-5, 1e-5));
    EXPECT_TRUE(equal(all.gates, gates, 2e-5, 2 * rounding(DType::kBF16)));
    const HostTensor all_logits = all.logits.host(), all_gates = all.gates.host();
    for (const auto& [begin, rows] :
         {std::pair<int64_t, int64_t>{0, 1}, {510, 1}, {5, 16}, {33, 128}, {3, 129}, {70, 256}}) {
      const Outs some(rows);
      run(begin, some);
      EXPECT_EQ(values(some.logits.host()), values(all_logits, begin, rows)) << rows << " rows from " << begin;
      EXPECT_EQ(values(some.gates.host()), values(all_gates, begin, rows)) << rows << " rows from " << begin;
    }
  }
}

// What a rank of several multiplies has the bits of one rank, however few heads are left to it.
TEST(CudaLinearBits, APartOfTheHeadsHasTheBitsOfTheWhole) {
  std::mt19937 random(75);
  constexpr int64_t kHeads = 32;
  for (const auto& [inputs, outputs] : {std::pair<int64_t, int64_t>{128, 256}, {2048, 8192}}) {
    const Matrix x = random_matrix(random, DType::kBF16, 20, inputs, 1.f),
                 large = random_matrix(random, DType::kBF16, outputs, inputs, 0.05f),
                 gates = random_matrix(random, DType::kBF16, kHeads, inputs, 0.05f);
    const OnDevice dx(x);
    const WeightOnDevice dlarge(large), dgates(gates);
    const auto run = [&](int64_t rows, int64_t ranks) {
      const LinearWeight weights[] = {{dlarge.weight().weight.rows(0, outputs / ranks), {}},
                                      {dgates.weight().weight.rows(0, kHeads / ranks), {}}};
      const OnDevice out(poisoned(DType::kBF16, {rows, outputs / ranks})),
          few(poisoned(DType::kF32, {rows, kHeads / ranks}));
      const Tensor outs[] = {out, few};
      cuda_ops().linear(dx.view.rows(0, rows), weights, outs);
      return std::pair{out.host(), few.host()};
    };
    const auto is_part = [](const HostTensor& part, const HostTensor& whole) {
      for (int64_t r = 0; r < part.view.dim(0); ++r) {
        const std::vector<double> mine = values(part.view, r, 1), all = values(whole.view, r, 1);
        if (!std::equal(mine.begin(), mine.end(), all.begin())) return false;
      }
      return true;
    };
    for (const int64_t rows : {1, 20}) {
      const auto whole = run(rows, 1);
      for (const int64_t ranks : {2, 4, 8}) {
        const auto part = run(rows, ranks);
        EXPECT_TRUE(is_part(part.first, whole.first)) << inputs << " inputs, " << rows << " rows, tp " << ranks;
        EXPECT_TRUE(is_part(part.second, whole.second)) << inputs << " inputs, " << rows << " rows, tp " << ranks;
      }
    }
  }
}

// A router and a gate: warps share K, and a row is the same alone and in a step of up to 511.
TEST(CudaLinearBits, FewOutputsDoNotDependOnTheRows) {
  std::mt19937 random(73);
  constexpr int64_t kInputs = 2816, kOutputs = 257, kRows = 511;
  const Matrix x = random_matrix(random, DType::kBF16, kRows, kInputs, 1.f),
               w = random_matrix(random, DType::kBF16, kOutputs, kInputs, 0.05f),
               v = random_matrix(random, DType::kBF16, 1, kInputs, 0.05f);
  const OnDevice dx(x);
  const WeightOnDevice dw(w), dv(v);
  const LinearWeight weights[] = {dw.weight(), dv.weight()};
  const auto run = [&](int64_t begin, int64_t rows) {
    OnDevice out(poisoned(DType::kF32, {rows, kOutputs})), gate(poisoned(DType::kF32, {rows, 1}));
    const Tensor outs[] = {out, gate};
    cuda_ops().linear(dx.view.rows(begin, rows), weights, outs);
    return std::pair{out.host(), gate.host()};
  };
  const auto whole = run(0, kRows);
  for (const auto& [begin, rows] : {std::pair<int64_t, int64_t>{0, 1}, {17, 15}, {40, 64}, {100, 65}, {3, 300}}) {
    const auto part = run(begin, rows);
    for (int64_t r = 0; r < rows; ++r) {
      ASSERT_EQ(std::memcmp(part.first.view.row<float>(r), whole.first.view.row<float>(begin + r), kOutputs * 4), 0)
          << "row " << begin + r << " among " << rows;
      ASSERT_EQ(*part.second.view.row<float>(r), *whole.second.view.row<float>(begin + r))
          << "gate, " << rows << " rows";
    }
  }
}

// Gates of many rows, beside a matrix whose results are rounded as in a delta layer, and one alone beside a router: the
// CPU's numbers, and the bits that a row has in a step of few.
TEST(CudaLinearBits, GatesOfManyRowsHaveTheBitsOfFew) {
  std::mt19937 random(77);
  constexpr int64_t kRows = 1101, kFew = 300;
  for (const int64_t inputs : {256, 2048, 2816}) {
    const Matrix x = random_matrix(random, DType::kBF16, kRows, inputs, 1.f, 8);
    const OnDevice dx(x);
    for (const int64_t heads : {1, 3, 16, 32, 48, 64}) {
      const Matrix rounded = random_matrix(random, DType::kBF16, 64, inputs, 0.05f),
                   a = random_matrix(random, DType::kBF16, heads, inputs, 0.05f, 8),
                   b = random_matrix(random, DType::kBF16, heads, inputs, 0.05f);
      const WeightOnDevice drounded(rounded), da(a), db(b);
      const LinearWeight weights[] = {drounded.weight(), da.weight(), db.weight()};
      const auto run = [&](int64_t begin, int64_t rows) {
        const OnDevice out(poisoned(DType::kBF16, {rows, 64})), of_a(poisoned(DType::kF32, {rows, heads}, 4)),
            of_b(poisoned(DType::kF32, {rows, heads}));
        const Tensor outs[] = {out, of_a, of_b};
        cuda_ops().linear(dx.view.rows(begin, rows), weights, outs);
        return std::pair{of_a.host(), of_b.host()};
      };
      const auto all = run(0, kRows);
      HostTensor wanted = poisoned(DType::kF32, {kRows, heads}), other = poisoned(DType::kF32, {kRows, heads});
      const LinearWeight on_cpu[] = {a.weight(), b.weight()};
      const Tensor outs[] = {wanted, other};
      cpu_ops().linear(x.view, on_cpu, outs);
      EXPECT_TRUE(equal(OnDevice(all.first), wanted, 2e-5, 1e-5)) << heads << " heads of " << inputs;
      EXPECT_TRUE(equal(OnDevice(all.second), other, 2e-5, 1e-5)) << heads << " heads of " << inputs;
      for (const auto& [begin, rows] :
           {std::pair<int64_t, int64_t>{0, kFew}, {500, 1}, {1084, 17}, {7, 513}, {1, 600}}) {
        const auto part = run(begin, rows);
        EXPECT_EQ(values(part.first), values(all.first, begin, rows)) << heads << " heads, " << rows << " rows";
        EXPECT_EQ(values(part.second), values(all.second, begin, rows)) << heads << " heads, " << rows << " rows";
      }
      if (heads % 16 != 0) continue;
      const LinearWeight half[] = {drounded.weight(), {da.weight().weight.rows(heads / 2, heads / 2), {}}};
      const OnDevice out(poisoned(DType::kBF16, {kRows, 64})), of_half(poisoned(DType::kF32, {kRows, heads / 2}));
      const Tensor of_rank[] = {out, of_half};
      cuda_ops().linear(dx, half, of_rank);
      const HostTensor mine = of_half.host();
      for (int64_t r = 0; r < kRows; ++r) {
        ASSERT_EQ(std::memcmp(mine.view.row<float>(r), all.first.view.row<float>(r) + heads / 2,
                              static_cast<size_t>(heads / 2) * sizeof(float)),
                  0)
            << "row " << r << ", half of " << heads << " heads";
      }
    }
    const WeightOnDevice router(random_matrix(random, DType::kBF16, 256, inputs, 0.05f)),
        gate(random_matrix(random, DType::kBF16, 1, inputs, 0.05f));
    const LinearWeight weights[] = {router.weight(), gate.weight()};
    const auto run = [&](int64_t begin, int64_t rows) {
      const OnDevice logits(poisoned(DType::kF32, {rows, 256})), of_gate(poisoned(DType::kF32, {rows, 1}));
      const Tensor outs[] = {logits, of_gate};
      cuda_ops().linear(dx.view.rows(begin, rows), weights, outs);
      return of_gate.host();
    };
    EXPECT_EQ(values(run(0, kRows), 200, kFew), values(run(200, kFew)));
  }
}

}  // namespace
}  // namespace hylas::test
