#pragma once
// FakeRank: a rank without a model. Its "KV" is the token itself and its "state" a running hash, so the next token
// depends on every byte that a real one would read: a page or slot that was given to two sequences, lost in a swap or
// advanced twice changes the text. `expected_text` says what the text must be, from the request alone. It stands for
// the ranks of all dp groups and stages; a pipeline is the time between a plan and its result.
#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "engine/scheduler.h"

namespace hylas {

struct ExpectedText {
  std::vector<int32_t> tokens;
  FinishReason finish = FinishReason::kLength;
};
// Without grammar; `request.sampling.seed` is set.
ExpectedText expected_text(const Request& request, const SchedulerOptions& options);

class FakeRank {
 public:
  explicit FakeRank(const SchedulerOptions& options);
  // Executes one plan and checks what a rank relies on (HYLAS_CHECK: the process ends).
  StepResult execute(const StepPlan& plan);
  // What all ranks of a group send of a state, into another instance's memory.
  void send(const SendOp& op, FakeRank& to) const;
  // Nothing of any sequence is left.
  bool forgot_everything() const;

 private:
  struct Slot {
    uint64_t hash = 0;
    int32_t count = 0;
  };
  struct Swapped {
    std::vector<std::vector<int32_t>> pages;
    Slot slot;
  };
  struct Entry {
    SequenceStart start;
    int32_t last_token = -1;
  };

  void check(const StepPlan& plan) const;
  void swap(const SwapOp& op);
  RowResult run(const PlanRow& row);

  SchedulerOptions options_;
  struct Group {
    std::vector<std::vector<int32_t>> pages;  // [page][position in it]: the token
    std::vector<Slot> slots;
    std::map<uint64_t, Swapped> swapped;
    std::vector<std::vector<int32_t>> landing_pages;  // with landing memory: what others write
    std::vector<Slot> landing_slots;
  };
  void land(const LandOp& op);
  void check_pipeline(const StepPlan& plan);

  std::vector<Group> groups_;
  std::vector<uint64_t> sampled_in_;           // [sequence index]
  std::vector<std::optional<Entry>> entries_;  // [sequence index]
  uint64_t plans_ = 0;
};

}  // namespace hylas
