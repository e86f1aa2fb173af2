#pragma once
// StatePools: the bytes behind a StateLayout on one rank: pages for per-token kinds, slots for per-sequence kinds.
// Page and slot ids are handed out elsewhere (PagePool, SlotPool, by the scheduler); here is only memory.
#include <cstddef>
#include <span>

#include "base/result.h"
#include "cache/pool_blocks.h"
#include "cache/state_layout.h"
#include "tensor/device.h"
#include "tensor/tensor.h"

namespace hylas {

// Lifetime: `device` outlives it. One thread at a time: the rank's.
class StatePools {
 public:
  StatePools() = default;
  // Allocates everything, zeroed. kExhausted with the sizes when it does not fit.
  static Result<StatePools> make(Device& device, const StateLayout& layout, int64_t pages, int32_t page_size,
                                 int64_t slots);

  const StateLayout& layout() const { return layout_; }
  int64_t pages() const { return pages_; }
  int32_t page_size() const { return page_size_; }
  int64_t slots() const { return slots_; }
  // All of it, divided as pool_blocks() says. Device memory.
  void* memory() const { return memory_.data(); }
  size_t memory_bytes() const { return memory_.bytes(); }

  // Pages of one layer and segment: [pages, units, page_size, unit_elements]. `layer` is the global id.
  Tensor pages_of(const StateKind& kind, int32_t layer, int segment) const;
  // Slots of one layer, all segments side by side: [slots, layer_elements].
  Tensor slots_of(const StateKind& kind, int32_t layer) const;

  // Every per-sequence byte of slot `from` to slot `to`.
  void copy_slot(int32_t from, int32_t to);
  // Pages `from[i]` or a slot of pools of the same layout in host memory, to pages `to[i]` or slot `to` here: begun
  // (Device::copy_from_locked).
  void begin_pages_from(const StatePools& host, std::span<const int32_t> from, std::span<const int32_t> to);
  void begin_slot_from(const StatePools& host, int32_t from, int32_t to);
  // Bytes of one page or slot over all kinds and layers, gathered to or from host memory (retraction, checksums).
  size_t page_bytes() const;
  size_t slot_bytes() const;
  void read_page(int32_t page, void* host) const;
  void write_page(int32_t page, const void* host);
  void read_slot(int32_t slot, void* host) const;
  void write_slot(int32_t slot, const void* host);

 private:
  size_t kind_index(const StateKind& kind) const;
  std::byte* block(size_t kind, int32_t layer, size_t segment) const;
  template <class Visit>
  void for_pieces(StateScope scope, int32_t id, Visit visit) const;
  void begin_from(StateScope scope, const StatePools& host, std::span<const int32_t> from, std::span<const int32_t> to);
  void read(StateScope scope, int32_t id, void* host) const;
  void write(StateScope scope, int32_t id, const void* host);

  Device* device_ = nullptr;
  StateLayout layout_;
  int64_t pages_ = 0;
  int32_t page_size_ = 0;
  int64_t slots_ = 0;
  Buffer memory_;
  PoolBlocks blocks_;
};

}  // namespace hylas
