// Rotary embedding fields of config.json (model.md sections 1 and 3.1).
#include "model/config_parts.h"

namespace hylas {
namespace {

// `rope_parameters`; older files have `rope_scaling`, the earliest neither.
Result<ConfigReader> rope_object(const ConfigReader& text, const json::object& none) {
  for (const char* key : {"rope_parameters", "rope_scaling"}) {
    HYLAS_ASSIGN(const json::object* found, text.object(key));
    if (found) return text.below(key, *found);
  }
  return text.below("rope_parameters", none);
}

Status read_sections(const ConfigReader& rope, RopeConfig& out) {
  const int32_t pairs = out.rotary_dim / 2;
  HYLAS_ASSIGN(const std::vector<int32_t> sections, rope.integers("mrope_section", pairs));
  if (sections.empty()) {  // [11, 11, 10] of 32 pairs; the same proportion of another number
    out.sections[1] = (pairs + 1) / 3;
    out.sections[2] = pairs / 3;
    out.sections[0] = pairs - out.sections[1] - out.sections[2];
    return {};
  }
  if (sections.size() != 3 || sections[0] + sections[1] + sections[2] != pairs) {
    return error(ErrorCode::kInvalid,
                 "{}: `{}` is [{}]; it must be three numbers with the sum {}, half of the rotated "
                 "dimensions of a head",
                 rope.where(), rope.field("mrope_section"), fmt::join(sections, ", "), pairs);
  }
  for (int i = 0; i < 3; ++i) out.sections[i] = sections[i];
  return {};
}

}  // namespace

Status read_rope(const ConfigReader& text, ModelConfig& config) {
  const json::object none;
  HYLAS_ASSIGN(const ConfigReader rope, rope_object(text, none));
  HYLAS_ASSIGN(const std::string old_type, rope.text("type", "default"));
  HYLAS_ASSIGN(const std::string type, rope.text("rope_type", old_type));
  if (type != "default" && type != "mrope") {
    return error(ErrorCode::kUnsupported,
                 "{}: `{}` is \"{}\"; only \"default\" is supported: without scaling the model "
                 "serves up to {} tokens",
                 rope.where(), rope.field("rope_type"), type, config.max_position_embeddings);
  }
  HYLAS_ASSIGN(const bool interleaved, rope.boolean("mrope_interleaved", true));
  if (!interleaved) {
    return error(ErrorCode::kUnsupported, "{}: `{}` is false; only interleaved sections are supported", rope.where(),
                 rope.field("mrope_interleaved"));
  }
  HYLAS_ASSIGN(const double outer_theta, text.number("rope_theta", 1e7, 1, 1e12));
  HYLAS_ASSIGN(const double theta, rope.number("rope_theta", outer_theta, 1, 1e12));
  HYLAS_ASSIGN(const double outer_factor, text.number("partial_rotary_factor", 0.25, 0, 1));
  HYLAS_ASSIGN(const double factor, rope.number("partial_rotary_factor", outer_factor, 0, 1));
  config.rope.theta = static_cast<float>(theta);
  config.rope.rotary_dim = static_cast<int32_t>(config.head_dim * factor);
  if (config.rope.rotary_dim < 2 || config.rope.rotary_dim % 2 != 0) {
    return error(ErrorCode::kInvalid,
                 "{}: `{}` {} of `head_dim` {} rotates {} dimensions; it must be an even number of "
                 "them",
                 rope.where(), rope.field("partial_rotary_factor"), factor, config.head_dim, config.rope.rotary_dim);
  }
  return read_sections(rope, config.rope);
}

}  // namespace hylas
