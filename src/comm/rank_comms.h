#pragma once
// RankComms: one rank's handles on all groups it belongs to (topology.h says who is in them).
#include <memory>
#include <vector>

#include "comm/comm.h"
#include "comm/expert_dispatch.h"
#include "comm/pipe.h"
#include "comm/topology.h"

namespace hylas {

// A handle is null where the group is the rank alone, except `moe`, which also adds up a lone rank's slices under EP.
struct RankComms {
  std::unique_ptr<Comm> stage;  // all tp ranks of the stage, by tp_rank
  std::unique_ptr<Comm> attn;   // the attention group, by attn_rank: they hold the same tokens
  std::unique_ptr<Comm> dp;     // the same attn_rank in every dp group, by dp_group
  std::unique_ptr<Comm> ep;     // the same moe_rank in every expert group, by ep_rank
  std::unique_ptr<Comm> moe;    // the ranks that share their experts, by moe_rank; only with ep > 1
  std::unique_ptr<Pipe> pipe;   // the same tp_rank in every stage, by stage
  // Of `ep`, where its ranks reach each other's memory without the host; otherwise null.
  std::unique_ptr<ExpertDispatch> experts;

  // Comm::sums_us of all groups.
  int64_t sums_us() const;
};

// The ranks of stages [stage_begin, stage_end) as threads of this process, by rank, without pipes.
std::vector<RankComms> make_local_stage_comms(const ParallelSizes& sizes, int32_t stage_begin, int32_t stage_end);
// All ranks in this process, pipes included.
std::vector<RankComms> make_local_comms_of_ranks(const ParallelSizes& sizes);

}  // namespace hylas
