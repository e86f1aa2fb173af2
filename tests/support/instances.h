#pragma once
// Instances as the tests of state transfer see them: layouts of the layout models over parallel sizes, and their pools.
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/byte_io.h"
#include "cache/state_pools.h"
#include "model/decoder.h"
#include "model/partition.h"
#include "support/layout_models.h"
#include "transfer/instance_layout.h"
#include "transfer/transfer_plan.h"

namespace hylas::test {

struct InstanceOf {
  LayoutModel model;
  ParallelSizes sizes;
  DType act = DType::kBF16, kv = DType::kBF16, state = DType::kF32;
  bool with_mtp = false;
  int32_t page_size = 4;
  int64_t pages = 7, slots = 3;
};

inline InstanceLayout layout_of(const InstanceOf& instance) {
  const ModelConfig config = parse_model_config(layout_model_path(instance.model)).value();
  const std::vector<int32_t> begins = balance(estimate_costs(config), instance.sizes.pp).value();
  InstanceLayout layout{.model = instance.model.name(),
                        .weights = "made up",
                        .page_size = instance.page_size,
                        .pages = instance.pages,
                        .slots = instance.slots,
                        .sizes = instance.sizes,
                        .ranks = {}};
  for (int32_t rank = 0; rank < instance.sizes.world(); ++rank) {
    DecoderOptions options{.act = instance.act, .kv = instance.kv, .state = instance.state};
    options.with_mtp = instance.with_mtp;
    options.shard = {instance.sizes, place_of(instance.sizes, rank)};
    options.layer_begin = begins[options.shard.place.stage];
    options.layer_end = begins[options.shard.place.stage + 1];
    layout.ranks.push_back(state_layout(config, options));
  }
  return layout;
}

// tp {1, 2, 4} x pp {1, 2, 3, 4} x dp {1, 2}.
inline std::vector<ParallelSizes> every_layout() {
  std::vector<ParallelSizes> all;
  for (const int32_t tp : {1, 2, 4}) {
    for (const int32_t pp : {1, 2, 3, 4}) {
      for (const int32_t dp : {1, 2}) {
        if (tp % dp == 0) all.push_back({.tp = tp, .pp = pp, .dp = dp});
      }
    }
  }
  return all;
}

// The memory of an instance's ranks.
class InstancePools {
 public:
  explicit InstancePools(const InstanceLayout& layout) : layout_(layout) {
    for (const StateLayout& rank : layout.ranks) {
      pools_.push_back(StatePools::make(*device_, rank, layout.pages, layout.page_size, layout.slots).value());
    }
  }

  StatePools& rank(int32_t rank) { return pools_[rank]; }
  std::byte* memory(int32_t rank) const { return static_cast<std::byte*>(pools_[rank].memory()); }
  std::vector<const void*> memory() const {
    std::vector<const void*> all;
    for (const StatePools& pools : pools_) all.push_back(pools.memory());
    return all;
  }
  std::vector<Region> regions() const {
    std::vector<Region> all;
    for (const StatePools& pools : pools_) all.push_back({pools.memory(), pools.memory_bytes()});
    return all;
  }

  // visit(bytes of one head, of one position for per-token kinds; a number that names it: kind, layer, segment, head
  // and position) for what the ranks of `group` keep of the sequence in these pages and this slot.
  template <class Visit>
  void for_heads(int32_t group, const std::vector<int32_t>& pages, int32_t slot, Visit visit) const {
    for (int32_t rank = 0; rank < layout_.sizes.world(); ++rank) {
      if (place_of(layout_.sizes, rank).dp_group != group) continue;
      for (const StateKind& kind : layout_.ranks[rank].kinds) {
        for (int32_t layer : kind.layers) for_heads_of(rank, kind, layer, pages, slot, visit);
      }
    }
  }

 private:
  template <class Visit>
  void for_heads_of(int32_t rank, const StateKind& kind, int32_t layer, const std::vector<int32_t>& pages, int32_t slot,
                    Visit visit) const {
    size_t before = 0;  // bytes of the segments before, in a slot
    for (size_t s = 0; s < kind.segments.size(); ++s) {
      const StateSegment& segment = kind.segments[s];
      const size_t bytes = segment.unit_elements * dtype_bytes(kind.dtype);
      for (int64_t unit = 0; unit < segment.units; ++unit) {
        const uint64_t head = checksum(fmt::format("{} {} {} {}", kind.name, layer, s, segment.unit_begin + unit));
        if (kind.scope == StateScope::kPerSequence) {
          const Tensor row = pools_[rank].slots_of(kind, layer).rows(slot, 1);
          visit(std::span(static_cast<std::byte*>(row.data) + before + unit * bytes, bytes), head);
          continue;
        }
        for (size_t page = 0; page < pages.size(); ++page) {
          const Tensor all = pools_[rank].pages_of(kind, layer, static_cast<int>(s)).rows(pages[page], 1);
          for (int32_t t = 0; t < layout_.page_size; ++t) {
            visit(std::span(static_cast<std::byte*>(all.data) + (unit * layout_.page_size + t) * bytes, bytes),
                  head + (page * layout_.page_size + t) * 0x9e3779b97f4a7c15u);
          }
        }
      }
      before += segment.units * bytes;
    }
  }

  InstanceLayout layout_;
  std::unique_ptr<Device> device_ = make_cpu_device();
  std::vector<StatePools> pools_;
};

// The bytes of the head that `name` names.
inline std::byte byte_of(uint64_t name, size_t i) {
  return static_cast<std::byte>(((name + i) * 0xff51afd7ed558ccdu) >> 40);
}
inline void fill(std::span<std::byte> head, uint64_t name) {
  for (size_t i = 0; i < head.size(); ++i) head[i] = byte_of(name, i);
}
inline bool holds(std::span<const std::byte> head, uint64_t name) {
  for (size_t i = 0; i < head.size(); ++i) {
    if (head[i] != byte_of(name, i)) return false;
  }
  return true;
}

}  // namespace hylas::test
