#include "weights/quantize.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "support/temp_dir.h"
#include "weights/safetensors_writer.h"

namespace hylas::test {
namespace {

constexpr uint32_t kSeed = 20261124;

std::vector<float> random_matrix(int64_t elements) {
  std::mt19937 generator(kSeed);
  std::normal_distribution<float> normal(0, 0.02f);
  std::vector<float> values(static_cast<size_t>(elements));
  for (float& value : values) value = normal(generator);
  return values;
}

TEST(QuantizeBlocks, EveryValueIsWithinHalfAStepOfItsBlock) {
  constexpr int64_t kRows = 200, kColumns = 300;  // ragged last blocks
  std::vector<float> values = random_matrix(kRows * kColumns);
  for (int threads : {1, 2}) {
    const Fp8Matrix matrix = quantize_blocks(Tensor(values.data(), DType::kF32, {kRows, kColumns}), threads);
    ASSERT_EQ(matrix.scale.size(), 2u * 3);
    for (int64_t r = 0; r < kRows; ++r) {
      for (int64_t c = 0; c < kColumns; ++c) {
        const float scale = bf16_to_f32(matrix.scale[r / 128 * 3 + c / 128]);
        const float value = values[r * kColumns + c];
        const float back = f8e4m3_to_f32(matrix.values[r * kColumns + c]) * scale;
        // Three mantissa bits: 1/16 of the value, or half of the smallest step, 2^-9, near zero; 1/256 where 448
        // saturates.
        ASSERT_NEAR(back, value, std::max(std::fabs(value) / 16 * 1.001f, scale / 1024)) << r << ", " << c;
      }
    }
  }
}

TEST(QuantizeBlocks, TheLargestOfABlockBecomes448AndZerosStayZero) {
  std::vector<float> values(128 * 256, 0.f);
  values[5] = -7.f;
  const Fp8Matrix matrix = quantize_blocks(Tensor(values.data(), DType::kF32, {128, 256}), 1);
  EXPECT_EQ(f8e4m3_to_f32(matrix.values[5]), -448.f);
  EXPECT_EQ(bf16_to_f32(matrix.scale[0]), 0.015625f);
  EXPECT_EQ(bf16_to_f32(matrix.scale[1]), 1.f);
  EXPECT_EQ(matrix.values[200], 0);
}

TEST(QuantizeCheckpoint, SplitsFusedExpertsAndCopiesTheRest) {
  TempDir from, to;
  std::vector<float> fused = random_matrix(2 * 64 * 32), norm = {1, 2, 3};
  ASSERT_TRUE(write_safetensors(from.file("model.safetensors"),
                                {{"l.mlp.experts.gate_up_proj", Tensor(fused.data(), DType::kF32, {2, 64, 32})},
                                 {"l.mlp.experts.down_proj", Tensor(fused.data(), DType::kF32, {2, 32, 32})},
                                 {"l.o_proj.weight", Tensor(fused.data(), DType::kF32, {64, 32})},
                                 {"l.norm.weight", Tensor(norm.data(), DType::kF32, {3})}})
                  .ok());
  const auto old = Checkpoint::open(from.path()).value();
  QuantizeOptions options;
  options.is_projection = [](const std::string& name) { return name.ends_with("o_proj.weight"); };
  options.shard_bytes_max = 3000;
  const auto kept = quantize_checkpoint(*old, to.path(), options, {});
  ASSERT_TRUE(kept.ok()) << kept.error().message;
  EXPECT_THAT(*kept, testing::ElementsAre("l.norm.weight"));

  const auto made = Checkpoint::open(to.path()).value();
  EXPECT_TRUE(std::filesystem::exists(to.file("model.safetensors.index.json")));
  EXPECT_EQ(made->tensors().size(), 2u * 3 * 2 + 2 + 1);
  const Tensor up = made->view("l.mlp.experts.1.up_proj.weight").value();
  const float scale = bf16_to_f32(made->view("l.mlp.experts.1.up_proj.weight_scale_inv")->as<uint16_t>()[0]);
  const float* original = fused.data() + 64 * 32 + 32 * 32;  // expert 1, the rows behind the gate's
  for (int i = 0; i < 32 * 32; ++i) {
    EXPECT_NEAR(f8e4m3_to_f32(up.as<uint8_t>()[i]) * scale, original[i], 0.003f);
  }
  EXPECT_EQ(made->view("l.norm.weight")->as<float>()[2], 3.f);
}

}  // namespace
}  // namespace hylas::test
