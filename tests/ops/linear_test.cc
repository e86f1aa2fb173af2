// Ops::linear and Ops::linear_partial on the CPU: right against double precision, and every bit the same whatever the
// batch, the threads, the split of the outputs and the tensor-parallel size.
#include <gtest/gtest.h>

#include "support/kernel_case.h"
#include "support/reference_ops_linear.h"

namespace hylas::test {
namespace {

// Bits of the values of a matrix, row by row.
std::vector<uint32_t> bits(const Tensor& matrix) {
  std::vector<uint32_t> all;
  for (int64_t r = 0; r < matrix.dim(0); ++r) {
    for (int64_t c = 0; c < matrix.dim(1); ++c) {
      all.push_back(matrix.dtype == DType::kBF16 ? matrix.row<uint16_t>(r)[c]
                                                 : std::bit_cast<uint32_t>(matrix.row<float>(r)[c]));
    }
  }
  return all;
}

class LinearTest : public testing::TestWithParam<KernelCase> {
 protected:
  Matrix x(int64_t tokens, int64_t inputs, int64_t gap = 0) {
    return random_matrix(random_, GetParam().act, tokens, inputs, 1.f, gap);
  }
  Matrix w(int64_t outputs, int64_t inputs, int64_t gap = 0) {
    return random_matrix(random_, GetParam().weight, outputs, inputs, 0.05f, gap);
  }
  std::unique_ptr<Ops> ops(int threads) { return GetParam().ops(threads); }

  static void expect_close(const Tensor& out, const Tensor& x, const LinearWeight& weight, int64_t begin, int64_t end) {
    double relative = out.dtype == DType::kBF16 ? 1.0 / 256 : 0;
    for (int64_t t = 0; t < out.dim(0); ++t) {
      for (int64_t n = 0; n < out.dim(1); ++n) {
        ReferenceSum sum = reference_dot(x, weight, t, n, begin, end);
        ASSERT_NEAR(element(out, t, n), sum.value, 1e-6 * sum.magnitude + relative * std::abs(sum.value))
            << "row " << t << " of " << out.dim(0) << ", output " << n << " of " << out.dim(1);
      }
    }
  }

