#include "transfer/landing.h"

#include <set>
#include <utility>

namespace hylas {

uint64_t bytes_needed(const InstanceLayout& layout, int32_t group, int64_t pages, bool slot) {
  uint64_t bytes = 0;
  for (int32_t rank = 0; rank < layout.sizes.world(); ++rank) {
    if (place_of(layout.sizes, rank).dp_group != group) continue;
    const StateLayout& state = layout.ranks[rank];
    bytes += static_cast<uint64_t>(state.bytes_per_token() * layout.page_size * pages);
    if (slot) bytes += static_cast<uint64_t>(state.bytes_per_sequence());
  }
  return bytes;
}

Landing::Landing(InstanceLayout from, InstanceLayout to, std::vector<const void*> memory)
    : from_(std::move(from)), to_(std::move(to)), memory_(std::move(memory)) {}

// A source that nobody mentions would go unnoticed if only those mentioned were looked at: all bytes are counted.
Status Landing::check_sources(const Grant& grant, const std::vector<SourceSum>& sources) const {
  std::set<int32_t> ranks, groups;
  uint64_t bytes = 0;
  for (const SourceSum& source : sources) {
    if (source.rank < 0 || source.rank >= from_.sizes.world()) {
      return error(ErrorCode::kInvalid, "there is no prefill rank {}", source.rank);
    }
    if (!ranks.insert(source.rank).second) {
      return error(ErrorCode::kInvalid, "prefill rank {} is named twice", source.rank);
    }
    if (source.bytes == 0) continue;
    groups.insert(place_of(from_.sizes, source.rank).dp_group);
    bytes += source.bytes;
  }
  if (groups.size() > 1) return error(ErrorCode::kInvalid, "ranks of {} dp groups wrote", groups.size());
  const uint64_t needed = bytes_needed(to_, grant.group, std::ssize(grant.pages), grant.slot >= 0);
  if (bytes != needed) return error(ErrorCode::kInvalid, "{} bytes were written of {}", bytes, needed);
  return {};
}

Status Landing::check(const Grant& grant, const std::vector<SourceSum>& sources) {
  HYLAS_TRY(check_sources(grant, sources));
  const TransferPart part{.first_page = 0,
                          .from_pages = grant.pages,  // not looked at here
                          .to_pages = grant.pages,
                          .from_slot = grant.slot,
                          .to_slot = grant.slot};
  for (const SourceSum& source : sources) {
    if (source.bytes == 0) continue;
    const TransferPlan& its = plan(source.rank, grant.group);
    if (bytes_of(its, part) != source.bytes) {
      return error(ErrorCode::kInvalid, "prefill rank {} wrote {} bytes of {}", source.rank, source.bytes,
                   bytes_of(its, part));
    }
    if (landed_sum(its, part, memory_) != source.sum) {
      return error(ErrorCode::kIo, "the {} bytes of prefill rank {} arrived damaged", source.bytes, source.rank);
    }
  }
  return {};
}

const TransferPlan& Landing::plan(int32_t from_rank, int32_t to_group) {
  const auto [found, is_new] = plans_.try_emplace({from_rank, to_group});
  if (is_new) found->second = transfer_plan(from_, from_rank, to_, to_group);
  return found->second;
}

}  // namespace hylas
