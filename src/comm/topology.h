#pragma once
// Topology: which rank holds which part of the model, as one pure function of the parallel sizes.
#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"

namespace hylas {

// The command line's sizes, SGLang's meaning: a stage has tp ranks; attention is split over attn_tp = tp / dp of them
// and replicated over dp groups of sequences; experts are split over ep groups, each over moe_tp = tp / ep ranks.
struct ParallelSizes {
  int32_t tp = 1;
  int32_t pp = 1;
  int32_t ep = 1;
  int32_t dp = 1;
  int32_t nodes = 1;

  int32_t world() const { return tp * pp; }
  int32_t attn_tp() const { return tp / dp; }
  int32_t moe_tp() const { return tp / ep; }
};

// kUnsupported with the numbers when the sizes do not divide. Model shapes are checked in model/sharding.h.
Status check_sizes(const ParallelSizes& sizes);

// Where one rank stands. rank = stage * tp + tp_rank; tp_rank = dp_group * attn_tp + attn_rank
//                                                            = ep_rank * moe_tp + moe_rank.
struct RankPlace {
  int32_t rank = 0;
  int32_t node = 0;
  int32_t stage = 0;
  int32_t tp_rank = 0;
  int32_t dp_group = 0;
  int32_t attn_rank = 0;
  int32_t ep_rank = 0;
  int32_t moe_rank = 0;
};
RankPlace place_of(const ParallelSizes& sizes, int32_t rank);

// One line per rank, for the log at start.
std::string describe(const ParallelSizes& sizes);

}  // namespace hylas
