#include "engine/sequence_memory.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace hylas {

SequenceMemory::SequenceMemory(int64_t pages, int32_t page_size, int32_t slots, int32_t group)
    : page_size_(page_size),
      group_(group),
      index_begin_(group * slots),
      pages_("page", pages),
      slots_("slot", slots),
      indices_("sequence index", slots) {}

void SequenceMemory::add_landing(int64_t pages, int32_t slots) {
  landing_pages_ = IdPool("landing page", pages);
  landing_slots_ = IdPool("landing slot", slots);
}

bool SequenceMemory::can_land(int32_t tokens) const {
  return !has_landing() || (landing_slots_.available() > 0 && pages_for(tokens) <= landing_pages_.available());
}

void SequenceMemory::begin_landing(Sequence& sequence, int32_t tokens) {
  HYLAS_CHECK(sequence.landing_slot < 0 && sequence.landing_pages.empty());
  sequence.landing_slot = landing_slots_.take();
  for (int64_t page = pages_for(tokens); page > 0; --page) sequence.landing_pages.push_back(landing_pages_.take());
}

void SequenceMemory::end_landing(Sequence& sequence) {
  landing_pages_.give_back(sequence.landing_pages);
  sequence.landing_pages.clear();
  if (sequence.landing_slot >= 0) landing_slots_.give_back(std::exchange(sequence.landing_slot, -1));
}

int64_t SequenceMemory::growth_pages(const Sequence& sequence) const {
  const auto held = static_cast<int64_t>(sequence.pages.size());
  return std::clamp<int64_t>(pages_for(sequence.tokens_final()) - held, 0, 1);
}

bool SequenceMemory::can_join(const Sequence& sequence, int32_t tokens, int64_t spare_pages) const {
  const bool has_index = sequence.index >= 0 || indices_.available() > 0;
  return has_index && slots_.available() > 0 && pages_for(tokens) + spare_pages <= pages_.available();
}

void SequenceMemory::join(Sequence& sequence, int32_t tokens) {
  HYLAS_CHECK(sequence.index < 0 && sequence.slot < 0 && sequence.pages.empty());
  sequence.group = group_;
  sequence.index = index_begin_ + indices_.take();
  sequence.slot = slots_.take();
  take_pages(sequence, tokens);
}

bool SequenceMemory::grow(Sequence& sequence, int32_t tokens) {
  const int64_t missing = pages_for(tokens) - static_cast<int64_t>(sequence.pages.size());
  if (missing > pages_.available()) return false;
  take_pages(sequence, tokens);
  return true;
}

SwapOp SequenceMemory::swap_out(Sequence& sequence) {
  HYLAS_CHECK(sequence.slot >= 0 && sequence.swap_key == 0);
  sequence.swap_key = ++swap_keys_;
  SwapOp swap{SwapOp::Direction::kOut, sequence.swap_key, computed_pages(sequence), sequence.slot, group_};
  release(sequence);
  return swap;
}

SwapOp SequenceMemory::swap_in(Sequence& sequence, int32_t tokens) {
  HYLAS_CHECK(sequence.slot < 0 && sequence.swap_key != 0);
  sequence.slot = slots_.take();
  take_pages(sequence, tokens);
  return {SwapOp::Direction::kIn, std::exchange(sequence.swap_key, 0), computed_pages(sequence), sequence.slot, group_};
}

void SequenceMemory::release(Sequence& sequence) {
  pages_.give_back(sequence.pages);
  sequence.pages.clear();
  if (sequence.slot >= 0) slots_.give_back(std::exchange(sequence.slot, -1));
}

std::vector<int32_t> SequenceMemory::computed_pages(const Sequence& sequence) const {
  return {sequence.pages.begin(), sequence.pages.begin() + pages_for(sequence.computed)};
}

void SequenceMemory::take_pages(Sequence& sequence, int32_t tokens) {
  while (static_cast<int64_t>(sequence.pages.size()) < pages_for(tokens)) sequence.pages.push_back(pages_.take());
}

}  // namespace hylas
