#pragma once
// StateLayout: the one table of what a sequence keeps between steps. Pools, memory budget, prefix cache, transfer and
// resharding read this table; nothing asks what kind of model it is.
#include <cstdint>
#include <string>
#include <vector>

#include "tensor/dtype.h"

namespace hylas {

enum class StateScope : uint8_t {
  kPerToken,     // grows with the sequence, lives in pages
  kPerSequence,  // fixed size, lives in a slot
};

// A piece of one layer's state that is split over ranks by whole units (heads), never across segments: conv state is
// three segments q | k | v, KV is two, k | v.
struct StateSegment {
  std::string name;
  int64_t units = 0;          // units on this rank
  int64_t unit_elements = 0;  // elements of one unit (per token for kPerToken, in all for kPerSequence)
  int64_t unit_begin = 0;     // global number of its first unit: which heads these are
};

struct StateKind {
  std::string name;  // "kv", "delta", "conv", "mtp_kv"
  StateScope scope = StateScope::kPerToken;
  std::vector<int32_t> layers;  // global layer ids that this rank holds, ascending; MTP layers count on from num_layers
  std::vector<StateSegment> segments;
  bool replicated = false;  // every rank of the group holds the same bytes; one elected rank writes
  DType dtype = DType::kF32;

  int64_t layer_elements() const {
    int64_t total = 0;
    for (const StateSegment& segment : segments) total += segment.units * segment.unit_elements;
    return total;
  }
  // Bytes of all layers: per token or per slot.
  int64_t bytes() const {
    return layer_elements() * dtype_bytes(dtype) * static_cast<int64_t>(layers.size());
  }
};

struct StateLayout {
  std::vector<StateKind> kinds;

  int64_t bytes_per_token() const { return bytes(StateScope::kPerToken); }
  int64_t bytes_per_sequence() const { return bytes(StateScope::kPerSequence); }
  const StateKind* find(const std::string& name) const {
    for (const StateKind& kind : kinds) {
      if (kind.name == name) return &kind;
    }
    return nullptr;
  }

 private:
  int64_t bytes(StateScope scope) const {
    int64_t total = 0;
    for (const StateKind& kind : kinds) total += kind.scope == scope ? kind.bytes() : 0;
    return total;
  }
};

}  // namespace hylas
