#pragma once
// Safetensors bytes written by hand, so that they can lie.
#include <cstdint>
#include <string>

namespace hylas::test {

inline std::string raw_safetensors(const std::string& header, size_t data_bytes) {
  const uint64_t length = header.size();
  return std::string(reinterpret_cast<const char*>(&length), sizeof(length)) + header + std::string(data_bytes, '\1');
}

}  // namespace hylas::test
