// The experts on the FP8 tensor cores beside the CPU's products of the same quantized activations, step by step.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <numeric>

#include "cuda/fp8_experts_side.h"
#include "cuda/fp8_side.h"
#include "cuda/rows_side.h"
#include "ops/fp8_plan.h"

namespace hylas::test {
namespace {

using Case = ExpertCase;
using Layer = ExpertLayer;

float rounded(double value) { return bf16_to_f32(f32_to_bf16(static_cast<float>(value))); }

// The down product of silu(gate) * up for every row of x (bf16), quantized before both products.
HostTensor expert_rows(const Tensor& x, const Matrix& gate, const Matrix& up, const Matrix& down) {
  const int64_t rows = x.dim(0), width = gate.view.dim(0);
  const Matrix small = quantized(x);
  HostTensor g = poisoned(DType::kF32, {rows, width}), u = poisoned(DType::kF32, {rows, width});
  const LinearWeight weights[] = {gate.weight(), up.weight()}, last = down.weight();
  const Tensor outs[] = {g, u};
  cpu_ops().linear(small.view, weights, outs);
  const Matrix halves = poisoned_matrix(DType::kBF16, rows, width);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < width; ++c) {
      const double a = rounded(get(g, r, c)), b = rounded(get(u, r, c));
      set_element(halves.view, r, c, static_cast<float>(a / (1 + std::exp(-a)) * b));
    }
  }
  HostTensor out = poisoned(DType::kF32, {rows, x.dim(1)});
  const Tensor down_outs[] = {out};
  cpu_ops().linear(quantized(halves.view).view, {&last, 1}, down_outs);
  return out;
}

// Both kinds of kernels for the experts: whole tiles of rows, and few rows each.
Ops& few_rows_ops() {
  static const std::unique_ptr<Ops> kOps = [] {
    CudaOpsOptions options;
    options.fp8 = {.experts = true, .expert_rows_min = int64_t{1} << 20};
    return make_cuda_ops(options).value();
  }();
  return *kOps;
}

// The CPU's sums over the experts from `begin` on.
HostTensor wanted_sums(const Layer& layer, int begin, bool with_shared) {
  const Case& c = layer.c;
  HostTensor wanted = poisoned(DType::kF32, {c.tokens, c.hidden});
  const HostTensor of_shared = expert_rows(layer.x.view, layer.gate.back(), layer.up.back(), layer.down.back());
  for (int64_t t = 0; t < c.tokens; ++t) {
    for (int64_t i = 0; i < c.hidden; ++i) {
      const double part = with_shared ? get(of_shared, t, i) / (1 + std::exp(-get(layer.logit, t, 0))) : 0;
      set(wanted, t, i, static_cast<float>(part));
    }
  }
  for (int e = begin; e < c.chosen; ++e) {
    const HostTensor rows = expert_rows(layer.x.view, layer.gate[e], layer.up[e], layer.down[e]);
    for (int64_t t = 0; t < c.tokens; ++t) {
      for (int j = 0; j < c.choices; ++j) {
        if (layer.ids[static_cast<size_t>(t * c.choices + j)] != e) continue;
        for (int64_t i = 0; i < c.hidden; ++i) {
          set(wanted, t, i, static_cast<float>(get(wanted, t, i) + get(layer.weights, t, j) * get(rows, t, i)));
        }
      }
    }
  }
  wanted.view = wanted.view.reshaped({1, c.tokens, c.hidden});
  return wanted;
}

