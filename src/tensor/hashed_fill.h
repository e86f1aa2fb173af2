#pragma once
// HashedFill: what a device that makes weights up itself is asked for.
#include <cstdint>

namespace hylas {

// Made-up weights (weights/dummy_fill.h): element i of the matrix is table[sum of the four bytes of hash32(seed + i *
// 0x9e3779b1)]. `out` is a window of it, rows of `columns` one behind the other: out[r][c] is element first + r * pitch
// + c.
struct HashedFill {
  static constexpr int kTable = 4 * 255 + 1;
  void* out = nullptr;
  int64_t rows = 0;
  int64_t columns = 0;
  int64_t pitch = 0;      // of the matrix
  uint32_t first = 0;     // no element's index reaches 2^32
  int element_bytes = 2;  // 1: the low byte of a table's entry
  uint32_t seed = 0;
  const uint16_t* table = nullptr;  // [kTable], in host memory
};

}  // namespace hylas
