// Rows that their makers quantize: the bits of a quantization of their values, and products of both the same.
#include <gtest/gtest.h>

#include "cuda/rows_side.h"

namespace hylas::test {
namespace {

constexpr RowForm kWithFp8[] = {RowForm::kBoth, RowForm::kFp8};

// What was not asked for stays poison.
void expect_forms(const RowsOnDevice& rows, RowForm form, const OnDevice& values) {
  EXPECT_TRUE(quantized_like(rows, values.host().view));
  if (form == RowForm::kBoth) {
    EXPECT_TRUE(same_bytes(rows.values, values));
  } else {
    for (const std::byte byte : rows.values.host().bytes) ASSERT_EQ(byte, std::byte{0xff});
  }
}

struct NormCase {
  DType weight;
  int64_t rows, columns, gap;
};
class CudaNormRows : public testing::TestWithParam<NormCase> {
 protected:
  std::mt19937 random_{171};
};
// One block of 128 up to more than a thread holds.
INSTANTIATE_TEST_SUITE_P(Shapes, CudaNormRows,
                         testing::Values(NormCase{DType::kF32, 1, 128, 0}, NormCase{DType::kBF16, 5, 384, 8},
                                         NormCase{DType::kBF16, 8, 2048, 0}, NormCase{DType::kF32, 33, 4096, 16},
                                         NormCase{DType::kBF16, 1, 5120, 0}, NormCase{DType::kBF16, 6, 9088, 8},
                                         NormCase{DType::kF32, 3, 13824, 0}, NormCase{DType::kBF16, 2049, 128, 8},
                                         NormCase{DType::kF32, 2050, 384, 0}));

TEST_P(CudaNormRows, NormsOfRowsAndSums) {
  const auto [kind, rows, columns, gap] = GetParam();
  HostTensor residual = random_tensor(random_, DType::kBF16, {rows, columns}, 3.f, gap);
  for (int64_t i = 0; i < columns; ++i) set(residual, rows / 2, i, i % 128 == 3 ? 40.f : 0.f);
  const HostTensor w = random_tensor(random_, kind, {columns}, 0.3f);
  const OnDevice dw(w), x(residual), plain(poisoned(DType::kBF16, {rows, columns}, gap));
  cuda_ops().rms_norm(x, dw, 1e-6f, plain);
  for (const RowForm form : kWithFp8) {
    const RowsOnDevice out({rows, columns}, gap);
    cuda_ops().rms_norm(x, dw, 1e-6f, out.in(form));
    expect_forms(out, form, plain);
  }
  for (int64_t slices : {1, 2, 4}) {
    const OnDevice partials(random_tensor(random_, DType::kF32, {slices, rows, columns}, 1.f));
    const OnDevice sums(residual), normed(poisoned(DType::kBF16, {rows, columns}, gap));
    cuda_ops().add_rms_norm(partials, sums, dw, 1e-6f, normed);
    for (const RowForm form : kWithFp8) {
      const OnDevice again(residual);
      const RowsOnDevice out({rows, columns}, gap);
      cuda_ops().add_rms_norm(partials, again, dw, 1e-6f, out.in(form));
      EXPECT_TRUE(same_bytes(again, sums));
      expect_forms(out, form, normed);
    }
  }
}

// Sums that come in bf16 are added as the same numbers in f32 are.
TEST_P(CudaNormRows, SumsInBf16) {
  const auto [kind, rows, columns, gap] = GetParam();
  const HostTensor residual = random_tensor(random_, DType::kBF16, {rows, columns}, 1.f, gap);
  const HostTensor narrow = random_tensor(random_, DType::kBF16, {1, rows, columns}, 1.f);
  HostTensor wide = poisoned(DType::kF32, {1, rows, columns});
  for (int64_t i = 0; i < rows * columns; ++i) set(wide, 0, i, static_cast<float>(get(narrow, 0, i)));
  const OnDevice dw(random_tensor(random_, kind, {columns}, 0.3f)), dnarrow(narrow), dwide(wide);
  const OnDevice a(residual), b(residual), normed(poisoned(DType::kBF16, {rows, columns}, gap));
  cuda_ops().add_rms_norm(dwide, a, dw, 1e-6f, normed);
  const RowsOnDevice out({rows, columns}, gap);
  cuda_ops().add_rms_norm(dnarrow, b, dw, 1e-6f, out.in(RowForm::kBoth));
  EXPECT_TRUE(same_bytes(a, b));
  expect_forms(out, RowForm::kBoth, normed);
  const OnDevice c(residual);
  cuda_ops().add_rms_norm(dnarrow, c, Tensor(), 1e-6f, Tensor());
  EXPECT_TRUE(same_bytes(a, c));
}

// A row alone and among others: the same bits, though many rows take another kernel.
TEST_P(CudaNormRows, ARowIsTheSameInEveryBatch) {
  const auto [kind, rows, columns, gap] = GetParam();
  const OnDevice dw(random_tensor(random_, kind, {columns}, 0.3f));
  const HostTensor residual = random_tensor(random_, DType::kBF16, {rows, columns}, 1.f, gap);
  for (const DType type : {DType::kF32, DType::kBF16}) {
    const OnDevice partials(random_tensor(random_, type, {1, rows, columns}, 1.f));
    const OnDevice all(residual), some(residual);
    const RowsOnDevice out({rows, columns}, gap), apart({rows, columns}, gap);
    cuda_ops().add_rms_norm(partials, all, dw, 1e-6f, out.in(RowForm::kBoth));
    for (int64_t begin = 0; begin < rows; begin += 4 * ((rows + 19) / 20)) {
      const int64_t count = std::min<int64_t>(4 * ((rows + 19) / 20), rows - begin);
      Tensor part = partials.view;
      part.data = static_cast<std::byte*>(part.data) + begin * columns * dtype_bytes(type);
      part.shape[1] = count;
      cuda_ops().add_rms_norm(part, some.view.rows(begin, count), dw, 1e-6f,
                              apart.in(RowForm::kBoth).rows(begin, count));
    }
    EXPECT_TRUE(same_bytes(all, some));
    EXPECT_TRUE(same_bytes(out.values, apart.values));
    EXPECT_TRUE(same_bytes(out.fp8, apart.fp8));
    EXPECT_TRUE(quantized_like(apart, out.values.host().view));
  }
}

TEST(CudaGatedNormRows, HeadsInEveryForm) {
  std::mt19937 random(172);
  for (const auto& [rows, heads] :
       {std::pair<int64_t, int64_t>{1, 1}, {1, 32}, {3, 5}, {7, 16}, {70, 32}, {129, 3}, {0, 4}}) {
    for (const DType kind : {DType::kF32, DType::kBF16}) {
      HostTensor x = random_tensor(random, DType::kBF16, {rows, heads, 128}, 2.f, 8),
                 z = random_tensor(random, DType::kBF16, {rows, heads, 128}, 2.f, 16);
      for (int64_t i = 0; i < 128 && rows > 0; ++i) set(x, rows / 2, i, 0.f);
      HostTensor w = random_tensor(random, kind, {128}, 1.f), out = poisoned(DType::kBF16, {rows, heads, 128}, 8);
      const OnDevice dx(x), dz(z), dw(w), dout(out);
      cpu_ops().gated_rms_norm(x, z, w, 1e-6f, out);
      cuda_ops().gated_rms_norm(dx, dz, dw, 1e-6f, dout);
      EXPECT_TRUE(equal(dout, out, 1e-6, 2 * rounding(DType::kBF16))) << rows << " x " << heads;
      // Rows that lie where fewer values are taken at once.
      HostTensor near = poisoned(DType::kBF16, {rows, heads, 128}, 4);
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t i = 0; i < heads * 128; ++i) set(near, r, i, static_cast<float>(get(x, r, i)));
      }
      const OnDevice dnear(near), same(poisoned(DType::kBF16, {rows, heads, 128}, 8));
      cuda_ops().gated_rms_norm(dnear, dz, dw, 1e-6f, same);
      EXPECT_TRUE(same_bytes(dout, same)) << rows << " x " << heads;
      for (const RowForm form : kWithFp8) {
        const RowsOnDevice rows_out({rows, heads, 128}, 8);
        cuda_ops().gated_rms_norm(dx, dz, dw, 1e-6f, rows_out.in(form));
        expect_forms(rows_out, form, dout);
      }
    }
  }
}