// moe() in two halves, every (token, choice) a row of its own in another order.
HostTensor halves(const Layer& layer, Ops& on, const SharedExpertWeights* shared) {
  const Case& c = layer.c;
  const int64_t pairs = c.tokens * c.choices;
  std::mt19937 random(94);
  std::vector<int32_t> order(static_cast<size_t>(pairs)), token(order), expert(order), place(order);
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), random);
  for (int32_t i = 0; i < static_cast<int32_t>(pairs); ++i) {
    const int32_t pair = order[static_cast<size_t>(i)];
    token[static_cast<size_t>(i)] = pair / c.choices;
    expert[static_cast<size_t>(i)] = layer.ids[static_cast<size_t>(pair)];
    place[static_cast<size_t>(pair)] = i;
  }
  const OnDevice dx(layer.x), dweights(layer.weights), dlogit(layer.logit), dtoken(int_tensor(token, {pairs})),
      dexpert(int_tensor(expert, {pairs, 1})), dplace(int_tensor(place, {c.tokens, c.choices}));
  const OnDevice rows_x(poisoned(DType::kBF16, {pairs, c.hidden})), rows(poisoned(DType::kF32, {1, pairs, c.hidden})),
      partials(poisoned(DType::kF32, {1, c.tokens, c.hidden}));
  const ExpertWeights experts = layer.experts();
  run_on(on, [&](Ops& ops) {
    ops.gather_rows(dx, dtoken, rows_x);
    ops.moe_expert_rows(rows_x, dexpert, experts, rows, {});
    ops.moe_combine(rows, dplace, dweights, dx, shared, dlogit, partials);
  });
  return partials.host();
}

// moe() with the experts from `begin` on.
HostTensor whole(const Layer& layer, Ops& on, const SharedExpertWeights* shared, int begin = 0) {
  const Case& c = layer.c;
  const OnDevice dx(layer.x), dids(int_tensor(layer.ids, {c.tokens, c.choices})), dweights(layer.weights),
      dlogit(layer.logit), partials(poisoned(DType::kF32, {1, c.tokens, c.hidden}));
  const ExpertWeights experts = layer.experts(begin);
  run_on(on, [&](Ops& ops) { ops.moe(dx, dids, dweights, experts, shared, dlogit, partials); });
  // With rows that come quantized: the same bits.
  const RowsOnDevice rows(layer.x);
  const OnDevice same(poisoned(DType::kF32, {1, c.tokens, c.hidden}));
  run_on(on, [&](Ops& ops) { ops.moe(rows.in(RowForm::kBoth), dids, dweights, experts, shared, dlogit, same); });
  EXPECT_TRUE(same_bytes(partials, same));
  return partials.host();
}

// Rows that come quantized, with their values or, where the kernels read nothing else, alone: the same bits. Those of
// tokens whose experts are all elsewhere need not be there.
void expect_same_of_quantized(const Layer& layer, Ops& on, int begin, const OnDevice& wanted,
                              const OnDevice& wanted_shared) {
  const Case& c = layer.c;
  const OnDevice dids(int_tensor(layer.ids, {c.tokens, c.choices}));
  const ExpertWeights experts = layer.experts(begin);
  const RowsOnDevice rows(layer.x);
  RowsOnDevice some(layer.x);
  HostTensor fp8 = some.fp8.host(), scales = some.scales.host();
  for (int64_t t = 0; t < c.tokens; ++t) {
    const auto first = layer.ids.begin() + t * c.choices;
    if (std::any_of(first, first + c.choices, [&](int32_t id) { return id >= begin; })) continue;
    std::fill_n(fp8.view.row<uint8_t>(t), c.hidden, uint8_t{0xff});
    for (int64_t group = 0; group < scales.view.dim(0); ++group) scales.view.row<float>(group)[t] = std::nanf("");
  }
  some.fp8.fill(fp8), some.scales.fill(scales);
  ActRows alone = some.in(RowForm::kFp8);
  alone.values.data = nullptr;
  const ExpertRowForms forms = on.expert_row_forms(alone.values, dids, experts, 1);
  const ActRows both = rows.in(RowForm::kBoth);
  for (const ActRows& x : {both, forms.read == RowForm::kFp8 ? alone : both}) {
    const OnDevice out(poisoned(forms.made, {1, c.tokens * c.choices, c.hidden}));
    const OnDevice shared(poisoned(DType::kF32, {1, c.tokens, c.hidden}));
    run_on(on, [&](Ops& ops) { ops.moe_expert_rows(x, dids, experts, out, {&layer.shared, both, shared}); });
    EXPECT_TRUE(same_bytes(out, wanted));
    EXPECT_TRUE(same_bytes(shared, wanted_shared));
  }
}

