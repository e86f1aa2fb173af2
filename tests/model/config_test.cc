#include "model/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/json.h"
#include "support/goldens.h"

namespace hylas::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;

// A nested dense config of defaults, changed by `patch` {"text_config.hidden_size": 64, "model_type": ..}.
Result<ModelConfig> parse(std::initializer_list<std::pair<std::string_view, json::value>> patch,
                          const char* base = R"({"model_type":"qwen3_5","text_config":{}})") {
  json::value root = boost::json::parse(base);
  for (const auto& [path, value] : patch) {
    json::object* at = &root.as_object();
    std::string_view rest = path;
    for (size_t dot; (dot = rest.find('.')) != rest.npos; rest = rest.substr(dot + 1)) {
      json::value& child = (*at)[rest.substr(0, dot)];
      if (!child.is_object()) child = json::object();
      at = &child.as_object();
    }
    (*at)[rest] = value;
  }
  return parse_model_config_text(boost::json::serialize(root), "x/config.json");
}

void expect_refused(const Result<ModelConfig>& result, ErrorCode code, const std::string& field) {
  ASSERT_FALSE(result.ok()) << "should be refused: " << field;
  EXPECT_EQ(result.error().code, code) << result.error().message;
  EXPECT_THAT(result.error().message, AllOf(HasSubstr("x/config.json"), HasSubstr(field)));
}

TEST(ModelConfig, DenseDefaults) {
  const ModelConfig config = parse({}).value();
  EXPECT_TRUE(config.nested);
  EXPECT_EQ(config.prefix, "model.language_model.");
  EXPECT_EQ(config.vocab_size, 248320);
  EXPECT_EQ(config.hidden_size, 4096);
  EXPECT_EQ(config.intermediate_size, 12288);
  EXPECT_EQ(config.experts, 0);
  ASSERT_EQ(config.layer_types.size(), 32u);
  for (int i = 0; i < 32; ++i) {
    EXPECT_EQ(config.layer_types[i], i % 4 == 3 ? LayerKind::kFull : LayerKind::kLinear);
  }
  EXPECT_EQ(config.heads, 16);
  EXPECT_EQ(config.kv_heads, 4);
  EXPECT_EQ(config.rope.rotary_dim, 64);
  EXPECT_EQ(config.rope.theta, 1e7f);
  EXPECT_THAT(config.rope.sections, testing::ElementsAre(11, 11, 10));
  EXPECT_EQ(config.state_dtype, DType::kF32);
  EXPECT_EQ(config.mtp_layers, 1);
  EXPECT_FALSE(config.tie_word_embeddings);
  EXPECT_FALSE(config.has_vision);
  EXPECT_FALSE(config.quantised);
}

TEST(ModelConfig, MoeDefaultsAndFlatForm) {
  const ModelConfig config = parse({}, R"({"model_type":"qwen3_5_moe_text"})").value();
  EXPECT_FALSE(config.nested);
  EXPECT_EQ(config.prefix, "model.");
  EXPECT_EQ(config.hidden_size, 2048);
  EXPECT_EQ(config.num_layers, 40);
  EXPECT_EQ(config.kv_heads, 2);
  EXPECT_EQ(config.experts, 256);
  EXPECT_EQ(config.experts_per_token, 8);
  EXPECT_EQ(config.moe_intermediate_size, 512);
  EXPECT_EQ(config.shared_intermediate_size, 512);
}

TEST(ModelConfig, ReadsTheGoldenModels) {
  for (const GoldenModel& model : golden_models()) {
    const auto config = parse_model_config(model.dir);
    ASSERT_TRUE(config.ok()) << config.error().message;
    EXPECT_EQ(config->vocab_size, 1040) << model.name;
    EXPECT_EQ(config->prefix, config->nested ? "model.language_model." : "model.");
  }
  const ModelConfig fp8 = parse_model_config(golden_model("moe-fp8-aligned").dir + "/config.json").value();
  EXPECT_TRUE(fp8.quantised);
  EXPECT_TRUE(fp8.has_vision);
  EXPECT_EQ(fp8.image_token_id, 1012);
  EXPECT_THAT(fp8.eos_ids, testing::ElementsAre(1000));
  EXPECT_TRUE(parse_model_config(golden_model("dense-realheads").dir)->tie_word_embeddings);
}

