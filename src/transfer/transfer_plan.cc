#include "transfer/transfer_plan.h"

#include <algorithm>
#include <optional>

#include "base/check.h"
#include "cache/pool_blocks.h"

namespace hylas {
namespace {

// One segment of one layer in the pools of one rank.
struct Piece {
  uint64_t offset = 0, stride = 0;  // of page or slot 0; from one page or slot to the next
  uint64_t unit_bytes = 0;
  int64_t unit_begin = 0, unit_end = 0;

  bool holds(int64_t unit) const { return unit >= unit_begin && unit < unit_end; }
  uint64_t offset_of(int64_t unit) const { return offset + static_cast<uint64_t>(unit - unit_begin) * unit_bytes; }
};

// The pools of one rank, to look pieces up in.
class RankPools {
 public:
  RankPools(const InstanceLayout& instance, int32_t rank)
      : place_(place_of(instance.sizes, rank)),
        page_size_(instance.page_size),
        layout_(instance.ranks[rank]),
        blocks_(pool_blocks(layout_, instance.pages, instance.page_size, instance.slots)) {}

  const RankPlace& place() const { return place_; }
  const StateLayout& layout() const { return layout_; }

  std::optional<Piece> find(const std::string& name, int32_t layer, size_t segment) const {
    const StateKind* kind = layout_.find(name);
    if (kind == nullptr) return std::nullopt;
    const auto found = std::lower_bound(kind->layers.begin(), kind->layers.end(), layer);
    if (found == kind->layers.end() || *found != layer) return std::nullopt;
    const size_t index = block_index(*kind, found - kind->layers.begin(), segment);
    const PoolBlock& block = blocks_.kinds[kind - layout_.kinds.data()][index];
    const StateSegment& mine = kind->segments[segment];
    Piece piece{.offset = block.offset,
                .stride = block.stride,
                .unit_bytes = static_cast<uint64_t>(mine.unit_elements) * dtype_bytes(kind->dtype),
                .unit_begin = mine.unit_begin,
                .unit_end = mine.unit_begin + mine.units};
    if (kind->scope == StateScope::kPerToken) {
      piece.unit_bytes *= page_size_;
      return piece;
    }
    for (size_t s = 0; s < segment; ++s) {
      piece.offset +=
          static_cast<uint64_t>(kind->segments[s].units * kind->segments[s].unit_elements) * dtype_bytes(kind->dtype);
    }
    return piece;
  }

