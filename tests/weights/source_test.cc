#include "weights/source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstring>

#include "support/goldens.h"
#include "support/temp_dir.h"
#include "weights/checkpoint_source.h"
#include "weights/raw_file.h"
#include "weights/safetensors_writer.h"

namespace hylas::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr char kLayer0[] = "model.language_model.layers.0.";

CheckpointSource open_source(const std::string& dir) {
  return CheckpointSource(std::shared_ptr<const Checkpoint>(Checkpoint::open(dir).value()));
}
CheckpointSource golden_source(const std::string& name) { return open_source(golden_model(name).dir); }

TEST(CheckpointSource, ChecksShapes) {
  CheckpointSource source = golden_source("mtp-moe");
  const std::string name = std::string(kLayer0) + "input_layernorm.weight";
  EXPECT_TRUE(source.tensor(name, {128}).ok());
  for (const auto& wrong : {source.tensor(name, {127}), source.tensor(name, {128, 1})}) {
    ASSERT_FALSE(wrong.ok());
    EXPECT_EQ(wrong.error().code, ErrorCode::kInvalid);
    EXPECT_THAT(wrong.error().message, AllOf(HasSubstr(name), HasSubstr("[128]"), HasSubstr("instead of [12")));
  }
  const auto missing = source.tensor("model.norm.weigth", {128});
  ASSERT_FALSE(missing.ok());
  EXPECT_EQ(missing.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(missing.error().message, HasSubstr("`model.norm.weigth` is missing"));
}

TEST(CheckpointSource, TakesF32AndBf16) {
  CheckpointSource source = golden_source("mtp-moe");
  EXPECT_EQ(source.tensor(std::string(kLayer0) + "linear_attn.A_log", {4})->dtype, DType::kF32);
  EXPECT_EQ(source.tensor(std::string(kLayer0) + "linear_attn.dt_bias", {4})->dtype, DType::kBF16);
}

TEST(CheckpointSource, RefusesOtherTypes) {
  TempDir dir;
  dir.write("model.safetensors",
            raw_safetensors(R"({"x.weight":{"dtype":"F16","shape":[1,2],"data_offsets":[0,4]}})", 4));
  CheckpointSource source = open_source(dir.path());
  EXPECT_EQ(source.linear("x", 1, 2).error().code, ErrorCode::kUnsupported);
  EXPECT_THAT(source.tensor("x.weight", {1, 2}).error().message, AllOf(HasSubstr("`x.weight`"), HasSubstr("float16")));
}

TEST(CheckpointSource, Fp8MatricesComeWithTheirScaleInF32) {
  CheckpointSource source = golden_source("moe-fp8-aligned");
  const LinearWeight qkv = source.linear(std::string(kLayer0) + "linear_attn.in_proj_qkv", 512, 256).value();
  EXPECT_EQ(qkv.weight.dtype, DType::kF8E4M3);
  ASSERT_EQ(qkv.scale.dtype, DType::kF32);
  EXPECT_EQ(qkv.scale.dim(0), 4);
  EXPECT_EQ(qkv.scale.dim(1), 2);
  const auto checkpoint = Checkpoint::open(golden_model("moe-fp8-aligned").dir).value();
  const Tensor stored = checkpoint->view(std::string(kLayer0) + "linear_attn.in_proj_qkv.weight_scale_inv").value();
  for (int i = 0; i < 8; ++i) EXPECT_EQ(qkv.scale.as<float>()[i], bf16_to_f32(stored.as<uint16_t>()[i]));
  EXPECT_FALSE(source.linear(std::string(kLayer0) + "linear_attn.in_proj_a", 2, 256)->scale);
}

TEST(CheckpointSource, RefusesFp8WithoutAScaleOrWithTheWrongOne) {
  TempDir dir;
  const std::string weight = R"({"x.weight":{"dtype":"F8_E4M3","shape":[1,4],"data_offsets":[0,4]})";
  dir.write("model.safetensors", raw_safetensors(weight + "}", 4));
  EXPECT_THAT(open_source(dir.path()).linear("x", 1, 4).error().message,
              AllOf(HasSubstr("`x.weight` is FP8"), HasSubstr("x.weight_scale_inv")));
  EXPECT_EQ(open_source(dir.path()).tensor("x.weight", {1, 4}).error().code, ErrorCode::kUnsupported);
  dir.write(
      "model.safetensors",
      raw_safetensors(weight + R"(,"x.weight_scale_inv":{"dtype":"F32","shape":[1,2],"data_offsets":[4,12]}})", 12));
  EXPECT_THAT(open_source(dir.path()).linear("x", 1, 4).error().message, HasSubstr("[1, 2] instead of [1, 1]"));
}

TEST(CheckpointSource, MisalignedTensorsAreCopiedToAlignedMemory) {
  TempDir dir;
  dir.write("model.safetensors", raw_safetensors(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                                                 R"("b":{"dtype":"F32","shape":[2],"data_offsets":[1,9]}} )",
                                                 9));
  CheckpointSource source = open_source(dir.path());
  const Tensor b = source.tensor("b", {2}).value();
  EXPECT_EQ(reinterpret_cast<uintptr_t>(b.data) % 4, 0u);
  EXPECT_EQ(b.as<uint32_t>()[0], 0x01010101u);
}

TEST(CheckpointSource, FusedExpertsAreGateAboveUp) {
  CheckpointSource source = golden_source("mtp-moe");
  const std::string prefix = std::string(kLayer0) + "mlp.experts";
  const ExpertWeights experts = source.experts(prefix, {3, 2}, 128, 32, {}).value();
  ASSERT_EQ(experts.gate.size(), 2u);
  EXPECT_EQ(experts.expert_begin, 3);
  const auto checkpoint = Checkpoint::open(golden_model("mtp-moe").dir).value();
  const Tensor gate_up = checkpoint->view(prefix + ".gate_up_proj").value();  // [16, 64, 128]
  const Tensor down = checkpoint->view(prefix + ".down_proj").value();        // [16, 128, 32]
  for (int e = 0; e < 2; ++e) {
    const uint16_t* both = gate_up.row<uint16_t>(3 + e);
    EXPECT_EQ(std::memcmp(experts.gate[e].weight.data, both, 32 * 128 * 2), 0);
    EXPECT_EQ(std::memcmp(experts.up[e].weight.data, both + 32 * 128, 32 * 128 * 2), 0);
    EXPECT_EQ(std::memcmp(experts.down[e].weight.data, down.row<uint16_t>(3 + e), 128 * 32 * 2), 0);
    EXPECT_EQ(experts.down[e].weight.dim(0), 128);
    EXPECT_EQ(experts.down[e].weight.row_stride, 32);
  }
  const auto beyond = source.experts(prefix, {15, 2}, 128, 32, {});
  ASSERT_FALSE(beyond.ok());
  EXPECT_THAT(beyond.error().message, HasSubstr("rows [1024, 1056)"));
}

TEST(CheckpointSource, AWrongExpertWidthIsAnError) {
  CheckpointSource source = golden_source("mtp-moe");
  EXPECT_THAT(source.experts(std::string(kLayer0) + "mlp.experts", {0, 1}, 128, 64, {}).error().message,
              HasSubstr("[16, 64, 128] instead of [-1, 128, 128]"));
}

TEST(CheckpointSource, PerExpertMatricesAreReadOnlyForThisRank) {
  CheckpointSource source = golden_source("moe-fp8-aligned");
  const ExpertWeights experts = source.experts(std::string(kLayer0) + "mlp.experts", {2, 1}, 256, 128, {}).value();
  ASSERT_EQ(experts.up.size(), 1u);
  EXPECT_EQ(experts.up[0].weight.dtype, DType::kF8E4M3);
  EXPECT_EQ(source.names_used().size(), 6u);
  for (const std::string& name : source.names_used()) EXPECT_THAT(name, HasSubstr("experts.2."));
  EXPECT_EQ(source.bytes_used(), 3u * 128 * 256 + 3 * 2 * sizeof(uint16_t));
}

TEST(CheckpointSource, CountsEveryTensorOnce) {
  CheckpointSource source = golden_source("mtp-moe");
  size_t taken = 0;
  source.on_taken([&](size_t bytes) { taken += bytes; });
  const std::string prefix = std::string(kLayer0) + "mlp.experts";
  ASSERT_TRUE(source.experts(prefix, {0, 4}, 128, 32, {}).ok());
  const size_t quarter = source.bytes_used();
  EXPECT_EQ(quarter, 4u * 3 * 128 * 32 * 2);
  ASSERT_TRUE(source.experts(prefix, {0, 4}, 128, 32, {}).ok());
  EXPECT_EQ(source.bytes_used(), quarter);
  EXPECT_EQ(taken, quarter);
  EXPECT_TRUE(source.names_used().contains(prefix + ".down_proj[rows 384:512]"));
  size_t loaded = 0;
  source.prefetch([&](size_t done, size_t) { loaded = done; });
  EXPECT_EQ(loaded, quarter);
}

// What each of two ranks is given of a matrix, and nothing more is counted.
TEST(CheckpointSource, ShardsAreCutAsTheyAreRead) {
  const std::string name = std::string(kLayer0) + "linear_attn.";
  CheckpointSource whole = golden_source("mtp-moe");
  const LinearWeight qkv = whole.linear(name + "in_proj_qkv", 256, 128).value();
  const LinearWeight out = whole.linear(name + "out_proj", 128, 128).value();
  CheckpointSource rank = golden_source("mtp-moe");
  const Range segments[] = {{32, 32}, {96, 32}, {192, 64}};
  const LinearWeight rows = rank.linear_rows(name + "in_proj_qkv", 256, 128, segments).value();
  ASSERT_EQ(rows.weight.dim(0), 128);
  EXPECT_EQ(std::memcmp(rows.weight.row<uint16_t>(0), qkv.weight.row<uint16_t>(32), 32 * 128 * 2), 0);
  EXPECT_EQ(std::memcmp(rows.weight.row<uint16_t>(32), qkv.weight.row<uint16_t>(96), 32 * 128 * 2), 0);
  EXPECT_EQ(std::memcmp(rows.weight.row<uint16_t>(64), qkv.weight.row<uint16_t>(192), 64 * 128 * 2), 0);
  EXPECT_EQ(rank.bytes_used(), 128u * 128 * 2);
  const LinearWeight columns = rank.linear_columns(name + "out_proj", 128, 128, {64, 64}).value();
  ASSERT_EQ(columns.weight.dim(1), 64);
  for (int64_t r : {0, 127}) {
    EXPECT_EQ(std::memcmp(columns.weight.row<uint16_t>(r), out.weight.row<uint16_t>(r) + 64, 64 * 2), 0);
  }
  EXPECT_EQ(rank.bytes_used(), 128u * 128 * 2 + 128 * 64 * 2);
}

TEST(CheckpointSource, Fp8ShardsBeginAndEndAtBlocks) {
  const std::string name = std::string(kLayer0) + "linear_attn.in_proj_qkv";
  CheckpointSource source = golden_source("moe-fp8-aligned");
  const LinearWeight whole = source.linear(name, 512, 256).value();
  const Range ranges[] = {{128, 128}, {384, 128}};
  const LinearWeight rows = source.linear_rows(name, 512, 256, ranges).value();
  for (int64_t column : {0, 1}) {
    EXPECT_EQ(rows.scale.row<float>(0)[column], whole.scale.row<float>(1)[column]);
    EXPECT_EQ(rows.scale.row<float>(1)[column], whole.scale.row<float>(3)[column]);
  }
  const LinearWeight columns = source.linear_columns(name, 512, 256, {128, 128}).value();
  EXPECT_EQ(columns.scale.row<float>(3)[0], whole.scale.row<float>(3)[1]);
  const Range odd{64, 128};
  const auto refused = source.linear_rows(name, 512, 256, {&odd, 1});
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::kUnsupported);
  EXPECT_THAT(refused.error().message, AllOf(HasSubstr(name), HasSubstr("[64, 192)")));
}

