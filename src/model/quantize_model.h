#pragma once
// A whole model directory in BF16 or F32 to one in FP8 blocks: weights, config.json, and the other files as they are.
#include <string>

#include "base/result.h"
#include "weights/checkpoint.h"

namespace hylas {

// `out_dir` is made if need be and must be empty. kInvalid: the model is quantised already, or `out_dir` holds
// something.
Status quantize_model(const std::string& model_dir, const std::string& out_dir, int threads,
                      const LoadProgress& progress);

}  // namespace hylas