// The same with all choices of a token at once, as ranks have them that hold some of the experts: those from `begin`
// on. Rows of others stay; the type that the operator likes best gives the same numbers.
void expect_rows_in_place(const Layer& layer, Ops& on, int begin) {
  const Case& c = layer.c;
  const int64_t pairs = c.tokens * c.choices;
  const OnDevice dx(layer.x), dids(int_tensor(layer.ids, {c.tokens, c.choices})), dweights(layer.weights),
      dlogit(layer.logit);
  const ExpertWeights experts = layer.experts(begin);
  const DType type = on.expert_row_forms(dx, dids, experts, 1).made;
  const OnDevice rows(poisoned(DType::kF32, {1, pairs, c.hidden})), typed(poisoned(type, {1, pairs, c.hidden})),
      shared(poisoned(DType::kF32, {1, c.tokens, c.hidden}));
  run_on(on, [&](Ops& ops) {
    ops.moe_expert_rows(dx, dids, experts, rows, {});
    ops.moe_expert_rows(dx, dids, experts, typed, {&layer.shared, dx, shared});
  });
  expect_same_of_quantized(layer, on, begin, typed, shared);
  HostTensor f32 = rows.host();
  const HostTensor others = typed.host(), empty = poisoned(DType::kF32, {1, c.hidden});
  for (int64_t i = 0; i < pairs; ++i) {
    float* row = f32.view.row<float>(0) + i * c.hidden;
    const bool held = layer.ids[static_cast<size_t>(i)] >= begin;
    ASSERT_EQ(std::memcmp(row, empty.view.data, c.hidden * sizeof(float)) == 0, !held) << "row " << i;
    for (int64_t h = 0; h < c.hidden && held && type == DType::kBF16; ++h) {
      const uint32_t bits = others.view.row<uint16_t>(0)[i * c.hidden + h];
      ASSERT_EQ(std::bit_cast<uint32_t>(row[h]), bits << 16) << "row " << i;
    }
    if (!held) std::fill_n(row, c.hidden, 0.f);
  }
  if (type == DType::kF32) {
    EXPECT_EQ(rows.host().bytes, others.bytes);
  }
  std::vector<int32_t> place(static_cast<size_t>(pairs));
  std::iota(place.begin(), place.end(), 0);
  const OnDevice dplace(int_tensor(place, {c.tokens, c.choices})), drows(f32),
      partials(poisoned(DType::kF32, {1, c.tokens, c.hidden}));
  run_on(on, [&](Ops& ops) { ops.moe_combine(drows, dplace, dweights, dx, nullptr, dlogit, partials); });
  EXPECT_EQ(partials.host().bytes, whole(layer, on, nullptr, begin).bytes);
  HostTensor of_shared = expert_rows(layer.x.view, layer.gate.back(), layer.up.back(), layer.down.back());
  of_shared.view = of_shared.view.reshaped({1, c.tokens, c.hidden});
  EXPECT_TRUE(near(shared, of_shared, 1e-2));
}

void compare(const Layer& layer, Ops& on, int begin, bool with_shared) {
  // The product of gate and up is quantized again: a sum that differs in its last bit may become the next e4m3 value.
  EXPECT_TRUE(near(OnDevice(whole(layer, on, with_shared ? &layer.shared : nullptr, begin)),
                   wanted_sums(layer, begin, with_shared), 1e-2));
}

