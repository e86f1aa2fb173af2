#include "model/quantize_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "model/manifest.h"
#include "support/goldens.h"
#include "support/temp_dir.h"
#include "weights/checkpoint_source.h"

namespace hylas::test {
namespace {

// The form of the released FP8 files: what config.json says and what the file holds agree with the manifest.
TEST(QuantizeModel, MakesACheckpointOfTheReleasedForm) {
  for (const char* name : {"mtp-moe", "dense-realheads"}) {
    SCOPED_TRACE(name);
    TempDir dir;
    const std::string out = dir.file("fp8");
    const Status status = quantize_model(golden_model(name).dir, out, 2, {});
    ASSERT_TRUE(status.ok()) << status.error().message;
    const ModelConfig config = parse_model_config(out).value();
    EXPECT_TRUE(config.quantised);
    const auto checkpoint = Checkpoint::open(out).value();
    ASSERT_TRUE(check_complete(*checkpoint, config).ok());
    for (const TensorSpec& spec : manifest(config)) {
      EXPECT_EQ(checkpoint->find(spec.name)->dtype == DType::kF8E4M3, spec.dtype == DType::kF8E4M3) << spec.name;
    }
    EXPECT_TRUE(std::filesystem::exists(out + "/tokenizer.json"));
    EXPECT_TRUE(std::filesystem::exists(out + "/chat_template.jinja"));
  }
}

TEST(QuantizeModel, ExpertsKeepTheirValues) {
  TempDir dir;
  ASSERT_TRUE(quantize_model(golden_model("mtp-moe").dir, dir.file("fp8"), 1, {}).ok());
  CheckpointSource before(std::shared_ptr<const Checkpoint>(Checkpoint::open(golden_model("mtp-moe").dir).value()));
  CheckpointSource after(std::shared_ptr<const Checkpoint>(Checkpoint::open(dir.file("fp8")).value()));
  const std::string prefix = "model.language_model.layers.1.mlp.experts";
  const ExpertWeights old = before.experts(prefix, {0, 16}, 128, 32, {}).value();
  const ExpertWeights made = after.experts(prefix, {0, 16}, 128, 32, {}).value();
  for (int e = 0; e < 16; ++e) {
    for (const auto part : {&ExpertWeights::gate, &ExpertWeights::up, &ExpertWeights::down}) {
      const LinearWeight& a = (old.*part)[e];
      const LinearWeight& b = (made.*part)[e];
      double squares = 0, errors = 0;
      for (int64_t i = 0; i < a.weight.elements(); ++i) {
        const double value = bf16_to_f32(a.weight.as<uint16_t>()[i]);
        const double back = f8e4m3_to_f32(b.weight.as<uint8_t>()[i]) * b.scale.as<float>()[0];
        squares += value * value;
        errors += (value - back) * (value - back);
      }
      EXPECT_LT(std::sqrt(errors / squares), 0.04) << e;
    }
  }
}

TEST(QuantizeModel, RefusesQuantisedModelsAndFullDirectories) {
  TempDir dir;
  EXPECT_EQ(quantize_model(golden_model("moe-fp8-aligned").dir, dir.file("x"), 1, {}).error().code,
            ErrorCode::kInvalid);
  dir.write("something", "");
  const Status full = quantize_model(golden_model("mtp-moe").dir, dir.path(), 1, {});
  ASSERT_FALSE(full.ok());
  EXPECT_THAT(full.error().message, testing::HasSubstr("not empty"));
}

}  // namespace
}  // namespace hylas::test