  std::mt19937 random_{20};
};
INSTANTIATE_TEST_SUITE_P(Kinds, LinearTest, testing::ValuesIn(kernel_cases()),
                         kernel_case_name<testing::TestParamInfo<KernelCase>>);

TEST_P(LinearTest, EqualsTheReferenceForEveryShape) {
  auto ops = this->ops(2);
  struct Shape {
    int64_t tokens, inputs, outputs;
  };
  // Ragged everywhere; whole tiles; few and many rows; more inputs than one panel holds.
  for (Shape s : {Shape{1, 1, 1}, Shape{1, 64, 16}, Shape{2, 7, 3}, Shape{3, 129, 5}, Shape{4, 200, 130},
                  Shape{8, 256, 33}, Shape{12, 96, 31}, Shape{13, 96, 31}, Shape{17, 1100, 9}, Shape{65, 384, 70},
                  Shape{130, 136, 37}, Shape{14, 2200, 6}, Shape{1, 2200, 6}, Shape{66, 2200, 7}}) {
    SCOPED_TRACE(testing::Message() << "T " << s.tokens << " K " << s.inputs << " N " << s.outputs);
    Matrix x = this->x(s.tokens, s.inputs, 5);
    Matrix w = this->w(s.outputs, s.inputs, 11);
    for (DType dtype : {DType::kF32, GetParam().act}) {
      Matrix out = poisoned_matrix(dtype, s.tokens, s.outputs, 3);
      LinearWeight weight = w.weight();
      ops->linear(x.view, {&weight, 1}, {&out.view, 1});
      expect_close(out.view, x.view, weight, 0, s.inputs);
      for (int64_t t = 0; t + 1 < s.tokens; ++t) {
        ASSERT_TRUE(std::isnan(element(out.view, t, s.outputs))) << "wrote behind row " << t;
      }
    }
  }
}

TEST_P(LinearTest, SeveralMatricesOfAnyKindShareOneCall) {
  auto ops = this->ops(2);
  for (int64_t tokens : {1, 40}) {
    Matrix x = this->x(tokens, 256);
    Matrix a = w(100, 256);
    Matrix b = random_matrix(random_, DType::kBF16, 16, 256, 0.05f);
    Matrix c = random_matrix(random_, DType::kF32, 1, 256, 0.05f);
    Matrix out_a = poisoned_matrix(GetParam().act, tokens, 100);
    Matrix out_b = poisoned_matrix(DType::kF32, tokens, 16);
    Matrix out_c = poisoned_matrix(DType::kF32, tokens, 1);
    LinearWeight weights[] = {a.weight(), b.weight(), c.weight()};
    Tensor outs[] = {out_a.view, out_b.view, out_c.view};
    ops->linear(x.view, weights, outs);
    for (int i = 0; i < 3; ++i) expect_close(outs[i], x.view, weights[i], 0, 256);
  }
}

TEST_P(LinearTest, ARowIsTheSameInEveryBatchOnAnyNumberOfThreads) {
  Matrix x = this->x(1100, 296);
  Matrix w = this->w(45, 296);
  LinearWeight weight = w.weight();
  Matrix alone = poisoned_matrix(DType::kF32, 1100, 45);
  auto one = this->ops(1);
  for (int64_t t = 0; t < 1100; ++t) {
    Tensor out = alone.view.rows(t, 1);
    one->linear(x.view.rows(t, 1), {&weight, 1}, {&out, 1});
  }
  for (int threads : {1, 2, 3, 7}) {
    auto ops = this->ops(threads);
    for (int64_t tokens : {2, 3, 4, 5, 8, 12, 13, 25, 64, 100, 517, 1100}) {
      Matrix out = poisoned_matrix(DType::kF32, tokens, 45);
      ops->linear(x.view.rows(0, tokens), {&weight, 1}, {&out.view, 1});
      ASSERT_EQ(bits(out.view), bits(alone.view.rows(0, tokens))) << tokens << " tokens, " << threads << " threads";
    }
  }
}

// Sums that are long enough to be taken in parts.
TEST_P(LinearTest, ALongRowIsTheSameInEveryBatch) {
  auto ops = this->ops(2);
  Matrix x = this->x(130, 5000);
  Matrix w = this->w(13, 5000);
  for (int slices : {1, 4}) {
    std::vector<float> alone(static_cast<size_t>(slices * 13)), memory(static_cast<size_t>(slices * 130 * 13));
    for (int64_t tokens : {2, 3, 8, 24, 25, 64, 65, 127, 130}) {
      ops->linear_partial(x.view.rows(0, tokens), w.weight(), Tensor(memory.data(), DType::kF32, {slices, tokens, 13}));
      for (int64_t t : {int64_t{0}, tokens / 2, tokens - 1}) {
        ops->linear_partial(x.view.rows(t, 1), w.weight(), Tensor(alone.data(), DType::kF32, {slices, 1, 13}));
        for (int s = 0; s < slices; ++s) {
          ASSERT_EQ(std::memcmp(&memory[static_cast<size_t>((s * tokens + t) * 13)],
                                &alone[static_cast<size_t>(s * 13)], 13 * sizeof(float)),
                    0)
              << "row " << t << " of " << tokens << ", slice " << s << " of " << slices;
        }
      }
    }
  }
}

TEST_P(LinearTest, AnOutputIsTheSameHoweverTheOutputsAreSplit) {
  auto ops = this->ops(2);
  int64_t unit = GetParam().weight == DType::kF8E4M3 ? 128 : 1;
  Matrix w = this->w(3 * 128 + 3, 1160);
  for (int64_t tokens : {1, 5, 20}) {
    Matrix x = this->x(tokens, 1160);
    Matrix whole = poisoned_matrix(DType::kF32, tokens, 3 * 128 + 3);
    LinearWeight weight = w.weight();
    ops->linear(x.view, {&weight, 1}, {&whole.view, 1});
    for (int64_t cut : {unit, 2 * unit, 3 * unit}) {
      Matrix parts = poisoned_matrix(DType::kF32, tokens, 3 * 128 + 3);
      LinearWeight halves[] = {{weight.weight.rows(0, cut), weight.scale},
                               {weight.weight.rows(cut, 3 * 128 + 3 - cut), weight.scale}};
      if (weight.scale) halves[1].scale = weight.scale.rows(cut / unit, weight.scale.dim(0) - cut / unit);
      Tensor outs[] = {parts.view.columns(0, cut), parts.view.columns(cut, 3 * 128 + 3 - cut)};
      ops->linear(x.view, halves, outs);
      ASSERT_EQ(bits(parts.view), bits(whole.view)) << tokens << " tokens, cut at " << cut;
    }
  }
}

TEST_P(LinearTest, PartialSumsCoverTheirSlices) {
  auto ops = this->ops(2);
  int64_t unit = GetParam().weight == DType::kF8E4M3 ? 128 : 8;
  for (int64_t inputs : {8L, 24L, 40L, 512L, 600L, 5000L}) {
    for (int64_t tokens : {1, 6, 30}) {
      Matrix x = this->x(tokens, inputs);
      Matrix w = this->w(21, inputs, 8);
      for (int slices : {1, 2, 4}) {
        SCOPED_TRACE(testing::Message() << "K " << inputs << " T " << tokens << " slices " << slices);
        std::vector<float> memory(static_cast<size_t>(slices * tokens * 21), std::nanf(""));
        Tensor partials(memory.data(), DType::kF32, {slices, tokens, 21});
        ops->linear_partial(x.view, w.weight(), partials);
        for (int s = 0; s < slices; ++s) {
          Tensor part(memory.data() + s * tokens * 21, DType::kF32, {tokens, 21});
          expect_close(part, x.view, w.weight(), slice_begin(inputs, unit, s, slices),
                       slice_begin(inputs, unit, s + 1, slices));
        }
      }
    }
  }
}

// Views of columns [begin, end) of a weight, with its scales.
LinearWeight columns(const LinearWeight& weight, int64_t begin, int64_t end) {
  LinearWeight part{weight.weight.columns(begin, end - begin), weight.scale};
  if (weight.scale) part.scale = weight.scale.columns(begin / 128, (end + 127) / 128 - begin / 128);
  return part;
}

TEST_P(LinearTest, OneTwoAndFourRanksAddTheSameNumbers) {
  int64_t unit = GetParam().weight == DType::kF8E4M3 ? 128 : 8;
  auto ops = this->ops(2);
  for (int64_t inputs : {32L, 40L, 512L, 768L, 3584L, 1000L}) {
    for (int64_t tokens : {1, 7, 33}) {
      Matrix x = this->x(tokens, inputs);
      Matrix w = this->w(18, inputs);
      std::vector<float> whole(static_cast<size_t>(4 * tokens * 18), std::nanf(""));
      ops->linear_partial(x.view, w.weight(), Tensor(whole.data(), DType::kF32, {4, tokens, 18}));
      for (int ranks : {2, 4}) {
        int slices = 4 / ranks;
        std::vector<float> parts(whole.size(), std::nanf(""));
        for (int rank = 0; rank < ranks; ++rank) {
          int64_t begin = slice_begin(inputs, unit, rank * slices);
          int64_t end = slice_begin(inputs, unit, (rank + 1) * slices);
          Tensor partials(parts.data() + rank * slices * tokens * 18, DType::kF32, {slices, tokens, 18});
          ops->linear_partial(x.view.columns(begin, end - begin), columns(w.weight(), begin, end), partials);
        }
        ASSERT_EQ(std::memcmp(parts.data(), whole.data(), whole.size() * sizeof(float)), 0)
            << "K " << inputs << " T " << tokens << " ranks " << ranks;
      }
    }
  }
}

TEST_P(LinearTest, ExtremeActivationsStayExact) {
  auto ops = this->ops(1);
  // 2^20 and 2^-20 are far beyond what an fp8 weight can do; nothing may overflow or vanish on the way.
  Matrix x = poisoned_matrix(GetParam().act, 1, 256);
  Matrix w = this->w(4, 256);
  for (int64_t k = 0; k < 256; ++k) {
    set_element(x.view, 0, k, k % 2 ? 0x1p-20f : 0x1p20f);
    for (int64_t n = 0; n < 4; ++n) set_element(w.view, n, k, k / 2 % 64 == n ? 0.015625f : 0.f);
  }
  Matrix out = poisoned_matrix(DType::kF32, 1, 4);
  LinearWeight weight = w.weight();
  ops->linear(x.view, {&weight, 1}, {&out.view, 1});
  expect_close(out.view, x.view, weight, 0, 256);
}

TEST(LinearFp8, EveryByteIsItsValue) {
  for (cpu::Isa isa : available_isas()) {
    auto ops = KernelCase{isa, DType::kF32, DType::kF8E4M3}.ops(1);
    // Row n holds byte n at column n and zeros elsewhere.
    for (int64_t tokens : {1, 20}) {
      std::vector<uint8_t> bytes(256 * 256);
      for (int n = 0; n < 256; ++n) bytes[static_cast<size_t>(n * 256 + n)] = static_cast<uint8_t>(n);
      std::vector<float> scales = {1.f, 2.f, 4.f, 0.5f};
      LinearWeight weight{Tensor(bytes.data(), DType::kF8E4M3, {256, 256}), Tensor(scales.data(), DType::kF32, {2, 2})};
      std::vector<float> ones(static_cast<size_t>(tokens * 256), 1.f);
      std::vector<float> values(static_cast<size_t>(tokens * 256));
      Tensor out(values.data(), DType::kF32, {tokens, 256});
      ops->linear(Tensor(ones.data(), DType::kF32, {tokens, 256}), {&weight, 1}, {&out, 1});
      for (int n = 0; n < 256; ++n) {
        if ((n & 0x7f) == 0x7f) continue;  // NaN
        EXPECT_EQ(out.row<float>(tokens - 1)[n], f8e4m3_to_f32(static_cast<uint8_t>(n)) * (n < 128 ? 1.f : 0.5f)) << n;
      }
    }
  }
}

TEST(CpuOps, AnUnknownOrAbsentInstructionSetIsRefused) {
  CpuOpsOptions options;
  options.isa = "mmx";
  EXPECT_EQ(make_cpu_ops(options).error().code, ErrorCode::kUnsupported);
  for (cpu::Isa isa : {cpu::Isa::kScalar, cpu::Isa::kAvx2, cpu::Isa::kAvx512}) {
    options.isa = cpu::isa_name(isa).data();
    EXPECT_EQ(make_cpu_ops(options).ok(), cpu::isa_available(isa));
  }
}

}  // namespace
}  // namespace hylas::test
