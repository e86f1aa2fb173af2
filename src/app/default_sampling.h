#pragma once
// What requests are sampled with that do not say: the checkpoint's generation_config.json.
#include "base/result.h"
#include "engine/request.h"

namespace hylas {

// kInvalid: a value out of its range; names the field and the file.
Result<SamplingParams> default_sampling(const std::string& model_path);

}  // namespace hylas