TEST(ModelConfig, TyingIsReadAtBothLevelsAndTheTopWins) {
  EXPECT_TRUE(parse({{"tie_word_embeddings", true}})->tie_word_embeddings);
  EXPECT_TRUE(parse({{"text_config.tie_word_embeddings", true}})->tie_word_embeddings);
  EXPECT_FALSE(parse({{"tie_word_embeddings", false}, {"text_config.tie_word_embeddings", true}})->tie_word_embeddings);
}

TEST(ModelConfig, TheListOfLayersWinsOverTheInterval) {
  const ModelConfig config =
      parse({{"text_config.num_hidden_layers", 3},
             {"text_config.full_attention_interval", 4},
             {"text_config.layer_types", {"full_attention", "linear_attention", "linear_attention"}}})
          .value();
  EXPECT_THAT(config.layer_types, testing::ElementsAre(LayerKind::kFull, LayerKind::kLinear, LayerKind::kLinear));
  const ModelConfig every_second =
      parse({{"text_config.num_hidden_layers", 3}, {"text_config.full_attention_interval", 2}}).value();
  EXPECT_THAT(every_second.layer_types, testing::ElementsAre(LayerKind::kLinear, LayerKind::kFull, LayerKind::kLinear));
}

TEST(ModelConfig, RopeIsReadFromItsNewAndOldPlaces) {
  EXPECT_EQ(parse({{"text_config.rope_parameters.rope_theta", 5e5}})->rope.theta, 5e5f);
  EXPECT_EQ(parse({{"text_config.rope_theta", 5e5}})->rope.theta, 5e5f);
  EXPECT_EQ(parse({{"text_config.partial_rotary_factor", 0.5}, {"text_config.rope_scaling.type", "default"}})
                ->rope.rotary_dim,
            128);
}

TEST(ModelConfig, UnknownArchitecturesAreNamedWithWhatIsSupported) {
  expect_refused(parse({{"model_type", "llama"}}), ErrorCode::kUnsupported, "llama");
  expect_refused(parse({{"model_type", "qwen4_exp"}}), ErrorCode::kUnsupported, "qwen3_5_moe_text");
  expect_refused(parse({{"architectures", {"LlamaForCausalLM"}}}), ErrorCode::kUnsupported, "LlamaForCausalLM");
  expect_refused(parse({{"text_config.model_type", "qwen4_exp_text"}}), ErrorCode::kUnsupported,
                 "text_config.model_type");
  expect_refused(parse({}, "{}"), ErrorCode::kUnsupported, "model_type");
  expect_refused(parse({}, R"({"model_type":"qwen3_5"})"), ErrorCode::kInvalid, "text_config");
}

TEST(ModelConfig, VariantsThatNoReleasedModelIsAreRefused) {
  const std::pair<std::string_view, json::value> kRefused[] = {
      {"text_config.attn_output_gate", false},
      {"text_config.attention_bias", true},
      {"text_config.output_gate_type", "sigmoid"},
      {"text_config.hidden_act", "gelu"},
      {"text_config.mtp_use_dedicated_embeddings", true},
      {"text_config.mtp_num_hidden_layers", 2},
      {"text_config.mlp_only_layers", {0}},
      {"text_config.linear_conv_kernel_dim", 3},
      {"text_config.mamba_ssm_dtype", "float64"},
      {"text_config.rope_parameters.rope_type", "yarn"},
      {"text_config.rope_parameters.mrope_interleaved", false},
      {"text_config.dtype", "float16"},
      {"quantization_config.quant_method", "gptq"},
  };
  for (const auto& [path, value] : kRefused) {
    expect_refused(parse({{path, value}}), ErrorCode::kUnsupported, fmt::format("`{}`", path));
  }
}

