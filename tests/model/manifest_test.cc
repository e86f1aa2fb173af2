#include "model/manifest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <set>

#include "support/goldens.h"
#include "support/temp_dir.h"
#include "weights/safetensors_writer.h"

namespace hylas::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;

const std::string kConfigs = std::string(HYLAS_SOURCE_DIR) + "/models/configs/";

// model.md section 5: parameters in units of 1e9 (text) and 1e6 (MTP), and the vision tower's that we do not list.
struct Released {
  const char* name;
  double text_e9;
  double mtp_e6;
};
constexpr Released kReleased[] = {
    {"qwen3.5-0.8b", 0.752, 20},
    {"qwen3.5-2b", 1.882, 61},
    {"qwen3.5-4b", 4.206, 121},
    {"qwen3.5-9b", 8.954, 243},
    {"qwen3.5-27b", 26.896, 425},
    {"qwen3.5-27b-fp8", 26.896, 425},
    {"qwen3.5-35b-a3b", 34.661, 845},
    {"qwen3.5-35b-a3b-fp8", 34.661, 845},
    {"qwen3.5-122b-a10b", 122.112, 2524},
    {"qwen3.5-122b-a10b-fp8", 122.112, 2524},
    {"qwen3.5-397b-a17b", 396.346, 6596},
    {"qwen3.5-397b-a17b-fp8", 396.346, 6596},
    {"qwen3.8-2.4t-a95b", 2419.805, 26378},
    {"qwen3.8-2.4t-a95b-fp8", 2419.805, 26378},
};

TEST(Manifest, ParametersOfEveryReleasedModelAddUpToThePublishedTotals) {
  for (const Released& released : kReleased) {
    SCOPED_TRACE(released.name);
    const auto config = parse_model_config(kConfigs + released.name);
    ASSERT_TRUE(config.ok()) << config.error().message;
    double text = 0, mtp = 0;
    std::set<std::string> names;
    for (const TensorSpec& spec : manifest(*config)) {
      (spec.mtp ? mtp : text) += static_cast<double>(spec.elements());
      EXPECT_TRUE(names.insert(spec.name).second) << spec.name;
    }
    EXPECT_NEAR(text / 1e9, released.text_e9, 0.00051);
    EXPECT_NEAR(mtp / 1e6, released.mtp_e6, 0.51);
    EXPECT_EQ(config->quantised, std::string_view(released.name).ends_with("-fp8"));
  }
}

TEST(Manifest, EveryShippedConfigIsTested) {
  size_t directories = 0;
  for (const auto& entry : std::filesystem::directory_iterator(kConfigs)) directories += entry.is_directory();
  EXPECT_EQ(directories, std::size(kReleased));
}

// What the file has: all of the text model and the MTP head, with exactly these shapes, and nothing else but the tower.
TEST(Manifest, IsWhatTheGoldenCheckpointsHold) {
  for (const GoldenModel& model : golden_models()) {
    SCOPED_TRACE(model.name);
    const ModelConfig config = parse_model_config(model.dir).value();
    const auto checkpoint = Checkpoint::open(model.dir).value();
    EXPECT_TRUE(check_complete(*checkpoint, config).ok());
    std::set<std::string> expected;
    for (const TensorSpec& spec : manifest(config, found_style(*checkpoint, config))) {
      const TensorInfo* found = checkpoint->find(spec.name);
      ASSERT_NE(found, nullptr) << spec.name;
      EXPECT_EQ(found->shape, spec.shape) << spec.name;
      EXPECT_EQ(found->dtype == DType::kF8E4M3, spec.dtype == DType::kF8E4M3) << spec.name;
      expected.insert(spec.name);
      if (spec.dtype == DType::kF8E4M3) expected.insert(scale_name(spec.name));
    }
    for (const std::string& name : checkpoint->names()) {
      EXPECT_TRUE(expected.contains(name) || name.starts_with("model.visual.")) << name;
    }
  }
}

TEST(Manifest, LayersAreGlobalAndTheMtpLayerComesLast) {
  const ModelConfig config = parse_model_config(golden_model("mtp-moe").dir).value();
  const std::vector<TensorSpec> specs = manifest(config);
  EXPECT_EQ(specs.front().name, "model.language_model.embed_tokens.weight");
  EXPECT_EQ(specs.front().layer, -1);
  for (const TensorSpec& spec : specs) {
    if (spec.name.find("layers.2.") != spec.name.npos) {
      EXPECT_EQ(spec.layer, 2) << spec.name;
    }
    EXPECT_EQ(spec.mtp, spec.name.starts_with("mtp.")) << spec.name;
    if (spec.mtp) {
      EXPECT_EQ(spec.layer, 4) << spec.name;
    }
  }
}

