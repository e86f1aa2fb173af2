#include "weights/checkpoint_index.h"

#include "base/json.h"

namespace hylas {

Result<std::map<std::string, std::string>> parse_checkpoint_index(std::string_view text, std::string_view where) {
  HYLAS_ASSIGN(const json::object root,
               json::parse_object(text, where, {.depth_max = 8, .bytes_max = size_t{256} << 20}));
  const auto weight_map = json::require_object(root, "weight_map");
  if (!weight_map.ok()) return error(ErrorCode::kInvalid, "{}: {}", where, weight_map.error().message);
  std::map<std::string, std::string> files;
  for (const auto& [name, entry] : **weight_map) {
    const boost::json::string* file = entry.if_string();
    if (!file || file->empty() || file->find('/') != file->npos || file->find('\0') != file->npos ||
        !std::string_view(*file).ends_with(".safetensors")) {
      return error(ErrorCode::kInvalid, "{}: `weight_map.{}` is {}; it must be the name of a .safetensors file", where,
                   std::string_view(name), boost::json::serialize(entry));
    }
    files.emplace(std::string(name), std::string(*file));
  }
  if (files.empty()) return error(ErrorCode::kInvalid, "{}: `weight_map` is empty", where);
  return files;
}

}  // namespace hylas