TEST(ModelConfig, OnlyOneFormOfFp8IsTaken) {
  const json::value good = {
      {"quant_method", "fp8"}, {"fmt", "e4m3"}, {"activation_scheme", "dynamic"}, {"weight_block_size", {128, 128}}};
  EXPECT_TRUE(parse({{"quantization_config", good}})->quantised);
  EXPECT_TRUE(parse({{"text_config.quantization_config", good}})->quantised);
  const std::pair<std::string_view, json::value> kRefused[] = {
      {"quantization_config.fmt", "e5m2"},
      {"quantization_config.activation_scheme", "static"},
      {"quantization_config.weight_block_size", {64, 128}},
      {"quantization_config.weight_block_size", nullptr},
      {"quantization_config.quant_method", nullptr},
  };
  for (const auto& [path, value] : kRefused) {
    expect_refused(parse({{"quantization_config", good}, {path, value}}), ErrorCode::kUnsupported, std::string(path));
  }
}

TEST(ModelConfig, FieldsOfTheWrongTypeOrOutOfRangeAreNamed) {
  const std::pair<std::string_view, json::value> kRefused[] = {
      {"text_config.hidden_size", -1},
      {"text_config.hidden_size", 0},
      {"text_config.hidden_size", "4096"},
      {"text_config.hidden_size", 4096.5},
      {"text_config.hidden_size", 1LL << 40},
      {"text_config.vocab_size", 0},
      {"text_config.num_hidden_layers", 100000},
      {"text_config.head_dim", 1},
      {"text_config.rms_norm_eps", "small"},
      {"text_config.layer_types", "all"},
      {"text_config.layer_types", {"full_attention"}},
      {"text_config.max_position_embeddings", 0},
      {"text_config.eos_token_id", -2},
      {"text_config.eos_token_id", {1, "x"}},
      {"text_config.rope_parameters", 3},
      {"text_config.rope_parameters.mrope_section", {1, 1, 1}},
      {"text_config.rope_parameters.partial_rotary_factor", 2},
      {"tie_word_embeddings", "yes"},
      {"text_config", {1}},
      {"architectures", {1}},
  };
  for (const auto& [path, value] : kRefused) {
    expect_refused(parse({{path, value}}), ErrorCode::kInvalid, std::string(path));
  }
  expect_refused(parse({{"text_config.layer_types", {"sliding"}}, {"text_config.num_hidden_layers", 1}}),
                 ErrorCode::kUnsupported, "`text_config.layer_types[0]` is \"sliding\"");
}

TEST(ModelConfig, HeadsMustDivide) {
  expect_refused(parse({{"text_config.num_attention_heads", 6}}), ErrorCode::kInvalid, "num_key_value_heads");
  expect_refused(parse({{"text_config.linear_num_value_heads", 24}}), ErrorCode::kInvalid, "linear_num_key_heads");
  expect_refused(parse({{"num_experts", 4}, {"num_experts_per_tok", 5}}, R"({"model_type":"qwen3_5_moe_text"})"),
                 ErrorCode::kInvalid, "num_experts_per_tok");
}

TEST(ModelConfig, BrokenFilesAreNamed) {
  expect_refused(parse_model_config_text("{", "x/config.json"), ErrorCode::kInvalid, "invalid JSON");
  expect_refused(parse_model_config_text("[]", "x/config.json"), ErrorCode::kInvalid, "JSON object");
  const auto absent = parse_model_config("/does/not/exist");
  ASSERT_FALSE(absent.ok());
  EXPECT_EQ(absent.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(absent.error().message, HasSubstr("/does/not/exist"));
}

}  // namespace
}  // namespace hylas::test