TEST(CudaSiluMulRows, InEveryForm) {
  std::mt19937 random(173);
  for (const auto& [rows, columns] : {std::pair<int64_t, int64_t>{1, 128}, {5, 2176}, {9, 12288}, {0, 256}}) {
    const OnDevice gate(random_tensor(random, DType::kBF16, {rows, columns}, 4.f, 8)),
        up(random_tensor(random, DType::kBF16, {rows, columns}, 1.f));
    const OnDevice plain(poisoned(DType::kBF16, {rows, columns}));
    cuda_ops().silu_mul(gate, up, plain);
    for (const RowForm form : kWithFp8) {
      const RowsOnDevice out({rows, columns});
      cuda_ops().silu_mul(gate, up, out.in(form));
      expect_forms(out, form, plain);
    }
  }
}

// x in every form, the e4m3 one as a norm makes it.
RowsOnDevice normed_rows(std::mt19937& random, int64_t rows, int64_t columns) {
  const OnDevice x(random_tensor(random, DType::kBF16, {rows, columns}, 1.f)),
      w(random_tensor(random, DType::kBF16, {columns}, 0.3f));
  RowsOnDevice out({rows, columns});
  cuda_ops().rms_norm(x, w, 1e-6f, out.in(RowForm::kBoth));
  return out;
}

