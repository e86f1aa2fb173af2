#pragma once
// Scheduler: decides what every rank does next. A plain deterministic class without threads: requests and results in,
// plans and outputs out. It knows counts and ids, never tensors.
//
// Rules, in one place:
//  - A plan has one decode row for every sequence that can decode, then prefill chunks for the rest of the step.
//  - Up to `plans_in_flight_max` plans are out at a time. A decode row is planned before the token it reads has come
//    back (the ranks know it); a token that overran a stop is discarded. Sequences with a grammar wait for their
//    tokens.
//  - With several pipeline stages a sequence decodes at most once in that many plans, and a plan takes no more than its
//    share of the decoding sequences: so the stages all have work, and none waits for a token that is still under way.
//  - Every dp group has its own pages, slots and prefill tokens. A sequence joins the group with the least work.
//  - The queue is first in, first out. Its head joins when there are pages for its prompt, a page to grow for everybody
//    who runs in its group, and a slot; nobody overtakes it.
//  - Out of pages: the youngest decoding sequence goes to host memory and to the queue's front. The oldest always
//    gets on, and one sequence alone always fits (check_request), so everybody ends.
//  - What an ended sequence holds is free again when no plan in flight names it, no part of it is on its way to another
//    instance, and no other instance may write there.
//  - With disaggregation: a prefilling instance sends the pages of a chunk with the plan that computes it, the slot
//    with the last one. A decoding instance reserves pages for the prompt and a slot, and waits for the state to land.
//  - Where a device's memory cannot be written by others, it also reserves host memory for the state to land in. The
//  next
//    plan copies it from there, and the host memory is free when every rank of the group has done that.
#include <algorithm>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <random>
#include <unordered_map>
#include <utility>
#include <vector>

#include "engine/engine.h"
#include "engine/request_check.h"
#include "engine/sequence.h"
#include "engine/sequence_memory.h"
#include "engine/step_cost.h"
#include "engine/step_plan.h"

namespace hylas {

// Memory that waits for the state of a request, which another instance computes: where that lands.
struct Reservation {
  RequestId id = 0;
  int32_t group = 0;
  int32_t slot = -1;
  std::vector<int32_t> pages;
};

// A sequence with a target is gone: all its parts were sent, or failed, and its memory is free.
struct Departure {
  RequestId id = 0;
  std::vector<SourceSum> sent;  // by rank
  std::string error;            // not everything was sent
};

// The first token of a sequence that another instance has prefilled.
struct FirstToken {
  OutputToken token;
  std::vector<OutputToken> prompt_logprobs;
  uint64_t seed = 0;  // of its draws
};

struct SchedulerOptions {
  InstanceRole role = InstanceRole::kWhole;
  int32_t group_ranks = 1;  // of one dp group, over all stages: each sends its part of a state
  int32_t stages = 1;       // of the pipeline
  int32_t groups = 1;       // dp groups
  int64_t pages = 0;        // of one group
  int32_t page_size = 64;
  int32_t slots = 0;  // sequences of one group that run at once
  // kDecode: of one group, where states land before they are copied; without, they land where they stay. Enough for the
  // longest prompt.
  int64_t landing_pages = 0;
  int32_t landing_slots = 0;
  int32_t context_length = 0;
  int32_t vocab_size = 0;
  int32_t prefill_tokens_max = 512;      // prompt tokens of one step and group, at least kChunkUnit
  bool enable_dynamic_chunking = false;  // prompts are cut so that chunks take equal time (prefill_policy.h)
  int32_t decode_rows_max = 0;           // of one step and group; 0 = no limit but the stages' shares
  int32_t plans_in_flight_max = 2;
  std::vector<int32_t> eos_ids;
  uint64_t seed = 0;  // of the seeds of requests that bring none

  int64_t longest_prompt_pages() const {
    return std::min<int64_t>(pages, (context_length + page_size - 1) / page_size);
  }
  RequestLimits limits() const { return {context_length, pages * page_size, vocab_size}; }
};

class Scheduler {
 public:
  explicit Scheduler(const SchedulerOptions& options);

