#pragma once
// InstanceLayout: what an instance tells another one about the state that its ranks keep, so that sequences can move
// between them. Plain values; travels serialised (encode, decode).
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "cache/state_layout.h"
#include "comm/topology.h"

namespace hylas {

struct InstanceLayout {
  std::string model;    // for messages
  std::string weights;  // fingerprint of configuration and checkpoint: equal for equal models only
  int32_t page_size = 0;
  int64_t pages = 0;  // of a rank: the same on all
  int64_t slots = 0;  // of a rank
  ParallelSizes sizes;
  std::vector<StateLayout> ranks;  // [world]
};

std::string encode(const InstanceLayout& layout);
// kInvalid: not what encode() wrote, or numbers that make no sense (a rank without a layout, negative units, ...).
Result<InstanceLayout> decode_instance_layout(std::string_view bytes);

// Whether sequences of `prefill` can go on at `decode`, whatever the parallel layouts. kUnsupported: says what differs
// (model, page size, a kind's type or shape, layers or heads that one side lacks), with both values.
Status check_pair(const InstanceLayout& prefill, const InstanceLayout& decode);

}  // namespace hylas