// moe() and the norm behind it at once: the same bits.
void expect_the_norm_behind(const Layer& layer, Ops& on) {
  const Case& c = layer.c;
  const OnDevice dx(layer.x), dids(int_tensor(layer.ids, {c.tokens, c.choices})), dweights(layer.weights),
      dlogit(layer.logit);
  std::mt19937 random(95);
  const HostTensor residual = random_tensor(random, DType::kBF16, {c.tokens, c.hidden}, 1.f, 16);
  for (const DType kind : {DType::kBF16, DType::kF32}) {
    const OnDevice dnorm(random_tensor(random, kind, {c.hidden}, 0.3f));
    for (const int begin : {0, 1}) {
      const ExpertWeights experts = layer.experts(begin);
      const auto expect = [&](const Tensor& norm, RowForm form) {
        const OnDevice sums(poisoned(DType::kF32, {1, c.tokens, c.hidden})), one(residual), two(residual);
        const RowsOnDevice out({c.tokens, c.hidden}, 8), wanted({c.tokens, c.hidden}, 8);
        run_on(on, [&](Ops& ops) {
          ops.moe(dx, dids, dweights, experts, &layer.shared, dlogit, sums);
          ops.add_rms_norm(sums, one, norm, 1e-6f, norm ? wanted.in(form) : ActRows());
          ops.moe_add_rms_norm(dx, dids, dweights, experts, &layer.shared, dlogit, sums, two, norm, 1e-6f,
                               norm ? out.in(form) : ActRows());
        });
        EXPECT_TRUE(same_bytes(two, one));
        EXPECT_TRUE(same_bytes(out.values, wanted.values));
        EXPECT_TRUE(same_bytes(out.fp8, wanted.fp8) && same_bytes(out.scales, wanted.scales));
      };
      for (const RowForm form : {RowForm::kValues, RowForm::kFp8, RowForm::kBoth}) expect(dnorm, form);
      expect(Tensor(), RowForm::kValues);
    }
  }
}

class CudaFp8Moe : public testing::TestWithParam<Case> {};
INSTANTIATE_TEST_SUITE_P(Shapes, CudaFp8Moe,
                         testing::Values(Case{1, 128, 128, 128, 4, 2, 4}, Case{7, 256, 128, 128, 4, 2, 2},
                                         Case{300, 256, 128, 256, 8, 3, 8}, Case{700, 256, 384, 128, 6, 2, 3},
                                         Case{64, 512, 256, 128, 64, 8, 64}, Case{500, 384, 128, 128, 2, 1, 1},
                                         Case{96, 2048, 512, 512, 16, 8, 9}, Case{96, 3072, 128, 128, 16, 10, 12},
                                         Case{40, 4096, 128, 128, 12, 10, 12}, Case{400, 128, 128, 128, 40, 6, 9}));

TEST_P(CudaFp8Moe, EqualsTheCpuOnTheQuantizedRows) { compare(Layer(GetParam()), fp8_ops(), 0, true); }

TEST_P(CudaFp8Moe, TheHalvesMakeTheWhole) {
  const Layer layer(GetParam());
  EXPECT_EQ(whole(layer, fp8_ops(), nullptr).bytes, halves(layer, fp8_ops(), nullptr).bytes);
  // The shared expert may take other kernels in the halves, which do not know how many experts there are.
  EXPECT_TRUE(near(OnDevice(halves(layer, fp8_ops(), &layer.shared)), wanted_sums(layer, 0, true), 1e-2));
}

TEST_P(CudaFp8Moe, RowsOfAllChoicesAtOnce) {
  for (const int begin : {0, 1}) expect_rows_in_place(Layer(GetParam()), fp8_ops(), begin);
}

TEST_P(CudaFp8Moe, TheNormBehindThemChangesNothing) {
  const Layer layer(GetParam());
  expect_the_norm_behind(layer, fp8_ops());
  CudaOpsOptions options;  // that cuts 700 tokens into two blocks
  options.fp8 = {.experts = true, .rows_min = 1, .expert_rows_min = 0};
  options.workspace_bytes = size_t{4} << 20;
  if (layer.c.tokens == 700) expect_the_norm_behind(layer, *make_cuda_ops(options).value());
}

// Tokens in one block and in several: the same bits.
TEST(CudaFp8MoeBlocks, OfATokenAreTheSame) {
  const Layer layer({700, 256, 384, 128, 6, 2, 3});
  CudaOpsOptions options;
  options.fp8 = {.experts = true, .rows_min = 1, .expert_rows_min = 0};
  const HostTensor together = whole(layer, fp8_ops(), &layer.shared);
  for (const int64_t block : {352, 72}) {
    const Fp8Experts experts = {2, 6, 256, 384, 128};
    options.workspace_bytes = fp8_experts_bytes(block, experts);
    ASSERT_EQ(fp8_experts_tokens(700, experts, options.workspace_bytes), block) << "they are not cut so";
    EXPECT_EQ(together.bytes, whole(layer, *make_cuda_ops(options).value(), &layer.shared).bytes) << block;
  }
}

