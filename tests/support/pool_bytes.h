#pragma once
// A small layout with a kind of each scope, and what a page or a slot of its pools holds.
#include <cstddef>
#include <vector>

#include "cache/state_pools.h"

namespace hylas::test {

inline StateLayout two_kinds_layout() {
  return {{{.name = "kv", .scope = StateScope::kPerToken, .layers = {3, 7}, .segments = {{"k", 2, 4}, {"v", 2, 4}}},
           {.name = "delta", .scope = StateScope::kPerSequence, .layers = {0, 1}, .segments = {{"s", 2, 8}}}}};
}

inline std::vector<std::byte> page_of(const StatePools& pools, int32_t id) {
  std::vector<std::byte> bytes(pools.page_bytes());
  pools.read_page(id, bytes.data());
  return bytes;
}
inline std::vector<std::byte> slot_of(const StatePools& pools, int32_t id) {
  std::vector<std::byte> bytes(pools.slot_bytes());
  pools.read_slot(id, bytes.data());
  return bytes;
}

}  // namespace hylas::test
