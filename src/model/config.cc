#include "model/config.h"

#include <algorithm>
#include <array>
#include <filesystem>

#include "base/json.h"
#include "base/text_file.h"
#include "model/config_parts.h"
#include "model/config_reader.h"

namespace hylas {
namespace {

struct Family {
  std::string_view model_type;
  bool nested;
  bool moe;
};
constexpr std::array kFamilies = {
    Family{"qwen3_5", true, false},
    Family{"qwen3_5_moe", true, true},
    Family{"qwen3_5_text", false, false},
    Family{"qwen3_5_moe_text", false, true},
};
constexpr std::array<std::string_view, 4> kArchitectures = {"Qwen3_5ForConditionalGeneration",
                                                            "Qwen3_5MoeForConditionalGeneration", "Qwen3_5ForCausalLM",
                                                            "Qwen3_5MoeForCausalLM"};

Error unsupported_model(std::string_view where, std::string_view field, std::string_view found) {
  return error(ErrorCode::kUnsupported,
               "{}: `{}` is \"{}\", which is not supported; hylas serves the Qwen3.5 architecture: model_type qwen3_5, "
               "qwen3_5_moe, qwen3_5_text or qwen3_5_moe_text with architectures {}",
               where, field, found, fmt::join(kArchitectures, ", "));
}

Status read_architecture(const ConfigReader& top, ModelConfig& config) {
  HYLAS_ASSIGN(const json::array* names, top.array("architectures"));
  if (!names || names->empty()) return {};
  const boost::json::string* name = names->front().if_string();
  if (!name) {
    const Error inner = json::wrong_kind("architectures[0]", "a string", names->front());
    return error(inner.code, "{}: {}", top.where(), inner.message);
  }
  config.architecture = std::string(name->data(), name->size());
  if (std::ranges::find(kArchitectures, config.architecture) == kArchitectures.end()) {
    return unsupported_model(top.where(), "architectures", config.architecture);
  }
  return {};
}

Result<Family> read_family(const ConfigReader& top, ModelConfig& config) {
  HYLAS_TRY(read_architecture(top, config));
  HYLAS_ASSIGN(config.model_type, top.text("model_type", ""));
  const auto* family = std::ranges::find(kFamilies, config.model_type, &Family::model_type);
  if (family == kFamilies.end()) return unsupported_model(top.where(), "model_type", config.model_type);
  return *family;
}

Status read_top_fields(const ConfigReader& top, const ConfigReader& text, ModelConfig& config) {
  HYLAS_ASSIGN(const bool text_tied, text.boolean("tie_word_embeddings", false));
  HYLAS_ASSIGN(config.tie_word_embeddings, top.boolean("tie_word_embeddings", text_tied));
  HYLAS_ASSIGN(config.eos_ids, text.integers("eos_token_id", config.vocab_size - 1));
  if (config.eos_ids.empty()) {
    HYLAS_ASSIGN(config.eos_ids, top.integers("eos_token_id", config.vocab_size - 1));
  }
  HYLAS_ASSIGN(const json::object* vision, top.object("vision_config"));
  HYLAS_ASSIGN(const bool text_only, top.boolean("language_model_only", false));
  config.has_vision = vision && !text_only;
  if (config.has_vision) {
    HYLAS_ASSIGN(config.image_token_id, top.integer("image_token_id", 248056, 0, config.vocab_size - 1));
    HYLAS_ASSIGN(config.video_token_id, top.integer("video_token_id", 248057, 0, config.vocab_size - 1));
  }
  return {};
}

// "dtype", or "torch_dtype" as older files call it, at either level.
Status read_dtype(const ConfigReader& top, const ConfigReader& text, ModelConfig& config) {
  for (const ConfigReader* level : {&text, &top}) {
    for (const char* key : {"dtype", "torch_dtype"}) {
      HYLAS_ASSIGN(const std::string name, level->text(key, ""));
      if (name.empty()) continue;
      const std::optional<DType> dtype = parse_dtype(name);
      if (dtype != DType::kBF16 && dtype != DType::kF32) {
        return error(ErrorCode::kUnsupported, "{}: `{}` is \"{}\"; weights are taken in bfloat16 or float32",
                     level->where(), level->field(key), name);
      }
      config.dtype = *dtype;
      return {};
    }
  }
  return {};
}

}  // namespace

Result<ModelConfig> parse_model_config_text(std::string_view text, std::string_view where) {
  HYLAS_ASSIGN(const json::object root, json::parse_object(text, where));
  const ConfigReader top(root, where);
  ModelConfig config;
  HYLAS_ASSIGN(const Family family, read_family(top, config));
  config.nested = family.nested;
  config.prefix = family.nested ? "model.language_model." : "model.";
  const json::object* text_object = &root;
  if (family.nested) {
    HYLAS_ASSIGN(text_object, top.object("text_config"));
    if (!text_object) {
      return error(ErrorCode::kInvalid, "{}: model_type \"{}\" requires a `text_config`", where, config.model_type);
    }
  }
  const ConfigReader fields = family.nested ? top.below("text_config", *text_object) : top;
  if (family.nested) {
    const std::string_view wanted = family.moe ? "qwen3_5_moe_text" : "qwen3_5_text";
    HYLAS_ASSIGN(const std::string text_type, fields.text("model_type", wanted));
    if (text_type != wanted) return unsupported_model(where, fields.field("model_type"), text_type);
  }
  HYLAS_TRY(read_text_fields(fields, family.moe, config));
  HYLAS_TRY(read_rope(fields, config));
  HYLAS_TRY(read_top_fields(top, fields, config));
  HYLAS_TRY(read_dtype(top, fields, config));
  HYLAS_TRY(read_quantization(top, config));
  if (family.nested) HYLAS_TRY(read_quantization(fields, config));
  return config;
}

Result<ModelConfig> parse_model_config(const std::string& path) {
  const bool directory = std::filesystem::is_directory(path);
  const std::string file = directory ? (std::filesystem::path(path) / "config.json").string() : path;
  HYLAS_ASSIGN(const std::string text, read_text_file(file));
  return parse_model_config_text(text, file);
}

}  // namespace hylas
