// The text model's fields of config.json (model.md section 1).
#include <algorithm>

#include "model/config_parts.h"

namespace hylas {
namespace {

// Far above any released model, and small enough that products of two stay far below 2^63.
constexpr int32_t kVocabMax = 1 << 22;
constexpr int32_t kWidthMax = 1 << 20;
constexpr int32_t kLayersMax = 512;
constexpr int32_t kHeadsMax = 4096;
constexpr int32_t kHeadDimMax = 1024;
constexpr int32_t kExpertsMax = 4096;
constexpr int32_t kPositionsMax = 1 << 30;

Error not_divisible(const ConfigReader& text, std::string_view many, int32_t many_value, std::string_view few,
                    int32_t few_value) {
  return error(ErrorCode::kInvalid, "{}: `{}` is {}, which is not a multiple of `{}` {}", text.where(),
               text.field(many), many_value, text.field(few), few_value);
}

// Refuses a variant of the architecture that no released model is.
Status require_text(const ConfigReader& text, std::string_view key, std::string_view wanted) {
  HYLAS_ASSIGN(const std::string found, text.text(key, wanted));
  if (found == wanted) return {};
  return error(ErrorCode::kUnsupported, "{}: `{}` is \"{}\"; only \"{}\" is supported", text.where(), text.field(key),
               found, wanted);
}

Status require_bool(const ConfigReader& text, std::string_view key, bool wanted) {
  HYLAS_ASSIGN(const bool found, text.boolean(key, wanted));
  if (found == wanted) return {};
  return error(ErrorCode::kUnsupported, "{}: `{}` is {}; only {} is supported", text.where(), text.field(key), found,
               wanted);
}

Status require_variant(const ConfigReader& text) {
  HYLAS_TRY(require_text(text, "hidden_act", "silu"));
  HYLAS_TRY(require_text(text, "output_gate_type", "swish"));
  HYLAS_TRY(require_bool(text, "attn_output_gate", true));
  HYLAS_TRY(require_bool(text, "attention_bias", false));
  HYLAS_TRY(require_bool(text, "mtp_use_dedicated_embeddings", false));
  HYLAS_ASSIGN(const json::array* dense_layers, text.array("mlp_only_layers"));
  if (dense_layers && !dense_layers->empty()) {
    return error(ErrorCode::kUnsupported,
                 "{}: `{}` is not empty; only models whose layers are all of one kind of FFN "
                 "are supported",
                 text.where(), text.field("mlp_only_layers"));
  }
  return {};
}

Status read_layer_types(const ConfigReader& text, ModelConfig& config) {
  HYLAS_ASSIGN(const int32_t interval, text.integer("full_attention_interval", 4, 1, kLayersMax));
  HYLAS_ASSIGN(const json::array* names, text.array("layer_types"));
  if (!names) {
    for (int32_t i = 0; i < config.num_layers; ++i) {
      config.layer_types.push_back((i + 1) % interval == 0 ? LayerKind::kFull : LayerKind::kLinear);
    }
    return {};
  }
  if (static_cast<int64_t>(names->size()) != config.num_layers) {
    return error(ErrorCode::kInvalid, "{}: `{}` lists {} layers, but `{}` is {}", text.where(),
                 text.field("layer_types"), names->size(), text.field("num_hidden_layers"), config.num_layers);
  }
  for (const json::value& name : *names) {
    if (name == "linear_attention") {
      config.layer_types.push_back(LayerKind::kLinear);
    } else if (name == "full_attention") {
      config.layer_types.push_back(LayerKind::kFull);
    } else {
      return error(ErrorCode::kUnsupported,
                   "{}: `{}[{}]` is {}; only \"linear_attention\" and \"full_attention\" are "
                   "supported",
                   text.where(), text.field("layer_types"), config.layer_types.size(), boost::json::serialize(name));
    }
  }
  return {};
}

Status read_attention(const ConfigReader& text, bool moe, ModelConfig& config) {
  HYLAS_ASSIGN(config.heads, text.integer("num_attention_heads", 16, 1, kHeadsMax));
  HYLAS_ASSIGN(config.kv_heads, text.integer("num_key_value_heads", moe ? 2 : 4, 1, kHeadsMax));
  HYLAS_ASSIGN(config.head_dim, text.integer("head_dim", 256, 2, kHeadDimMax));
  if (config.heads % config.kv_heads != 0) {
    return not_divisible(text, "num_attention_heads", config.heads, "num_key_value_heads", config.kv_heads);
  }
  HYLAS_ASSIGN(config.max_position_embeddings, text.integer("max_position_embeddings", 262144, 1, kPositionsMax));
  return {};
}

Status read_delta_net(const ConfigReader& text, ModelConfig& config) {
  HYLAS_ASSIGN(config.linear_key_heads, text.integer("linear_num_key_heads", 16, 1, kHeadsMax));
  HYLAS_ASSIGN(config.linear_value_heads, text.integer("linear_num_value_heads", 32, 1, kHeadsMax));
  HYLAS_ASSIGN(config.linear_key_dim, text.integer("linear_key_head_dim", 128, 1, kHeadDimMax));
  HYLAS_ASSIGN(config.linear_value_dim, text.integer("linear_value_head_dim", 128, 1, kHeadDimMax));
  HYLAS_ASSIGN(config.conv_kernel, text.integer("linear_conv_kernel_dim", 4, 1, 64));
  if (config.linear_value_heads % config.linear_key_heads != 0) {
    return not_divisible(text, "linear_num_value_heads", config.linear_value_heads, "linear_num_key_heads",
                         config.linear_key_heads);
  }
  if (config.conv_kernel != 4) {
    return error(ErrorCode::kUnsupported, "{}: `{}` is {}; only 4 is supported", text.where(),
                 text.field("linear_conv_kernel_dim"), config.conv_kernel);
  }
  HYLAS_ASSIGN(const std::string state, text.text("mamba_ssm_dtype", "float32"));
  const std::optional<DType> dtype = parse_dtype(state);
  if (dtype != DType::kF32 && dtype != DType::kF16 && dtype != DType::kBF16) {
    return error(ErrorCode::kUnsupported, "{}: `{}` is \"{}\"; only float32, float16 and bfloat16 are supported",
                 text.where(), text.field("mamba_ssm_dtype"), state);
  }
  config.state_dtype = *dtype;
  return {};
}

Status read_feed_forward(const ConfigReader& text, bool moe, ModelConfig& config) {
  if (!moe) {
    HYLAS_ASSIGN(config.intermediate_size, text.integer("intermediate_size", 12288, 1, kWidthMax));
    return {};
  }
  HYLAS_ASSIGN(config.experts, text.integer("num_experts", 256, 1, kExpertsMax));
  HYLAS_ASSIGN(config.experts_per_token, text.integer("num_experts_per_tok", 8, 1, config.experts));
  HYLAS_ASSIGN(config.moe_intermediate_size, text.integer("moe_intermediate_size", 512, 1, kWidthMax));
  HYLAS_ASSIGN(config.shared_intermediate_size, text.integer("shared_expert_intermediate_size", 512, 1, kWidthMax));
  return {};
}

}  // namespace

Status read_text_fields(const ConfigReader& text, bool moe, ModelConfig& config) {
  HYLAS_TRY(require_variant(text));
  HYLAS_ASSIGN(config.vocab_size, text.integer("vocab_size", 248320, 1, kVocabMax));
  HYLAS_ASSIGN(config.hidden_size, text.integer("hidden_size", moe ? 2048 : 4096, 1, kWidthMax));
  HYLAS_ASSIGN(config.num_layers, text.integer("num_hidden_layers", moe ? 40 : 32, 1, kLayersMax));
  HYLAS_TRY(read_layer_types(text, config));
  HYLAS_TRY(read_attention(text, moe, config));
  HYLAS_TRY(read_delta_net(text, config));
  HYLAS_TRY(read_feed_forward(text, moe, config));
  HYLAS_ASSIGN(const double eps, text.number("rms_norm_eps", 1e-6, 0, 1));
  config.rms_eps = static_cast<float>(eps);
  HYLAS_ASSIGN(config.mtp_layers, text.integer("mtp_num_hidden_layers", 1, 0, kLayersMax));
  if (config.mtp_layers > 1) {
    return error(ErrorCode::kUnsupported, "{}: `{}` is {}; at most 1 is supported", text.where(),
                 text.field("mtp_num_hidden_layers"), config.mtp_layers);
  }
  return {};
}

}  // namespace hylas