 private:
  RankPlace place_;
  int32_t page_size_;
  const StateLayout& layout_;
  PoolBlocks blocks_;
};

std::vector<RankPools> pools_of_group(const InstanceLayout& instance, int32_t group) {
  std::vector<RankPools> pools;
  for (int32_t rank = 0; rank < instance.sizes.world(); ++rank) {
    if (place_of(instance.sizes, rank).dp_group == group) pools.emplace_back(instance, rank);
  }
  return pools;
}

// Neighbours on both sides become one run.
void append(std::vector<CopyRun>& runs, const CopyRun& run) {
  if (!runs.empty()) {
    CopyRun& last = runs.back();
    if (last.to_rank == run.to_rank && last.from_stride == run.from_stride && last.to_stride == run.to_stride &&
        last.from_offset + last.bytes == run.from_offset && last.to_offset + last.bytes == run.to_offset &&
        last.bytes + run.bytes <= run.from_stride && last.bytes + run.bytes <= run.to_stride) {
      last.bytes += run.bytes;
      return;
    }
  }
  runs.push_back(run);
}

// The units of one segment of one layer that `sender` is to write into `to`. `turn` spreads replicas over the senders.
void add_units(const std::vector<std::pair<int32_t, Piece>>& senders, int32_t sender, int32_t to_rank, const Piece& to,
               size_t turn, std::vector<CopyRun>& runs) {
  for (int64_t unit = to.unit_begin; unit < to.unit_end; ++unit) {
    std::vector<const std::pair<int32_t, Piece>*> holders;
    for (const auto& holder : senders) {
      if (holder.second.holds(unit)) holders.push_back(&holder);
    }
    HYLAS_CHECK(!holders.empty(), "nobody holds unit {}: check_pair refuses such a pair", unit);
    const auto& [rank, from] = *holders[turn % holders.size()];
    if (rank != sender) continue;
    append(runs, {.to_rank = to_rank,
                  .from_offset = from.offset_of(unit),
                  .to_offset = to.offset_of(unit),
                  .from_stride = from.stride,
                  .to_stride = to.stride,
                  .bytes = to.unit_bytes});
  }
}

// Pages carry their number in the sequence; the highest bit tells slots from pages.
uint64_t page_identity(size_t run, int64_t page) {
  return static_cast<uint64_t>(run) << 32 | static_cast<uint64_t>(page);
}
uint64_t slot_identity(size_t run) { return uint64_t{1} << 63 | static_cast<uint64_t>(run) << 32; }

// visit(run, identity, index into the part's pages, or -1 for the slot)
template <class Visit>
void for_writes(const TransferPlan& plan, const TransferPart& part, size_t pages, bool slot, Visit visit) {
  for (size_t run = 0; run < plan.pages.size(); ++run) {
    for (size_t i = 0; i < pages; ++i) {
      visit(plan.pages[run], page_identity(run, part.first_page + static_cast<int64_t>(i)), static_cast<int64_t>(i));
    }
  }
  for (size_t run = 0; slot && run < plan.slot.size(); ++run) visit(plan.slot[run], slot_identity(run), int64_t{-1});
}

}  // namespace

TransferPlan transfer_plan(const InstanceLayout& from, int32_t from_rank, const InstanceLayout& to, int32_t to_group) {
  const std::vector<RankPools> senders = pools_of_group(from, place_of(from.sizes, from_rank).dp_group);
  TransferPlan plan;
  for (const RankPools& receiver : pools_of_group(to, to_group)) {
    for (const StateKind& kind : receiver.layout().kinds) {
      std::vector<CopyRun>& runs = kind.scope == StateScope::kPerToken ? plan.pages : plan.slot;
      for (size_t i = 0; i < kind.layers.size(); ++i) {
        for (size_t s = 0; s < kind.segments.size(); ++s) {
          std::vector<std::pair<int32_t, Piece>> holders;
          for (const RankPools& sender : senders) {
            if (const auto piece = sender.find(kind.name, kind.layers[i], s)) {
              holders.emplace_back(sender.place().rank, *piece);
            }
          }
          const Piece piece = *receiver.find(kind.name, kind.layers[i], s);
          add_units(holders, from_rank, receiver.place().rank, piece, receiver.place().attn_rank + i + s, runs);
        }
      }
    }
  }
  return plan;
}

std::vector<Write> writes_of(const TransferPlan& plan, const TransferPart& part, const void* memory) {
  HYLAS_CHECK(part.from_pages.size() == part.to_pages.size(), "{} pages to {}", part.from_pages.size(),
              part.to_pages.size());
  HYLAS_CHECK((part.from_slot < 0) == (part.to_slot < 0), "slot {} to {}", part.from_slot, part.to_slot);
  std::vector<Write> writes;
  const bool slot = part.from_slot >= 0;
  writes.reserve(plan.pages.size() * part.from_pages.size() + (slot ? plan.slot.size() : 0));
  for_writes(plan, part, part.from_pages.size(), slot, [&](const CopyRun& run, uint64_t identity, int64_t page) {
    const int64_t from = page < 0 ? part.from_slot : part.from_pages[page];
    const int64_t to = page < 0 ? part.to_slot : part.to_pages[page];
    writes.push_back({.from = static_cast<const std::byte*>(memory) + run.from_offset + run.from_stride * from,
                      .region = run.to_rank,
                      .offset = run.to_offset + run.to_stride * to,
                      .bytes = run.bytes,
                      .identity = identity});
  });
  return writes;
}

uint64_t landed_sum(const TransferPlan& plan, const TransferPart& part, std::span<const void* const> memory) {
  uint64_t sum = 0;
  for_writes(plan, part, part.to_pages.size(), part.to_slot >= 0,
             [&](const CopyRun& run, uint64_t identity, int64_t page) {
               const int64_t to = page < 0 ? part.to_slot : part.to_pages[page];
               const auto* start = static_cast<const std::byte*>(memory[run.to_rank]);
               sum += write_sum(start + run.to_offset + run.to_stride * to, run.bytes, identity);
             });
  return sum;
}

uint64_t bytes_of(const TransferPlan& plan, const TransferPart& part) {
  uint64_t bytes = 0;
  for_writes(plan, part, part.to_pages.size(), part.to_slot >= 0,
             [&](const CopyRun& run, uint64_t, int64_t) { bytes += run.bytes; });
  return bytes;
}

}  // namespace hylas