class CudaFp8FewRows : public testing::TestWithParam<Case> {};
INSTANTIATE_TEST_SUITE_P(Shapes, CudaFp8FewRows,
                         testing::Values(Case{1, 128, 128, 128, 4, 2, 4}, Case{1, 2048, 512, 512, 12, 8, 12},
                                         Case{7, 256, 384, 128, 4, 2, 2}, Case{64, 512, 256, 128, 64, 8, 64},
                                         Case{20, 2048, 512, 512, 16, 8, 9}, Case{3, 4096, 128, 128, 16, 10, 16},
                                         Case{9, 4096, 256, 256, 4, 3, 4}, Case{5, 3072, 1024, 1024, 8, 2, 8},
                                         Case{33, 384, 640, 640, 8, 2, 3}, Case{256, 128, 128, 128, 128, 8, 128},
                                         Case{40, 2048, 512, 512, 16, 4, 16}));

// Some experts have more rows than a run holds, some none.
TEST_P(CudaFp8FewRows, EqualTheCpuOnTheQuantizedRows) {
  const Layer layer(GetParam());
  compare(layer, few_rows_ops(), 0, true);
  compare(layer, few_rows_ops(), 0, false);
}

TEST_P(CudaFp8FewRows, AddNothingForExpertsElsewhere) { compare(Layer(GetParam()), few_rows_ops(), 2, true); }

TEST_P(CudaFp8FewRows, TheHalvesMakeTheWhole) {
  const Layer layer(GetParam());
  for (const SharedExpertWeights* shared : {static_cast<const SharedExpertWeights*>(nullptr), &layer.shared}) {
    EXPECT_EQ(whole(layer, few_rows_ops(), shared).bytes, halves(layer, few_rows_ops(), shared).bytes);
  }
}

TEST_P(CudaFp8FewRows, RowsOfAllChoicesAtOnce) {
  for (const int begin : {0, 1}) expect_rows_in_place(Layer(GetParam()), few_rows_ops(), begin);
}

// A token among few others, or alone, and among those that crowd its experts: the same bits, among batches that one
// kernel takes.
TEST_P(CudaFp8FewRows, ATokenIsTheSameInEveryBatch) {
  const Layer layer(GetParam());
  const Case& c = layer.c;
  const OnDevice dx(layer.x), dids(int_tensor(layer.ids, {c.tokens, c.choices})), dweights(layer.weights),
      dlogit(layer.logit);
  const ExpertWeights experts = layer.experts();
  const auto run = [&](int64_t begin, int64_t count) {
    OnDevice partials(poisoned(DType::kF32, {1, count, c.hidden}));
    run_on(few_rows_ops(), [&](Ops& ops) {
      ops.moe(dx.view.rows(begin, count), dids.view.rows(begin, count), dweights.view.rows(begin, count), experts,
              &layer.shared, dlogit.view.rows(begin, count), partials);
    });
    return partials.host();
  };
  const auto row = static_cast<size_t>(c.hidden) * sizeof(float);
  const auto compare = [&](int64_t few, int64_t many) {
    const HostTensor all = run(0, many);
    for (const int64_t t : {int64_t{0}, (many - few) / 3, many - few}) {
      const HostTensor some = run(t, few);
      EXPECT_EQ(0, std::memcmp(some.bytes.data(), all.bytes.data() + static_cast<size_t>(t) * row,
                               static_cast<size_t>(few) * row))
          << "tokens from " << t << " on, " << few << " of " << many;
    }
  };
  const int64_t chosen_max = 16 / c.choices;  // gemm_fp8_few.h
  compare(1, std::min(c.tokens, chosen_max));
  if (c.tokens > chosen_max + 1) compare(chosen_max + 1, c.tokens);
}

TEST_P(CudaFp8FewRows, TheNormBehindThemChangesNothing) { expect_the_norm_behind(Layer(GetParam()), few_rows_ops()); }

}  // namespace
}  // namespace hylas::test
