#include "comm/rank_comms.h"

#include <functional>
#include <map>

#include "comm/local.h"

namespace hylas {
namespace {

using Member = std::unique_ptr<Comm> RankComms::*;

// Ranks with the same key form a group, ordered by rank; all groups have `size` members.
void make_groups(const ParallelSizes& sizes, std::vector<RankComms>& ranks, int32_t rank_begin, int32_t size,
                 Member member, const std::function<int32_t(const RankPlace&)>& key) {
  std::map<int32_t, std::vector<RankComms*>> groups;
  for (size_t i = 0; i < ranks.size(); ++i) {
    const RankPlace place = place_of(sizes, rank_begin + static_cast<int32_t>(i));
    groups[place.stage * sizes.tp + key(place)].push_back(&ranks[i]);
  }
  for (auto& [ignored, group] : groups) {
    HYLAS_CHECK(static_cast<int32_t>(group.size()) == size);
    std::vector<std::unique_ptr<Comm>> comms = make_local_comms(size);
    for (size_t i = 0; i < group.size(); ++i) group[i]->*member = std::move(comms[i]);
  }
}

}  // namespace

int64_t RankComms::sums_us() const {
  int64_t sum = 0;
  for (const std::unique_ptr<Comm>* group : {&stage, &attn, &dp, &ep, &moe}) {
    if (*group) sum += (*group)->sums_us();
  }
  return sum;
}

std::vector<RankComms> make_local_stage_comms(const ParallelSizes& sizes, int32_t stage_begin, int32_t stage_end) {
  std::vector<RankComms> ranks((stage_end - stage_begin) * sizes.tp);
  const auto group = [&](int32_t size, bool wanted, Member member, auto key) {
    if (wanted) make_groups(sizes, ranks, stage_begin * sizes.tp, size, member, key);
  };
  group(sizes.tp, sizes.tp > 1, &RankComms::stage, [](const RankPlace&) { return 0; });
  group(sizes.attn_tp(), sizes.attn_tp() > 1, &RankComms::attn, [](const RankPlace& p) { return p.dp_group; });
  group(sizes.dp, sizes.dp > 1, &RankComms::dp, [](const RankPlace& p) { return p.attn_rank; });
  group(sizes.ep, sizes.ep > 1, &RankComms::ep, [](const RankPlace& p) { return p.moe_rank; });
  group(sizes.moe_tp(), sizes.ep > 1, &RankComms::moe, [](const RankPlace& p) { return p.ep_rank; });
  return ranks;
}

std::vector<RankComms> make_local_comms_of_ranks(const ParallelSizes& sizes) {
  std::vector<RankComms> ranks = make_local_stage_comms(sizes, 0, sizes.pp);
  for (int32_t tp_rank = 0; sizes.pp > 1 && tp_rank < sizes.tp; ++tp_rank) {
    std::vector<std::unique_ptr<Pipe>> pipes = make_local_pipes(sizes.pp);
    for (int32_t stage = 0; stage < sizes.pp; ++stage) ranks[stage * sizes.tp + tp_rank].pipe = std::move(pipes[stage]);
  }
  return ranks;
}

}  // namespace hylas
