#pragma once
// GraphRig: the ranks of an instance with steps that are written by hand, recorded for given numbers of rows or not.
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "comm/topology.h"
#include "engine/rank.h"

namespace hylas::test {

constexpr int32_t kRigSequences = 5;
constexpr int32_t kRigDispatchTokens = 128;

// Whether ranks have to share a GPU here: then nothing is recorded, and the host counts what goes to experts.
bool rig_shares_gpu(const ParallelSizes& sizes);

struct RigOptions {
  bool fp8_experts = false;  // on the GPU by the FP8 tensor cores
  bool dispatches = false;   // host memory goes to experts as GPUs' does that reach each other's (LocalDispatch)
};

class GraphRig {
 public:
  // Sequence s belongs to dp group s % dp. A rank sends kRigDispatchTokens to other ranks' experts at a time.
  GraphRig(const std::string& model_path, const std::vector<int32_t>& graph_rows, const ParallelSizes& sizes = {},
           const RigOptions& rig = {});

  void prefill(SequenceIndex sequence, int32_t tokens) { prefill({{sequence, tokens}}); }
  // Several prompts of so many tokens in one step.
  void prefill(const std::vector<std::pair<SequenceIndex, int32_t>>& prompts);
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