// A copy of a golden checkpoint, changed by `edit`: it may rename, reshape or drop (empty name) a tensor.
class Broken {
 public:
  template <class Edit>
  Broken(const std::string& model, Edit edit) {
    const auto from = Checkpoint::open(golden_model(model).dir).value();
    std::vector<OutputTensor> outputs;
    std::vector<std::pair<std::string, Tensor>> data;
    for (const auto& [name, info] : from->tensors()) {
      OutputTensor output{name, *info.dtype, info.shape};
      edit(output);
      if (output.name.empty()) continue;
      outputs.push_back(output);
      data.emplace_back(output.name, from->view(name).value());
    }
    auto writer = SafetensorsWriter::create(dir_.file("model.safetensors"), outputs).value();
    for (size_t i = 0; i < data.size(); ++i) {
      const auto* bytes = static_cast<const std::byte*>(data[i].second.data);
      HYLAS_CHECK(writer.write(data[i].first, {bytes, outputs[i].bytes()}).ok());
    }
    HYLAS_CHECK(writer.finish().ok());
    config_ = parse_model_config(golden_model(model).dir).value();
  }
  Status check() const { return check_complete(*Checkpoint::open(dir_.path()).value(), config_); }
  std::string dir() const { return dir_.path(); }

 private:
  TempDir dir_;
  ModelConfig config_;
};

TEST(CheckComplete, NamesMissingTensorsAndTheirNumber) {
  const Broken one("mtp-moe", [](OutputTensor& t) {
    if (t.name == "model.language_model.norm.weight") t.name.clear();
  });
  ASSERT_FALSE(one.check().ok());
  EXPECT_EQ(one.check().error().code, ErrorCode::kNotFound);
  EXPECT_THAT(one.check().error().message,
              AllOf(HasSubstr(one.dir()), HasSubstr("1 of "), HasSubstr("model.language_model.norm.weight")));
  const Broken layer("mtp-moe", [](OutputTensor& t) {
    if (t.name.find("language_model.layers.2.") != t.name.npos) t.name.clear();
  });
  EXPECT_THAT(layer.check().error().message, AllOf(HasSubstr("18 of "), HasSubstr(", ..")));
}

TEST(CheckComplete, NamesMisshapenTensorsWithBothShapes) {
  const Broken broken("dense-realheads", [](OutputTensor& t) {
    if (t.name.ends_with("layers.3.self_attn.k_proj.weight")) t.shape = {128, 256};
  });
  ASSERT_FALSE(broken.check().ok());
  EXPECT_EQ(broken.check().error().code, ErrorCode::kInvalid);
  EXPECT_THAT(broken.check().error().message,
              AllOf(HasSubstr("layers.3.self_attn.k_proj.weight"), HasSubstr("[128, 256]"), HasSubstr("[256, 128]")));
}

TEST(CheckComplete, Fp8NeedsItsScale) {
  const Broken broken("moe-fp8-aligned", [](OutputTensor& t) {
    if (t.name.ends_with("layers.1.mlp.experts.3.up_proj.weight_scale_inv")) t.name.clear();
  });
  EXPECT_THAT(broken.check().error().message, HasSubstr("experts.3.up_proj.weight is FP8 but has no"));
}

TEST(CheckComplete, TheMtpHeadMayBeAbsentButNotInPart) {
  const Broken absent("mtp-moe", [](OutputTensor& t) {
    if (t.name.starts_with("mtp.")) t.name.clear();
  });
  EXPECT_TRUE(absent.check().ok());
  const Broken part("mtp-moe", [](OutputTensor& t) {
    if (t.name == "mtp.norm.weight") t.name.clear();
  });
  EXPECT_THAT(part.check().error().message, HasSubstr("mtp.norm.weight"));
}

TEST(CheckComplete, ExtraTensorsAreNoError) {
  const Broken extra("dense-realheads", [](OutputTensor& t) {
    if (t.name == "model.visual.pos_embed.weight") t.name = "model.language_model.layers.9.extra";
  });
  EXPECT_TRUE(extra.check().ok());
}

}  // namespace
}  // namespace hylas::test
