#include "cache/state_pools.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace hylas {

Result<StatePools> StatePools::make(Device& device, const StateLayout& layout, int64_t pages, int32_t page_size,
                                    int64_t slots) {
  StatePools pools;
  pools.device_ = &device;
  pools.layout_ = layout;
  pools.pages_ = pages;
  pools.page_size_ = page_size;
  pools.slots_ = slots;
  pools.blocks_ = pool_blocks(layout, pages, page_size, slots);
  const size_t end = pools.blocks_.bytes;
  Result<Buffer> memory = Buffer::make(device, end);
  if (!memory.ok()) {
    return error(memory.error().code, "{} pages of {} tokens and {} sequence slots need {} MiB: {}", pages, page_size,
                 slots, end >> 20, memory.error().message);
  }
  pools.memory_ = std::move(memory).value();
  return pools;
}

size_t StatePools::kind_index(const StateKind& kind) const {
  for (size_t index = 0; index < layout_.kinds.size(); ++index) {
    if (layout_.kinds[index].name == kind.name) return index;
  }
  check_failed("kind of this layout", __FILE__, __LINE__, kind.name);
}

std::byte* StatePools::block(size_t kind, int32_t layer, size_t segment) const {
  const StateKind& state = layout_.kinds[kind];
  auto found = std::find(state.layers.begin(), state.layers.end(), layer);
  HYLAS_CHECK(found != state.layers.end(), "layer {} has no {} on this rank", layer, state.name);
  const size_t index = block_index(state, found - state.layers.begin(), segment);
  return static_cast<std::byte*>(memory_.data()) + blocks_.kinds[kind][index].offset;
}

Tensor StatePools::pages_of(const StateKind& kind, int32_t layer, int segment) const {
  size_t index = kind_index(kind);
  const StateKind& state = layout_.kinds[index];
  HYLAS_CHECK(state.scope == StateScope::kPerToken, "{} lives in slots", state.name);
  HYLAS_CHECK(segment >= 0 && static_cast<size_t>(segment) < state.segments.size(), "{} of {}", segment, state.name);
  const StateSegment& piece = state.segments[segment];
  return Tensor(block(index, layer, segment), state.dtype, {pages_, piece.units, page_size_, piece.unit_elements});
}

Tensor StatePools::slots_of(const StateKind& kind, int32_t layer) const {
  size_t index = kind_index(kind);
  const StateKind& state = layout_.kinds[index];
  HYLAS_CHECK(state.scope == StateScope::kPerSequence, "{} lives in pages", state.name);
  return Tensor(block(index, layer, 0), state.dtype, {slots_, state.layer_elements()});
}

// visit(piece of the pools, its bytes) for every piece of one page or slot, in the layout's order.
template <class Visit>
void StatePools::for_pieces(StateScope scope, int32_t id, Visit visit) const {
  HYLAS_CHECK(id >= 0 && id < (scope == StateScope::kPerToken ? pages_ : slots_), "id {}", id);
  for (size_t kind = 0; kind < layout_.kinds.size(); ++kind) {
    if (layout_.kinds[kind].scope != scope) continue;
    for (const PoolBlock& block : blocks_.kinds[kind]) {
      visit(static_cast<std::byte*>(memory_.data()) + block.offset + block.stride * id, block.stride);
    }
  }
}

void StatePools::copy_slot(int32_t from, int32_t to) {
  HYLAS_CHECK(to >= 0 && to < slots_, "slot {}", to);
  for_pieces(StateScope::kPerSequence, from, [&](std::byte* piece, size_t bytes) {
    device_->copy(piece + static_cast<int64_t>(bytes) * (to - from), piece, bytes);
  });
}

// Ids that are neighbours in both pools go in one copy.
void StatePools::begin_from(StateScope scope, const StatePools& host, std::span<const int32_t> from,
                            std::span<const int32_t> to) {
  const auto below = [&](const StatePools& pools) {
    return scope == StateScope::kPerToken ? pools.pages_ : pools.slots_;
  };
  HYLAS_CHECK(from.size() == to.size(), "{} ids to {}", from.size(), to.size());
  std::vector<std::pair<int32_t, int32_t>> ids;  // here, there
  for (size_t i = 0; i < to.size(); ++i) {
    HYLAS_CHECK(to[i] >= 0 && to[i] < below(*this) && from[i] >= 0 && from[i] < below(host), "{} to {}", from[i],
                to[i]);
    ids.emplace_back(to[i], from[i]);
  }
  std::sort(ids.begin(), ids.end());
  for (size_t begin = 0, end = 0; begin < ids.size(); begin = end) {
    const auto [first, there] = ids[begin];
    for (end = begin + 1; end < ids.size(); ++end) {
      const auto next = static_cast<int32_t>(end - begin);
      if (ids[end] != std::pair(first + next, there + next)) break;
    }
    for (size_t kind = 0; kind < layout_.kinds.size(); ++kind) {
      if (layout_.kinds[kind].scope != scope) continue;
      for (size_t i = 0; i < blocks_.kinds[kind].size(); ++i) {
        const PoolBlock &mine = blocks_.kinds[kind][i], &its = host.blocks_.kinds[kind][i];
        device_->copy_from_locked(static_cast<std::byte*>(memory_.data()) + mine.offset + mine.stride * first,
                                  static_cast<const std::byte*>(host.memory_.data()) + its.offset + its.stride * there,
                                  mine.stride * (end - begin));
      }
    }
  }
}

void StatePools::begin_pages_from(const StatePools& host, std::span<const int32_t> from, std::span<const int32_t> to) {
  begin_from(StateScope::kPerToken, host, from, to);
}

void StatePools::begin_slot_from(const StatePools& host, int32_t from, int32_t to) {
  begin_from(StateScope::kPerSequence, host, {&from, 1}, {&to, 1});
}

size_t StatePools::page_bytes() const { return static_cast<size_t>(layout_.bytes_per_token()) * page_size_; }

size_t StatePools::slot_bytes() const { return static_cast<size_t>(layout_.bytes_per_sequence()); }

void StatePools::read(StateScope scope, int32_t id, void* host) const {
  auto* to = static_cast<std::byte*>(host);
  for_pieces(scope, id, [&](std::byte* piece, size_t bytes) {
    device_->copy_to_host(to, piece, bytes);
    to += bytes;
  });
}

void StatePools::write(StateScope scope, int32_t id, const void* host) {
  auto* from = static_cast<const std::byte*>(host);
  for_pieces(scope, id, [&](std::byte* piece, size_t bytes) {
    device_->copy_from_host(piece, from, bytes);
    from += bytes;
  });
}

void StatePools::read_page(int32_t page, void* host) const { read(StateScope::kPerToken, page, host); }
void StatePools::write_page(int32_t page, const void* host) { write(StateScope::kPerToken, page, host); }
void StatePools::read_slot(int32_t slot, void* host) const { read(StateScope::kPerSequence, slot, host); }
void StatePools::write_slot(int32_t slot, const void* host) { write(StateScope::kPerSequence, slot, host); }

}  // namespace hylas
