#pragma once
// GraphRig: the ranks of an instance with steps that are written by hand, recorded for given numbers of rows or not.
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "comm/topology.h"
#include "engine/rank.h"

namespace hylas::test {

constexpr int32_t kRigSequences = 5;

// Why the machine has no such ranks; empty: it has.
std::string why_no_rig(const ParallelSizes& sizes);

class GraphRig {
 public:
  // Sequence s belongs to dp group s % dp. On the GPU every rank needs one of its own.
  GraphRig(const std::string& model_path, const std::vector<int32_t>& graph_rows, const ParallelSizes& sizes = {});

  void prefill(SequenceIndex sequence, int32_t tokens);
  // One token of each, in one step.
  void decode(const std::vector<SequenceIndex>& sequences);
  // Of each sequence: tokens and the bits of their logprobs.
  std::map<SequenceIndex, std::vector<uint32_t>> said;

 private:
  PlanRow row_of(SequenceIndex sequence, int32_t tokens) const;
  void execute(StepPlan& plan);

  int32_t groups_;
  std::vector<std::unique_ptr<Rank>> ranks_;
  std::map<SequenceIndex, int32_t> lengths_;
  uint64_t plans_ = 0;
};

}  // namespace hylas::test
