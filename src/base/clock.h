#pragma once
// Time in microseconds. Thread-safe.
#include <chrono>
#include <cstdint>

namespace hylas {

// Monotonic, for durations and deadlines; its zero means nothing.
inline int64_t now_us() {
  auto since_start = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::microseconds>(since_start).count();
}

// Microseconds since 1970-01-01 UTC, for what people and clients read; it may jump.
inline int64_t wall_clock_us() {
  auto since_epoch = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::microseconds>(since_epoch).count();
}

}  // namespace hylas
