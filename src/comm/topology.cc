#include "comm/topology.h"

namespace hylas {

Status check_sizes(const ParallelSizes& s) {
  const auto positive = [](const char* flag, int32_t value) -> Status {
    if (value >= 1) return {};
    return error(ErrorCode::kUnsupported, "{} must be at least 1, not {}", flag, value);
  };
  HYLAS_TRY(positive("--tp-size", s.tp));
  HYLAS_TRY(positive("--pp-size", s.pp));
  HYLAS_TRY(positive("--ep-size", s.ep));
  HYLAS_TRY(positive("--dp-size", s.dp));
  HYLAS_TRY(positive("--nnodes", s.nodes));
  if ((s.tp & (s.tp - 1)) != 0) {
    return error(ErrorCode::kUnsupported,
                 "--tp-size {} must be a power of two: partial sums are added by a binary tree", s.tp);
  }
  if (s.tp % s.dp != 0) {
    return error(ErrorCode::kUnsupported,
                 "--dp-size {} must divide --tp-size {}: attention is split over tp / dp ranks", s.dp, s.tp);
  }
  if (s.tp % s.ep != 0) {
    return error(ErrorCode::kUnsupported,
                 "--ep-size {} must divide --tp-size {}: each expert is split over tp / ep ranks", s.ep, s.tp);
  }
  if (s.pp % s.nodes != 0) {
    return error(ErrorCode::kUnsupported, "--nnodes {} must divide --pp-size {}: a stage's ranks share a node", s.nodes,
                 s.pp);
  }
  return {};
}

RankPlace place_of(const ParallelSizes& s, int32_t rank) {
  HYLAS_CHECK(rank >= 0 && rank < s.world(), "rank {} of {}", rank, s.world());
  RankPlace place;
  place.rank = rank;
  place.node = rank / (s.world() / s.nodes);
  place.stage = rank / s.tp;
  place.tp_rank = rank % s.tp;
  place.dp_group = place.tp_rank / s.attn_tp();
  place.attn_rank = place.tp_rank % s.attn_tp();
  place.ep_rank = place.tp_rank / s.moe_tp();
  place.moe_rank = place.tp_rank % s.moe_tp();
  return place;
}

std::string describe(const ParallelSizes& s) {
  std::string text =
      fmt::format("tp {} x pp {} = {} ranks on {} node(s); attention tp {} x dp {}; experts ep {} x tp {}", s.tp, s.pp,
                  s.world(), s.nodes, s.attn_tp(), s.dp, s.ep, s.moe_tp());
  for (int32_t rank = 0; rank < s.world(); ++rank) {
    const RankPlace p = place_of(s, rank);
    text += fmt::format("\n  rank {:>3}: node {} stage {} dp {} attn {} ep {} moe {}", rank, p.node, p.stage,
                        p.dp_group, p.attn_rank, p.ep_rank, p.moe_rank);
  }
  return text;
}

}  // namespace hylas
