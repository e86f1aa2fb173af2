#pragma once
// HashedFill: what a device that makes weights up itself is asked for.
#include <cstdint>

namespace hylas {

// Made-up weights (weights/dummy_fill.h): element i is table[sum of the four bytes of hash32(seed + i * 0x9e3779b1)].
struct HashedFill {
  static constexpr int kTable = 4 * 255 + 1;
  void* out = nullptr;
  int64_t count = 0;
  int element_bytes = 2;  // 1: the low byte of a table's entry
  uint32_t seed = 0;
  const uint16_t* table = nullptr;  // [kTable], in host memory
};

}  // namespace hylas