TEST(CudaQuantizedProducts, AreThoseOfTheirValues) {
  std::mt19937 random(174);
  for (const int64_t inputs : {128, 1152}) {
    const WeightOnDevice large(random_matrix(random, DType::kF8E4M3, 4240, inputs, 0.05f)),
        small(random_matrix(random, DType::kF8E4M3, 200, inputs, 0.05f)),
        gate(random_matrix(random, DType::kBF16, 32, inputs, 0.05f));
    for (int64_t rows : {1, 3, 5, 8, 9, 16, 17, 130}) {
      const RowsOnDevice x = normed_rows(random, rows, inputs);
      const RowForm form = engine_ops().row_form(large.weight(), DType::kBF16, rows);
      EXPECT_EQ(form, rows > 4 ? RowForm::kFp8 : RowForm::kValues) << rows;
      const auto run = [&](const ActRows& from, std::vector<LinearWeight> weights) {
        std::vector<std::unique_ptr<OnDevice>> outs;
        std::vector<Tensor> views;
        for (const LinearWeight& weight : weights) {
          outs.push_back(std::make_unique<OnDevice>(poisoned(DType::kBF16, {rows, weight.weight.dim(0)})));
          views.push_back(*outs.back());
        }
        run_on(engine_ops(), [&](Ops& ops) { ops.linear(from, weights, views); });
        std::vector<std::vector<std::byte>> bytes;
        for (const auto& out : outs) bytes.push_back(out->host().bytes);
        return bytes;
      };
      const std::vector<LinearWeight> all = {large.weight(), gate.weight(), small.weight()};
      EXPECT_EQ(run(x.in(RowForm::kBoth), all), run(x.values.view, all)) << rows << " x " << inputs;
      const std::vector<LinearWeight> fp8 = {large.weight(), small.weight()};
      EXPECT_EQ(run(x.in(form), fp8), run(x.values.view, fp8)) << rows << " x " << inputs;
    }
  }
}

TEST(CudaQuantizedProducts, SumsAndTheGatedMlp) {
  std::mt19937 random(175);
  const WeightOnDevice gate(random_matrix(random, DType::kF8E4M3, 640, 1280, 0.05f)),
      up(random_matrix(random, DType::kF8E4M3, 640, 1280, 0.05f)),
      down(random_matrix(random, DType::kF8E4M3, 1280, 640, 0.05f));
  for (int64_t rows : {1, 4, 5, 16, 17, 64, 65, 130}) {
    const RowsOnDevice x = normed_rows(random, rows, 1280);
    const RowForm form = engine_ops().row_form(gate.weight(), DType::kBF16, rows);
    const RowForm halves = engine_ops().silu_mul_form(down.weight(), DType::kBF16, rows);
    EXPECT_EQ(halves, rows > 16 ? RowForm::kFp8 : RowForm::kValues);
    const RowsOnDevice made({rows, 640}), plain({rows, 640});
    const OnDevice scratch(poisoned(DType::kBF16, {rows, 640}));
    const DType type = engine_ops().partial_type(down.weight(), DType::kBF16, rows, SumOver::kRank);
    EXPECT_EQ(type, rows > 16 ? DType::kBF16 : DType::kF32);
    EXPECT_EQ(engine_ops().partial_type(down.weight(), DType::kBF16, rows, SumOver::kRanks),
              rows > 64 ? DType::kBF16 : DType::kF32);  // where f32 has the same values, as seen below
    const OnDevice sums(poisoned(type, {1, rows, 1280})), wanted(poisoned(DType::kF32, {1, rows, 1280}));
    run_on(engine_ops(), [&](Ops& ops) {
      ops.linear_silu_mul(x.in(form), gate.weight(), up.weight(), made.in(halves), scratch);
      ops.linear_partial(made.in(halves), down.weight(), sums);
      ops.linear_silu_mul(x.values, gate.weight(), up.weight(), plain.values, scratch);
      ops.linear_partial(plain.values, down.weight(), wanted);
    });
    EXPECT_EQ(values(sums.host()), values(wanted.host())) << rows << " rows";
  }
}

// Only products of e4m3 with FP8 weights read them so.
TEST(CudaQuantizedProducts, WhoReadsValues) {
  std::mt19937 random(176);
  const Matrix fp8 = random_matrix(random, DType::kF8E4M3, 256, 256, 0.05f),
               odd = random_matrix(random, DType::kF8E4M3, 256, 192, 0.05f),
               bf16 = random_matrix(random, DType::kBF16, 256, 256, 0.05f);
  for (int64_t rows : {1, 8, 100}) {
    EXPECT_EQ(engine_ops().row_form(fp8.weight(), DType::kF32, rows), RowForm::kValues);
    EXPECT_EQ(engine_ops().row_form(odd.weight(), DType::kBF16, rows), RowForm::kValues);
    EXPECT_EQ(engine_ops().row_form(bf16.weight(), DType::kBF16, rows), RowForm::kValues);
    EXPECT_EQ(cuda_ops().row_form(fp8.weight(), DType::kBF16, rows), RowForm::kValues);
    EXPECT_EQ(cpu_ops().row_form(fp8.weight(), DType::kBF16, rows), RowForm::kValues);
    EXPECT_EQ(cuda_ops().partial_type(fp8.weight(), DType::kBF16, rows, SumOver::kRank), DType::kF32);
  }
}

}  // namespace
}  // namespace hylas::test
