#pragma once
// TokenFeed: how the first stage of a pipeline learns what the last one sampled. The last stage sends the tokens of
// each plan down the pipe; the first takes them when a row needs them, or when they are known to have been sent.
#include <cstdint>
#include <deque>
#include <span>
#include <vector>

#include "comm/pipe.h"
#include "engine/step_plan.h"

namespace hylas {

// Not thread-safe: the first stage's rank thread. `pipe` outlives it.
class TokenFeed {
 public:
  TokenFeed() = default;
  TokenFeed(Pipe& pipe, int32_t last_stage, int32_t sequences_max);

  // [sequence index]: input of the decode rows in `rows`, which may wait for the last stage. Then takes note of what
  // `rows`, of plan `id`, will sample. `known` as in StepPlan.
  std::span<const int32_t> resolve(uint64_t id, uint64_t known, std::span<const PlanRow> rows);
  // Takes what is still to come: no more plans follow, and a message that nobody reads would keep a remote pipe open.
  void finish() { take_until(UINT64_MAX); }
  // Microseconds that resolve() waited so far.
  int64_t wait_us() const { return wait_us_; }

 private:
  struct Sampled {
    uint64_t plan;
    std::vector<SequenceIndex> sequences;  // in the order of the plan's rows
  };
  void take_until(uint64_t plan);

  Pipe* pipe_ = nullptr;
  int32_t last_stage_ = 0;
  std::deque<Sampled> coming_;           // by plan
  std::vector<uint64_t> sampled_in_;     // [sequence index]: the last plan that samples for it
  std::vector<int32_t> last_tokens_;     // [sequence index]
  int64_t wait_us_ = 0;
};

// What the last stage sends: the token of every row that sampled, in order; 0 for a row without one (-1), whose
// sequence has ended.
void send_sampled(Pipe& pipe, std::span<const RowResult> rows);

}  // namespace hylas
