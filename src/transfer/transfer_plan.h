#pragma once
// Transfer plan: which bytes of which rank go where, when a sequence moves from one instance to another. A pure
// function of the two layouts: pairs by global layer id, segment and head, so any parallel layout maps onto any other.
#include <cstdint>
#include <span>
#include <vector>

#include "transfer/instance_layout.h"
#include "transfer/link.h"

namespace hylas {

// Bytes that lie together on both sides within one page (per-token kinds) or one slot (per-sequence kinds). Offsets are
// into the memory of the rank's StatePools.
struct CopyRun {
  int32_t to_rank = 0;
  uint64_t from_offset = 0, to_offset = 0;  // of page or slot 0
  uint64_t from_stride = 0, to_stride = 0;  // from one page or slot to the next
  uint64_t bytes = 0;
};

struct TransferPlan {
  std::vector<CopyRun> pages;  // per page
  std::vector<CopyRun> slot;   // once
};

// What `from_rank` sends when a sequence goes to dp group `to_group`. check_pair() has passed. Where several ranks hold
// the same bytes (replicated KV heads) one of them is elected per receiver, spread evenly; every receiver is written.
TransferPlan transfer_plan(const InstanceLayout& from, int32_t from_rank, const InstanceLayout& to, int32_t to_group);

// A part of one sequence's state. Page `from_pages[i]` of the sender goes to `to_pages[i]`, the first of them the
// sequence's page number `first_page`. A slot below 0: no per-sequence state in this part.
struct TransferPart {
  int32_t first_page = 0;
  std::vector<int32_t> from_pages, to_pages;
  int32_t from_slot = -1, to_slot = -1;
};

// The writes of a part: `memory` is the start of the sending rank's pools; regions of the peer are its ranks.
std::vector<Write> writes_of(const TransferPlan& plan, const TransferPart& part, const void* memory);

// What arrived, from the receiver's side: the sum over the same bytes that the sender's writes had (Link::put), read
// from the receiving ranks' pools, `memory[rank]` being their starts. Equal sums: every byte is in its place.
uint64_t landed_sum(const TransferPlan& plan, const TransferPart& part, std::span<const void* const> memory);
// Bytes of a part.
uint64_t bytes_of(const TransferPlan& plan, const TransferPart& part);

}  // namespace hylas
