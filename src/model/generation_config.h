#pragma once
// Sampling defaults and stop tokens of a checkpoint: generation_config.json.
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hylas {

// A field that the file lacks is empty. Values are as written; the engine checks the sum of these and the request's.
struct GenerationConfig {
  std::vector<int32_t> eos_ids;
  std::optional<bool> do_sample;  // false: greedy unless the request says otherwise
  std::optional<double> temperature;
  std::optional<int32_t> top_k;
  std::optional<double> top_p;
  std::optional<double> min_p;
  std::optional<double> repetition_penalty;
  std::optional<double> presence_penalty;
  std::optional<double> frequency_penalty;
};

// `dir`/generation_config.json; without the file, every field is empty. kInvalid names the field and the file.
Result<GenerationConfig> parse_generation_config(const std::string& dir);
Result<GenerationConfig> parse_generation_config_text(std::string_view text, std::string_view where);

}  // namespace hylas
