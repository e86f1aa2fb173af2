#pragma once
// Parts of parse_model_config, each for one subject of config.json.
#include "base/result.h"
#include "model/config.h"
#include "model/config_reader.h"

namespace hylas {

// Sizes, layer kinds, gates, head tying and MTP of the text model; `moe` picks the defaults.
Status read_text_fields(const ConfigReader& text, bool moe, ModelConfig& config);
// Rotary embedding; needs head_dim.
Status read_rope(const ConfigReader& text, ModelConfig& config);
// quantization_config, where `holder` has one.
Status read_quantization(const ConfigReader& holder, ModelConfig& config);

}  // namespace hylas
