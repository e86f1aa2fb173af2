#include "model/generation_config.h"

#include <filesystem>

#include "base/json.h"
#include "base/text_file.h"
#include "model/config_reader.h"

namespace hylas {
namespace {

constexpr int32_t kIdMax = 1 << 22;

Status read_number(const ConfigReader& file, std::string_view key, double min, double max, std::optional<double>& out) {
  if (!file.has(key)) return {};
  HYLAS_ASSIGN(out, file.number(key, 0, min, max));
  return {};
}

}  // namespace

Result<GenerationConfig> parse_generation_config_text(std::string_view text, std::string_view where) {
  HYLAS_ASSIGN(const json::object root, json::parse_object(text, where));
  const ConfigReader file(root, where);
  GenerationConfig config;
  HYLAS_ASSIGN(config.eos_ids, file.integers("eos_token_id", kIdMax));
  if (file.has("do_sample")) {
    HYLAS_ASSIGN(config.do_sample, file.boolean("do_sample", false));
  }
  if (file.has("top_k")) {  // 0 and -1 mean no limit
    HYLAS_ASSIGN(config.top_k, file.integer("top_k", 0, -1, kIdMax));
  }
  HYLAS_TRY(read_number(file, "temperature", 0, 1e3, config.temperature));
  HYLAS_TRY(read_number(file, "top_p", 0, 1, config.top_p));
  HYLAS_TRY(read_number(file, "min_p", 0, 1, config.min_p));
  HYLAS_TRY(read_number(file, "repetition_penalty", 1e-3, 1e3, config.repetition_penalty));
  HYLAS_TRY(read_number(file, "presence_penalty", -2, 2, config.presence_penalty));
  HYLAS_TRY(read_number(file, "frequency_penalty", -2, 2, config.frequency_penalty));
  return config;
}

Result<GenerationConfig> parse_generation_config(const std::string& dir) {
  const std::string file = (std::filesystem::path(dir) / "generation_config.json").string();
  Result<std::string> text = read_text_file(file);
  if (!text.ok() && text.error().code == ErrorCode::kNotFound) return GenerationConfig{};
  HYLAS_TRY(text);
  return parse_generation_config_text(*text, file);
}

}  // namespace hylas
