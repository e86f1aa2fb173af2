#include "weights/dummy_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "weights/dummy_fill.h"

namespace hylas::test {
namespace {

std::vector<TensorSpec> specs() {
  return {
      {"m.weight", {300, 260}, DType::kBF16},
      {"q.weight", {300, 260}, DType::kF8E4M3},
      {"x.experts.gate_up_proj", {6, 64, 48}, DType::kBF16},
      {"x.experts.down_proj", {6, 48, 32}, DType::kBF16},
      {"l.A_log", {4096}, DType::kBF16},
      {"l.dt_bias", {4096}, DType::kBF16},
      {"l.linear_attn.norm.weight", {4096}, DType::kBF16},
      {"l.input_layernorm.weight", {4096}, DType::kBF16},
      {"big.weight", {4096, 2048}, DType::kBF16},
  };
}

struct Moments {
  double mean = 0, deviation = 0, min = 1e30, max = -1e30;
};
template <class Read>
Moments moments(int64_t count, Read read) {
  Moments m;
  double squares = 0;
  for (int64_t i = 0; i < count; ++i) {
    const double value = read(i);
    m.mean += value / static_cast<double>(count);
    squares += value * value / static_cast<double>(count);
    m.min = std::min(m.min, value);
    m.max = std::max(m.max, value);
  }
  m.deviation = std::sqrt(squares - m.mean * m.mean);
  return m;
}
Moments moments(const Tensor& bf16) {
  return moments(bf16.elements(), [&](int64_t i) { return bf16_to_f32(bf16.as<uint16_t>()[i]); });
}

TEST(DummySource, ValuesLieWhereTrainedModelsHaveThem) {
  DummySource source(specs());
  const Moments matrix = moments(source.tensor("m.weight", {300, 260}).value());
  EXPECT_NEAR(matrix.mean, 0, 1e-3);
  EXPECT_NEAR(matrix.deviation, 0.02, 5e-4);
  const Moments decay = moments(source.tensor("l.A_log", {4096}).value());
  EXPECT_GE(decay.min, 0);
  EXPECT_LE(decay.max, std::log(16.0) + 0.02);
  const Moments step = moments(source.tensor("l.dt_bias", {4096}).value());
  EXPECT_NEAR(std::log1p(std::exp(step.min)), 1e-3, 5e-5);
  EXPECT_NEAR(std::log1p(std::exp(step.max)), 1e-1, 5e-3);
  EXPECT_NEAR(moments(source.tensor("l.linear_attn.norm.weight", {4096}).value()).mean, 1, 1e-3);
  EXPECT_NEAR(moments(source.tensor("l.input_layernorm.weight", {4096}).value()).mean, 0, 2e-3);
}

TEST(DummySource, Fp8BlocksDequantiseToTheSameDeviation) {
  DummySource source(specs());
  const LinearWeight q = source.linear("q", 300, 260).value();
  ASSERT_EQ(q.scale.dim(0), 3);
  ASSERT_EQ(q.scale.dim(1), 3);
  const Moments m = moments(300 * 260, [&](int64_t i) {
    return f8e4m3_to_f32(q.weight.as<uint8_t>()[i]) * q.scale.row<float>(i / 260 / 128)[i % 260 / 128];
  });
  EXPECT_NEAR(m.mean, 0, 1e-3);
  EXPECT_NEAR(m.deviation, 0.02, 3e-3);
  EXPECT_NE(q.scale.as<float>()[0], q.scale.as<float>()[1]);
}

TEST(DummySource, ValuesDoNotDependOnThreads) {
  DummySource one(specs(), 1), three(specs(), 3);
  const Tensor a = one.tensor("big.weight", {4096, 2048}).value(), b = three.tensor("big.weight", {4096, 2048}).value();
  EXPECT_EQ(std::memcmp(a.data, b.data, a.bytes()), 0);
}

TEST(DummySource, ValuesDoNotDependOnTheRangeOfExperts) {
  DummySource all(specs()), some(specs());
  const ExpertWeights whole = all.experts("x.experts", {0, 6}, 48, 32, {}).value();
  const ExpertWeights part = some.experts("x.experts", {4, 2}, 48, 32, {}).value();
  for (int e = 0; e < 2; ++e) {
    EXPECT_EQ(std::memcmp(whole.gate[4 + e].weight.data, part.gate[e].weight.data, 32 * 48 * 2), 0);
    EXPECT_EQ(std::memcmp(whole.up[4 + e].weight.data, part.up[e].weight.data, 32 * 48 * 2), 0);
    EXPECT_EQ(std::memcmp(whole.down[4 + e].weight.data, part.down[e].weight.data, 48 * 32 * 2), 0);
  }
  EXPECT_EQ(some.bytes_used(), 2u * 3 * 32 * 48 * 2);
}

TEST(DummySource, ColumnsAndRowsAreThoseOfTheWholeMatrix) {
  DummySource all(specs()), some(specs());
  const LinearWeight whole = all.linear("q", 300, 260).value();
  const LinearWeight columns = some.linear_columns("q", 300, 260, {128, 132}).value();
  const Range range{128, 128};
  const LinearWeight rows = some.linear_rows("q", 300, 260, {&range, 1}).value();
  for (int64_t r : {0, 131, 299}) {
    EXPECT_EQ(std::memcmp(columns.weight.row<uint8_t>(r), whole.weight.row<uint8_t>(r) + 128, 132), 0);
    EXPECT_EQ(columns.scale.row<float>(r / 128)[1], whole.scale.row<float>(r / 128)[2]);
  }
  EXPECT_EQ(std::memcmp(rows.weight.data, whole.weight.row<uint8_t>(128), 128 * 260), 0);
  EXPECT_EQ(rows.scale.row<float>(0)[2], whole.scale.row<float>(1)[2]);
  EXPECT_EQ(some.bytes_used(), 300u * 132 + 3 * 2 * 4 + 128 * 260 + 3 * 4);
}

// A tensor of more than 2^32 elements can be filled anywhere, and does not repeat there.
TEST(DummySource, ValuesAreFunctionsOfTheElementIndex) {
  std::vector<uint16_t> a(5000), b(2000), far(5000);
  fill_dummy("x", (int64_t{1} << 32) - 1000, 1, Tensor(a.data(), DType::kBF16, {5000}), 1);
  fill_dummy("x", (int64_t{1} << 32) + 500, 1, Tensor(b.data(), DType::kBF16, {2000}), 1);
  EXPECT_EQ(std::memcmp(a.data() + 1500, b.data(), 2000 * 2), 0);
  fill_dummy("x", (int64_t{2} << 32) - 1000, 1, Tensor(far.data(), DType::kBF16, {5000}), 1);
  EXPECT_NE(a, far);
}

TEST(DummySource, GivesTheSameMemoryTwiceAndCountsItOnce) {
  DummySource source(specs());
  const Tensor a = source.tensor("m.weight", {300, 260}).value();
  EXPECT_EQ(source.linear("m", 300, 260)->weight.data, a.data);
  EXPECT_EQ(source.bytes_used(), 300u * 260 * 2);
}

TEST(DummySource, RefusesWhatTheModelDoesNotHave) {
  DummySource source(specs());
  EXPECT_FALSE(source.has("n.weight"));
  EXPECT_EQ(source.tensor("n.weight", {1}).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(source.tensor("m.weight", {260, 300}).error().code, ErrorCode::kInvalid);
  EXPECT_EQ(source.experts("x.experts", {5, 2}, 48, 32, {}).error().code, ErrorCode::kInvalid);
}

}  // namespace
}  // namespace hylas::test