  // `request` has passed check_request(options.limits()); ids are unique. With a target its first token is its last,
  // and its state goes there.
  void submit(RequestId id, Request request, std::optional<SendTarget> target = std::nullopt);
  // The last Output of a request that is neither finished nor unknown.
  std::optional<Output> abort(RequestId id);
  std::vector<Output> abort_all();
  // As abort, but it ends with an error.
  std::optional<Output> fail(RequestId id, const std::string& why, bool may_retry);

  // The next step; nothing when no work can be planned before a result or a request comes.
  std::optional<StepPlan> next_plan();
  // Results come in the order of the plans.
  std::vector<Output> on_result(StepResult result);

  // Known, and its last Output is not out.
  bool is_live(RequestId id) const;

  // Prefilling: a rank has sent its share of a part.
  void on_sent(const SentReport& report);
  std::vector<Departure> take_departures() { return std::exchange(departures_, {}); }
  // Decoding: the memory that was reserved since the last call. Nobody but the named instance writes there until the
  // state has landed, or nobody writes any more and the memory is free once the sequence has ended.
  std::vector<Reservation> take_reservations() { return std::exchange(reservations_, {}); }
  std::vector<Output> on_landed(RequestId id, FirstToken first);
  void on_not_landed(RequestId id);
  // A rank of the group: what had landed is on the device.
  void on_copied(RequestId id);

  // Nothing runs, waits or is in flight, and the ranks were told of every end.
  bool idle() const { return sequences_.empty() && in_flight_.empty() && ends_.empty() && drops_.empty(); }
  bool can_plan() const { return in_flight_.size() < static_cast<size_t>(options_.plans_in_flight_max); }
  EngineStats stats() const;  // all but the rate

 private:
  struct InFlight {
    uint64_t id;
    std::vector<Sequence*> sequences;  // of the plan's rows
    StepLoad load;                     // with dynamic chunking
  };

  std::vector<Sequence*> decoders(int32_t group) const;
  void plan_decode(StepPlan& plan);
  bool make_room(Sequence& sequence, StepPlan& plan);
  bool pages_are_coming(int32_t group) const;
  void retract(Sequence& sequence, StepPlan& plan);
  void plan_joins(StepPlan& plan);
  bool join(Sequence& sequence, StepPlan& plan);
  bool fits(const Sequence& sequence, int32_t group) const;
  int32_t choose_group(const Sequence& sequence) const;
  int64_t prefill_backlog(int32_t group) const;
  int32_t tokens_to_join(const Sequence& sequence) const;
  void plan_prefill(StepPlan& plan);
  void add_row(StepPlan& plan, Sequence& sequence, PlanRow row);

  void apply(Sequence& sequence, RowResult row, std::vector<Output>& outputs);
  void end(Sequence& sequence);
  void retire(Sequence& sequence);
  void retire_if_free(Sequence& sequence);
  void plan_send(StepPlan& plan, Sequence& sequence);
  void reserve(Sequence& sequence);

  SchedulerOptions options_;
  std::vector<SequenceMemory> memory_;  // [group]
  std::mt19937_64 seeds_;
  std::unordered_map<RequestId, std::unique_ptr<Sequence>> sequences_;
  std::deque<Sequence*> queue_;      // kRetracted first, then kQueued; oldest first in both
  std::vector<Sequence*> running_;   // kPrefill and kDecode, oldest first
  std::vector<Sequence*> by_index_;  // [index]: who has it
  std::deque<InFlight> in_flight_;
  std::vector<SequenceIndex> ends_;  // for the next plan
  std::vector<SwapOp> drops_;        // for the next plan
  std::vector<LandOp> lands_;        // for the next plan
  std::vector<Departure> departures_;
  std::vector<Reservation> reservations_;
  uint64_t plans_ = 0;
  uint64_t arrivals_ = 0;
  EngineStats totals_;
  StepCostModel step_cost_;
};

}  // namespace hylas
