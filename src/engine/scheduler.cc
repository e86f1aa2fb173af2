#include "engine/scheduler.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "base/check.h"
#include "engine/plan_rows.h"
#include "engine/prefill_policy.h"

namespace hylas {
namespace {

std::vector<int32_t> stop_ids(const SamplingParams& sampling, const std::vector<int32_t>& eos_ids) {
  std::vector<int32_t> ids = sampling.stop_token_ids;
  if (!sampling.ignore_eos) ids.insert(ids.end(), eos_ids.begin(), eos_ids.end());
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

Output last_output(const Sequence& sequence, FinishReason reason) {
  Output output;
  output.id = sequence.id;
  output.finish = reason;
  return output;
}

bool is_older(const Sequence* a, const Sequence* b) { return a->arrival < b->arrival; }

}  // namespace

Scheduler::Scheduler(const SchedulerOptions& options)
    : options_(options), seeds_(options.seed), by_index_(options.slots * options.groups, nullptr) {
  HYLAS_CHECK(options.prefill_tokens_max >= kChunkUnit, "{} prefill tokens a step", options.prefill_tokens_max);
  HYLAS_CHECK(options.plans_in_flight_max >= 1 && options.slots >= 1 && options.pages >= 1);
  HYLAS_CHECK(options.stages >= 1 && options.groups >= 1);
  HYLAS_CHECK(options.landing_slots == 0 || options.landing_pages >= options.longest_prompt_pages(), "{} landing pages",
              options.landing_pages);
  for (int32_t group = 0; group < options.groups; ++group) {
    memory_.emplace_back(options.pages, options.page_size, options.slots, group);
    if (options.landing_slots > 0) memory_.back().add_landing(options.landing_pages, options.landing_slots);
  }
}

void Scheduler::submit(RequestId id, Request request, std::optional<SendTarget> target) {
  Status status = check_request(request, options_.limits());
  HYLAS_CHECK(status.ok(), "{}", status.error().message);
  auto sequence = std::make_unique<Sequence>();
  sequence->id = id;
  sequence->arrival = ++arrivals_;
  sequence->request = std::move(request);
  sequence->target = std::move(target);
  SamplingParams& sampling = sequence->request.sampling;
  if (!sampling.seed) sampling.seed = seeds_();
  const int32_t room = sequence_tokens_max(options_.limits()) - sequence->prompt_tokens();
  sequence->samples_max = sequence->target ? 1 : std::min(sampling.max_new_tokens, room);
  sequence->stop_ids = stop_ids(sampling, options_.eos_ids);
  ++totals_.requests_total;
  queue_.push_back(sequence.get());
  bool is_new = sequences_.emplace(id, std::move(sequence)).second;
  HYLAS_CHECK(is_new, "request {} came twice", id);
}

std::optional<Output> Scheduler::abort(RequestId id) {
  auto found = sequences_.find(id);
  if (found == sequences_.end() || found->second->phase == SequencePhase::kEnded) return std::nullopt;
  Output output = last_output(*found->second, FinishReason::kAbort);
  ++totals_.aborted_total;
  end(*found->second);
  return output;
}

std::optional<Output> Scheduler::fail(RequestId id, const std::string& why, bool may_retry) {
  std::optional<Output> output = abort(id);
  if (!output) return std::nullopt;
  output->finish = FinishReason::kError;
  output->error = why;
  output->may_retry = may_retry;
  return output;
}

std::vector<Output> Scheduler::abort_all() {
  std::vector<RequestId> ids;
  for (const auto& [id, sequence] : sequences_) ids.push_back(id);
  std::sort(ids.begin(), ids.end());
  std::vector<Output> outputs;
  for (RequestId id : ids) {
    if (std::optional<Output> output = abort(id)) outputs.push_back(*std::move(output));
  }
  return outputs;
}

std::optional<StepPlan> Scheduler::next_plan() {
  if (!can_plan()) return std::nullopt;
  StepPlan plan;
  plan.ends = std::exchange(ends_, {});
  plan.swaps = std::exchange(drops_, {});
  plan.lands = std::exchange(lands_, {});
  for (SequenceIndex index : plan.ends) memory_[index / options_.slots].give_back_index(index);
  plan.id = plans_ + 1;
  plan.known = in_flight_.empty() ? plans_ : in_flight_.front().id - 1;
  in_flight_.push_back({plan.id, {}, {}});
  const uint64_t retractions = totals_.retractions_total;
  plan_decode(plan);
  if (totals_.retractions_total == retractions) plan_joins(plan);
  plan_prefill(plan);
  if (plan.rows.empty() && plan.ends.empty() && plan.swaps.empty() && plan.lands.empty()) {
    HYLAS_CHECK(plan.starts.empty());
    in_flight_.pop_back();
    return std::nullopt;
  }
  ++plans_;
  if (options_.enable_dynamic_chunking) in_flight_.back().load = load_of(plan.rows, options_.groups);
  plan.lane = static_cast<int32_t>(plan.id % options_.plans_in_flight_max);
  if (!plan.rows.empty()) ++totals_.steps_total;
  return plan;
}

void Scheduler::plan_decode(StepPlan& plan) {
  for (int32_t group = 0; group < options_.groups; ++group) {
    for (Sequence* sequence : decoders(group)) {
      // A sequence that was retracted for an older one is not decodable any more.
      if (sequence->decodable() && make_room(*sequence, plan)) {
        add_row(plan, *sequence, decode_row(*sequence, options_.vocab_size));
      }
    }
  }
}

// Who decodes in this plan, oldest first. With several stages: those whose last token has reached the first stage by
// the time that the plan does, the longest waiting ones first, and no more than this plan's share of all.
std::vector<Sequence*> Scheduler::decoders(int32_t group) const {
  std::vector<Sequence*> chosen;
  int64_t decoding = 0;
  for (Sequence* sequence : running_) {
    if (sequence->group != group || sequence->phase != SequencePhase::kDecode || sequence->fully_planned()) continue;
    ++decoding;
    const bool known = sequence->samples_known == sequence->samples_planned;
    const bool arrives = plans_ + 1 - sequence->sampled_in >= static_cast<uint64_t>(options_.stages);
    if (sequence->decodable() && (known || arrives)) chosen.push_back(sequence);
  }
  int64_t share = (decoding + options_.stages - 1) / options_.stages;
  if (options_.decode_rows_max > 0) share = std::min<int64_t>(share, options_.decode_rows_max);
  if (static_cast<int64_t>(chosen.size()) <= share) return chosen;
  std::stable_sort(chosen.begin(), chosen.end(),
                   [](const Sequence* a, const Sequence* b) { return a->sampled_in < b->sampled_in; });
  chosen.resize(share);
  std::sort(chosen.begin(), chosen.end(), is_older);
  return chosen;
}

// A page for the sequence's next position, if need be from the youngest of its group. False: it has to wait, or was
// itself retracted.
bool Scheduler::make_room(Sequence& sequence, StepPlan& plan) {
  while (!memory_[sequence.group].grow(sequence, sequence.computed + 1)) {
    if (pages_are_coming(sequence.group)) return false;
    auto youngest = std::find_if(running_.rbegin(), running_.rend(), [&](const Sequence* other) {
      return other->group == sequence.group && other->phase == SequencePhase::kDecode;
    });
    Sequence& victim = **youngest;
    retract(victim, plan);
    if (&victim == &sequence) return false;
  }
  return true;
}

// Whether some sequence of the group only waits for its last results before its pages are free.
bool Scheduler::pages_are_coming(int32_t group) const {
  for (const InFlight& plan : in_flight_) {
    for (const Sequence* sequence : plan.sequences) {
      const bool at_end = sequence->phase == SequencePhase::kEnded || sequence->fully_planned();
      if (sequence->group == group && at_end && !sequence->pages.empty()) return true;
    }
  }
  return false;
}

void Scheduler::retract(Sequence& sequence, StepPlan& plan) {
  sequence.phase = SequencePhase::kRetracted;
  std::erase(running_, &sequence);
  plan.swaps.push_back(memory_[sequence.group].swap_out(sequence));
  queue_.push_front(&sequence);
  ++totals_.retractions_total;
}

void Scheduler::plan_joins(StepPlan& plan) {
  while (!queue_.empty() && join(*queue_.front(), plan)) queue_.pop_front();
}

int32_t Scheduler::tokens_to_join(const Sequence& sequence) const {
  return sequence.phase == SequencePhase::kQueued ? sequence.prompt_tokens() : sequence.computed + 1;
}

// Whether there is memory for the sequence in a group; a new one also needs prefill tokens in this step.
bool Scheduler::fits(const Sequence& sequence, int32_t group) const {
  const bool is_new = sequence.phase == SequencePhase::kQueued;
  if (is_new && prefill_backlog(group) >= options_.prefill_tokens_max) return false;
  const SequenceMemory& memory = memory_[group];
  const int32_t tokens = tokens_to_join(sequence);
  if (is_new && !memory.can_land(tokens)) return false;
  int64_t spare_pages = memory.pages_for(sequence.tokens_final()) > memory.pages_for(tokens) ? 1 : 0;
  for (const Sequence* other : running_) {
    if (other->group == group) spare_pages += memory.growth_pages(*other);
  }
  return memory.can_join(sequence, tokens, spare_pages);
}

// The group that the sequence can join, or -1. Its own, if it has been in one; of the others the one with the fewest
// prompt tokens to compute, then the fewest sequences.
int32_t Scheduler::choose_group(const Sequence& sequence) const {
  if (sequence.group >= 0) return fits(sequence, sequence.group) ? sequence.group : -1;
  int32_t best = -1;
  std::pair<int64_t, int64_t> best_load;
  for (int32_t group = 0; group < options_.groups; ++group) {
    if (!fits(sequence, group)) continue;
    const std::pair load{prefill_backlog(group), memory_[group].slots().used()};
    if (best >= 0 && load >= best_load) continue;
    best = group;
    best_load = load;
  }
  return best;
}

// Lets the queue's head run if it fits somewhere.
bool Scheduler::join(Sequence& sequence, StepPlan& plan) {
  const int32_t group = choose_group(sequence);
  if (group < 0) return false;
  const bool is_new = sequence.phase == SequencePhase::kQueued;
  const int32_t tokens = tokens_to_join(sequence);
  running_.insert(std::upper_bound(running_.begin(), running_.end(), &sequence, is_older), &sequence);
  if (is_new) {
    memory_[group].join(sequence, tokens);
    by_index_[sequence.index] = &sequence;
    sequence.phase = SequencePhase::kPrefill;
    totals_.transfers += options_.role != InstanceRole::kWhole;
    if (options_.role != InstanceRole::kDecode) return true;
    reserve(sequence);
    return true;
  }
  plan.swaps.push_back(memory_[group].swap_in(sequence, tokens));
  sequence.phase = SequencePhase::kDecode;
  // The others' rows are planned; with shares and limits it waits for the next plan.
  if (options_.stages == 1 && options_.decode_rows_max == 0 && sequence.decodable()) {
    add_row(plan, sequence, decode_row(sequence, options_.vocab_size));
  }
  return true;
}

int64_t Scheduler::prefill_backlog(int32_t group) const {
  int64_t tokens = 0;
  for (const Sequence* sequence : running_) {
    if (sequence->group == group && sequence->phase == SequencePhase::kPrefill) {
      tokens += sequence->prompt_tokens() - sequence->computed;
    }
  }
  return tokens;
}

void Scheduler::plan_prefill(StepPlan& plan) {
  for (int32_t group = 0; group < options_.groups; ++group) {
    std::vector<Sequence*> prompts;
    std::vector<PrefillNeed> needs;
    for (Sequence* sequence : running_) {
      if (sequence->group != group || sequence->phase != SequencePhase::kPrefill) continue;
      prompts.push_back(sequence);
      needs.push_back({sequence->computed, sequence->prompt_tokens()});
    }
    const std::vector<int32_t> chunks =
        options_.enable_dynamic_chunking && step_cost_.is_known()
            ? cut_chunks_by_time(needs, options_.prefill_tokens_max, step_cost_.cost(), !queue_.empty())
            : cut_chunks(needs, options_.prefill_tokens_max);
    for (size_t i = 0; i < prompts.size(); ++i) {
      if (chunks[i] == 0) break;
      totals_.prompt_tokens_total += chunks[i];
      add_row(plan, *prompts[i], prefill_row(*prompts[i], chunks[i], options_.vocab_size));
      if (prompts[i]->target) plan_send(plan, *prompts[i]);
    }
  }
}

void Scheduler::add_row(StepPlan& plan, Sequence& sequence, PlanRow row) {
  if (!std::exchange(sequence.started, true)) {
    plan.starts.push_back(sequence_start(sequence));
    if (row.kind == RowKind::kDecode) plan.starts.back().generated = row.tokens;  // another instance's
  }
  if (row.sample) sequence.sampled_in = plan.id;
  plan.rows.push_back(std::move(row));
  ++sequence.plans_in_flight;
  in_flight_.back().sequences.push_back(&sequence);
}

std::vector<Output> Scheduler::on_result(StepResult result) {
  HYLAS_CHECK(!in_flight_.empty() && in_flight_.front().id == result.id, "result {} out of order", result.id);
  const InFlight done = std::move(in_flight_.front());
  in_flight_.pop_front();
  totals_.busy_us_total += result.busy_us();
  if (options_.enable_dynamic_chunking && done.load.tokens > 0) {
    step_cost_.add(done.load, static_cast<double>(result.busy_us()));
  }
  std::vector<Output> outputs;
  for (RowResult& row : result.rows) {
    Sequence* sequence = by_index_.at(row.sequence);
    HYLAS_CHECK(sequence, "a result of the forgotten sequence {}", row.sequence);
    if (sequence->phase != SequencePhase::kEnded) apply(*sequence, std::move(row), outputs);
  }
  for (Sequence* sequence : done.sequences) {
    --sequence->plans_in_flight;
    retire_if_free(*sequence);
  }
  return outputs;
}

void Scheduler::apply(Sequence& sequence, RowResult row, std::vector<Output>& outputs) {
  std::vector<OutputToken>& prompt_logprobs = sequence.prompt_logprobs;
  if (sequence.request.sampling.prompt_logprobs_from == 0 && prompt_logprobs.empty()) {
    prompt_logprobs.push_back({sequence.request.prompt[0], std::numeric_limits<float>::quiet_NaN(), {}});
  }
  std::move(row.prompt_logprobs.begin(), row.prompt_logprobs.end(), std::back_inserter(prompt_logprobs));
  if (!row.did_sample) return;

  std::optional<Finish> finish = accept_token(sequence, row.sampled.token);
  Output& output = outputs.emplace_back();
  output.id = sequence.id;
  if (row.sampled.token >= 0) {
    ++totals_.generated_tokens_total;
    output.tokens.push_back({row.sampled.token, row.sampled.logprob, std::move(row.sampled.top)});
  }
  if (sequence.samples_known == 1) output.prompt_logprobs = std::move(prompt_logprobs);
  if (!finish) return;
  output.finish = finish->reason;
  output.stop_token = finish->stop_token;
  output.error = finish->error;
  end(sequence);
}

// Its last Output is out: no plan names it from now on.
void Scheduler::end(Sequence& sequence) {
  std::erase(running_, &sequence);
  std::erase(queue_, &sequence);
  sequence.phase = SequencePhase::kEnded;
  retire_if_free(sequence);
}

// It has ended, no plan in flight names it any more, and its memory is neither read nor written by others.
void Scheduler::retire_if_free(Sequence& sequence) {
  if (sequence.phase == SequencePhase::kEnded && sequence.plans_in_flight == 0 && sequence.sends_open == 0 &&
      sequence.copies_open == 0 && !sequence.is_receiving) {
    retire(sequence);
  }
}

void Scheduler::retire(Sequence& sequence) {
  if (sequence.group >= 0) {
    memory_[sequence.group].release(sequence);
    memory_[sequence.group].end_landing(sequence);
  }
  if (sequence.swap_key != 0) {
    drops_.push_back({SwapOp::Direction::kDrop, sequence.swap_key, {}, -1, sequence.group});
  }
  totals_.transfers -= sequence.target && sequence.group >= 0;
  if (sequence.target) departures_.push_back({sequence.id, std::move(sequence.sent), std::move(sequence.send_error)});
  if (sequence.index >= 0) {
    by_index_[sequence.index] = nullptr;
    if (sequence.started) ends_.push_back(sequence.index);
    if (!sequence.started) memory_[sequence.group].give_back_index(sequence.index);
  }
  sequences_.erase(sequence.id);
}

EngineStats Scheduler::stats() const {
  EngineStats stats = totals_;
  stats.running = static_cast<int32_t>(running_.size());
  stats.queued = static_cast<int32_t>(queue_.size());
  for (const Sequence* sequence : queue_) {
    if (sequence->phase != SequencePhase::kRetracted) break;
    ++stats.retracted;
  }
  for (const Sequence* sequence : running_) stats.kv_tokens_used += sequence->computed;
  for (const SequenceMemory& memory : memory_) {
    stats.kv_tokens_max += memory.pages().size() * options_.page_size;
    stats.pages_used += memory.pages().used();
    stats.pages_max += memory.pages().size();
    stats.landing_pages_used += memory.landing_pages().used();
    stats.landing_slots_used += static_cast<int32_t>(memory.landing_slots().used());
    stats.slots_used += static_cast<int32_t>(memory.slots().used());
    stats.slots_max += static_cast<int32_t>(memory.slots().size());
  }
  return stats;
}

}  // namespace hylas
