#pragma once
// SequenceMemory: who holds which pages, slot and index of one dp group. Ids only: the ranks' pools hold the bytes.
#include <cstdint>

#include "cache/id_pool.h"
#include "engine/sequence.h"

namespace hylas {

// Not thread-safe: the scheduler's. Every id that a Sequence holds was handed out here and comes back here.
class SequenceMemory {
 public:
  // Sequence indices are [group * slots, (group + 1) * slots).
  SequenceMemory(int64_t pages, int32_t page_size, int32_t slots, int32_t group = 0);
  // States of others land in memory of their own: so much of it.
  void add_landing(int64_t pages, int32_t slots);

  int64_t pages_for(int32_t tokens) const { return (tokens + page_size_ - 1) / page_size_; }
  // Pages that a running sequence may soon ask for: at most one, none if it holds all it will ever need.
  int64_t growth_pages(const Sequence& sequence) const;
  // Whether a waiting sequence can join with pages for `tokens` positions while `spare_pages` stay free.
  bool can_join(const Sequence& sequence, int32_t tokens, int64_t spare_pages) const;

  // Whether the state of `tokens` positions can land now. Always, where it lands in a sequence's own memory.
  bool can_land(int32_t tokens) const;

  // Pages for `tokens` positions, a slot and an index for a queued sequence: can_join said yes.
  void join(Sequence& sequence, int32_t tokens);
  // Memory where the state of a sequence that has joined lands: can_land said yes.
  void begin_landing(Sequence& sequence, int32_t tokens);
  // Back, if there is some.
  void end_landing(Sequence& sequence);
  // Pages so that `tokens` positions are covered; false and no change if too few are free.
  bool grow(Sequence& sequence, int32_t tokens);
  // Pages and slot are free at once: swaps come before the rows of a plan.
  SwapOp swap_out(Sequence& sequence);
  // New pages for `tokens` positions and a new slot: can_join said yes. The swap names those that have content.
  SwapOp swap_in(Sequence& sequence, int32_t tokens);
  // Pages and slot back. The index stays taken until the ranks were told (give_back_index).
  void release(Sequence& sequence);
  void give_back_index(SequenceIndex index) { indices_.give_back(index - index_begin_); }

  const IdPool& pages() const { return pages_; }
  const IdPool& slots() const { return slots_; }
  const IdPool& indices() const { return indices_; }
  bool has_landing() const { return landing_slots_.size() > 0; }
  const IdPool& landing_pages() const { return landing_pages_; }
  const IdPool& landing_slots() const { return landing_slots_; }

 private:
  std::vector<int32_t> computed_pages(const Sequence& sequence) const;
  void take_pages(Sequence& sequence, int32_t tokens);

  int32_t page_size_;
  int32_t group_;
  SequenceIndex index_begin_;
  IdPool pages_;
  IdPool slots_;
  IdPool indices_;
  IdPool landing_pages_{"landing page", 0};
  IdPool landing_slots_{"landing slot", 0};
  uint64_t swap_keys_ = 0;
};

}  // namespace hylas
