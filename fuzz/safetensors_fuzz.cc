// Safetensors headers, and indexes of shards: any bytes give tensors inside the file, or an error.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "weights/checkpoint_index.h"
#include "weights/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const auto tensors = hylas::parse_safetensors_header(bytes, size, "fuzz");
  if (tensors.ok()) {
    size_t total = 0;
    for (const auto& [name, info] : *tensors) {
      if (info.offset > size || info.bytes > size - info.offset) std::abort();
      total += info.bytes;
    }
    if (total > size) std::abort();  // they would overlap
  }
  const auto index = hylas::parse_checkpoint_index(bytes, "fuzz");
  if (index.ok()) {
    for (const auto& [name, file] : *index) {
      if (file.find('/') != file.npos) std::abort();
    }
  }
  return 0;
}
