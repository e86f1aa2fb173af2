// The scheduler's part in disaggregation: what it sends to another instance, and what it takes from one.
#include <algorithm>
#include <utility>

#include "base/check.h"
#include "engine/scheduler.h"

namespace hylas {

// The pages that the sequence's chunk in `plan` has filled; with the last chunk the rest and the slot.
void Scheduler::plan_send(StepPlan& plan, Sequence& sequence) {
  const SendTarget& target = *sequence.target;
  const bool is_last = sequence.computed == sequence.prompt_tokens();
  const auto begin = sequence.pages_sent;
  const auto end = is_last ? static_cast<int32_t>(sequence.pages.size()) : sequence.computed / options_.page_size;
  if (begin == end && !is_last) return;
  HYLAS_CHECK(target.pages.size() == sequence.pages.size());
  SendOp op{
      .transfer = sequence.id, .peer = target.peer, .group = sequence.group, .to_group = target.group, .part = {}};
  op.part.first_page = begin;
  op.part.from_pages.assign(sequence.pages.begin() + begin, sequence.pages.begin() + end);
  op.part.to_pages.assign(target.pages.begin() + begin, target.pages.begin() + end);
  if (is_last) {
    op.part.from_slot = sequence.slot;
    op.part.to_slot = target.slot;
  }
  plan.sends.push_back(std::move(op));
  sequence.pages_sent = end;
  sequence.sends_open += options_.group_ranks;
}

bool Scheduler::is_live(RequestId id) const {
  const auto found = sequences_.find(id);
  return found != sequences_.end() && found->second->phase != SequencePhase::kEnded;
}

void Scheduler::on_sent(const SentReport& report) {
  Sequence& sequence = *sequences_.at(report.transfer);
  HYLAS_CHECK(sequence.sends_open > 0);
  const auto [status, bytes, sum] = report.result;
  if (!status.ok() && sequence.send_error.empty()) sequence.send_error = status.error().message;
  auto found = std::find_if(sequence.sent.begin(), sequence.sent.end(),
                            [&](const SourceSum& source) { return source.rank == report.rank; });
  if (found == sequence.sent.end()) found = sequence.sent.insert(found, {report.rank, 0, 0});
  found->bytes += bytes;
  found->sum += sum;
  --sequence.sends_open;
  retire_if_free(sequence);
}

// A sequence that has joined waits for its state.
void Scheduler::reserve(Sequence& sequence) {
  SequenceMemory& memory = memory_[sequence.group];
  sequence.phase = SequencePhase::kReceives;
  sequence.is_receiving = true;
  if (!memory.has_landing()) {
    reservations_.push_back({sequence.id, sequence.group, sequence.slot, sequence.pages});
    return;
  }
  memory.begin_landing(sequence, sequence.prompt_tokens());
  reservations_.push_back({sequence.id, sequence.group, sequence.landing_slot, sequence.landing_pages});
}

std::vector<Output> Scheduler::on_landed(RequestId id, FirstToken first) {
  Sequence& sequence = *sequences_.at(id);
  HYLAS_CHECK(std::exchange(sequence.is_receiving, false));
  --totals_.transfers;
  std::vector<Output> outputs;
  if (sequence.phase == SequencePhase::kEnded) {
    retire_if_free(sequence);
    return outputs;
  }
  if (sequence.landing_slot >= 0) {
    lands_.push_back({sequence.id, sequence.group, {}});
    lands_.back().part = {0, sequence.landing_pages, sequence.pages, sequence.landing_slot, sequence.slot};
    sequence.copies_open = options_.group_ranks;
  }
  sequence.phase = SequencePhase::kDecode;
  sequence.request.sampling.seed = first.seed;
  sequence.computed = sequence.prompt_tokens();
  sequence.samples_planned = 1;
  sequence.received_token = first.token.id;
  sequence.prompt_logprobs = std::move(first.prompt_logprobs);
  totals_.prompt_tokens_total += sequence.prompt_tokens();
  RowResult row{.sequence = sequence.index, .did_sample = true, .sampled = {}, .prompt_logprobs = {}, .logits = {}};
  row.sampled = {first.token.id, first.token.logprob, std::move(first.token.top)};
  apply(sequence, std::move(row), outputs);
  return outputs;
}

void Scheduler::on_copied(RequestId id) {
  Sequence& sequence = *sequences_.at(id);
  HYLAS_CHECK(sequence.copies_open > 0);
  if (--sequence.copies_open > 0) return;
  memory_[sequence.group].end_landing(sequence);
  retire_if_free(sequence);
}

void Scheduler::on_not_landed(RequestId id) {
  Sequence& sequence = *sequences_.at(id);
  HYLAS_CHECK(std::exchange(sequence.is_receiving, false) && sequence.phase == SequencePhase::kEnded);
  --totals_.transfers;
  retire_if_free(sequence);
}

}  // namespace hylas
