// quantization_config of config.json (model.md sections 1 and 3.5).
#include "model/config_parts.h"

namespace hylas {

Status read_quantization(const ConfigReader& holder, ModelConfig& config) {
  HYLAS_ASSIGN(const json::object* found, holder.object("quantization_config"));
  if (!found) return {};
  const ConfigReader fields = holder.below("quantization_config", *found);
  const auto require = [&](std::string_view key, std::string_view wanted) -> Status {
    HYLAS_ASSIGN(const std::string value, fields.text(key, wanted));
    if (value == wanted) return {};
    return error(ErrorCode::kUnsupported,
                 "{}: `{}` is \"{}\"; the only quantised checkpoints supported are fp8, e4m3, "
                 "with dynamic activation scales and blocks of 128 x 128",
                 fields.where(), fields.field(key), value);
  };
  if (!fields.has("quant_method")) {
    return error(ErrorCode::kUnsupported, "{}: `{}` is missing; only \"fp8\" is supported", fields.where(),
                 fields.field("quant_method"));
  }
  HYLAS_TRY(require("quant_method", "fp8"));
  HYLAS_TRY(require("fmt", "e4m3"));
  HYLAS_TRY(require("activation_scheme", "dynamic"));
  HYLAS_ASSIGN(const std::vector<int32_t> block, fields.integers("weight_block_size", 1 << 20));
  if (block != std::vector<int32_t>{128, 128}) {
    return error(ErrorCode::kUnsupported, "{}: `{}` is [{}]; only [128, 128] is supported", fields.where(),
                 fields.field("weight_block_size"), fmt::join(block, ", "));
  }
  config.quantised = true;
  return {};
}

}  // namespace hylas