class Shards : public testing::Test {
 protected:
  // `x` is 300 x 260, with ragged last blocks; the scale of block (i, j) is 3 i + j. `p` is 100 x 100, bf16.
  Shards() {
    for (size_t i = 0; i < values_.size(); ++i) values_[i] = static_cast<uint8_t>(i % 251);
    for (size_t i = 0; i < scales_.size(); ++i) scales_[i] = static_cast<float>(i);
    HYLAS_CHECK(write_safetensors(dir_.file("model.safetensors"),
                                  {{"x.weight", Tensor(values_.data(), DType::kF8E4M3, {300, 260})},
                                   {"x.weight_scale_inv", Tensor(scales_.data(), DType::kF32, {3, 3})},
                                   {"p.weight", Tensor(values_.data(), DType::kBF16, {100, 100})}})
                    .ok());
  }
  std::array<uint8_t, 300 * 260> values_{};
  std::array<float, 9> scales_{};
  TempDir dir_;
};

TEST_F(Shards, EveryElementKeepsItsScale) {
  CheckpointSource source = open_source(dir_.path());
  const Range last{128, 172};
  const LinearWeight rows = source.linear_rows("x", 300, 260, {&last, 1}).value();
  const LinearWeight columns = source.linear_columns("x", 300, 260, {128, 132}).value();
  ASSERT_EQ(rows.weight.dim(0), 172);
  ASSERT_EQ(columns.weight.dim(1), 132);
  for (int64_t r : {0, 127, 128, 171}) {
    for (int64_t c : {0, 127, 128, 131}) {
      EXPECT_EQ(rows.weight.row<uint8_t>(r)[c], values_[(r + 128) * 260 + c]);
      EXPECT_EQ(rows.scale.row<float>(r / 128)[c / 128], scales_[(r / 128 + 1) * 3 + c / 128]);
      EXPECT_EQ(columns.weight.row<uint8_t>(r)[c], values_[r * 260 + c + 128]);
      EXPECT_EQ(columns.scale.row<float>(r / 128)[c / 128], scales_[r / 128 * 3 + c / 128 + 1]);
    }
  }
  EXPECT_EQ(columns.weight.row_stride, 260);
  EXPECT_EQ(columns.scale.row_stride, 3);
}

TEST_F(Shards, Fp8IsCutOnlyBetweenBlocks) {
  CheckpointSource source = open_source(dir_.path());
  const Range half{64, 64}, one{33, 1};
  for (const auto& refused :
       {source.linear_rows("x", 300, 260, {&half, 1}), source.linear_columns("x", 300, 260, {100, 128})}) {
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().code, ErrorCode::kUnsupported);
    EXPECT_THAT(refused.error().message, HasSubstr("its blocks are 128 wide"));
  }
  EXPECT_TRUE(source.linear_rows("p", 100, 100, {&one, 1}).ok());
  EXPECT_FALSE(source.linear_columns("p", 100, 100, {50, 25})->scale);
}

}  // namespace
}  // namespace hylas::test
