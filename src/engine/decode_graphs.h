#pragma once
// DecodeGraphs: the few shapes that decode steps are padded to, so that a device can record a step of each shape once
// and replay it (Ops::replay).
#include <cstdint>
#include <span>
#include <vector>

#include "engine/batch_build.h"
#include "engine/step_plan.h"
#include "tensor/tensor.h"

namespace hylas {

struct DecodeGraph {
  StepShape shape;
  Tensor hidden;  // as they leave the stage                                              [rows, H]
  Tensor logits;  // [shape.rows, vocab] f32, of the last step
  uint64_t key() const { return static_cast<uint64_t>(shape.rows) << 32 | static_cast<uint32_t>(shape.pages); }
};

class DecodeGraphs {
 public:
  DecodeGraphs() = default;
  // A graph for each number of rows (ascending) and each width of the page table: from kPages on, each four times the
  // one before, up to `pages_max`.
  DecodeGraphs(std::span<const int32_t> rows, int32_t pages_max);

  std::span<DecodeGraph> all() { return graphs_; }
  // The smallest that a step of these rows fits in, which are those of all dp groups; `group_tokens`: how many tokens
  // each group has. The same for all groups, so that all take the same one. Null if there is none, or the step does
  // more than decode and sample.
  DecodeGraph* find(std::span<const PlanRow> rows, std::span<const int32_t> group_tokens, int32_t page_size);

 private:
  static constexpr int32_t kPages = 32;
  std::vector<DecodeGraph> graphs_;  // by rows, then by pages
};

// The numbers of rows that are recorded: `asked`, or a list that wastes at most a third of a step,
// none above `rows_max`. Ascending; the last one is `rows_max`, unless less was asked for.
std::vector<int32_t> decode_graph_rows(std::span<const int32_t> asked, int32_t rows_max);

}  // namespace hylas
