#pragma once
// model.safetensors.index.json: which shard holds which tensor.
#include <map>
#include <string>
#include <string_view>

#include "base/result.h"

namespace hylas {

// Tensor name to file name; file names are plain names in the index's own directory. `where` names the index in errors.
Result<std::map<std::string, std::string>> parse_checkpoint_index(std::string_view text, std::string_view where);

}  // namespace hylas
