#include "app/default_sampling.h"

#include "model/generation_config.h"

namespace hylas {
namespace {

Status set(float& into, std::optional<double> value, const char* name, double low, double high) {
  if (!value) return {};
  if (!(*value >= low && *value <= high)) {
    return error(ErrorCode::kInvalid, "generation_config.json: {} must be from {} to {}, not {}", name, low, high,
                 *value);
  }
  into = float(*value);
  return {};
}

}  // namespace

Result<SamplingParams> default_sampling(const std::string& model_path) {
  HYLAS_ASSIGN(GenerationConfig config, parse_generation_config(model_path));
  SamplingParams sampling;
  HYLAS_TRY(set(sampling.temperature, config.temperature, "temperature", 0, 100));
  if (config.do_sample == false) sampling.temperature = 0;
  HYLAS_TRY(set(sampling.top_p, config.top_p, "top_p", 1e-6, 1));
  HYLAS_TRY(set(sampling.min_p, config.min_p, "min_p", 0, 1));
  HYLAS_TRY(set(sampling.repetition_penalty, config.repetition_penalty, "repetition_penalty", 1e-6, 2));
  HYLAS_TRY(set(sampling.presence_penalty, config.presence_penalty, "presence_penalty", -2, 2));
  HYLAS_TRY(set(sampling.frequency_penalty, config.frequency_penalty, "frequency_penalty", -2, 2));
  if (config.top_k && *config.top_k > 0) sampling.top_k = *config.top_k;  // 0 is Hugging Face's "all"
  return sampling;
}

}  // namespace hylas
