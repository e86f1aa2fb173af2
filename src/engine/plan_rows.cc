#include "engine/plan_rows.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "base/check.h"
#include "text/grammar.h"

namespace hylas {
namespace {

// The part of a row that says how its last token is sampled.
void add_sampling(Sequence& sequence, PlanRow& row, int32_t vocab_size) {
  row.sample = true;
  row.step = sequence.samples_planned++;
  row.block_stops = row.step < sequence.request.sampling.min_new_tokens;
  if (sequence.request.grammar) {
    auto mask = std::make_shared<std::vector<uint32_t>>((vocab_size + 31) / 32);
    sequence.request.grammar->fill_mask(*mask);
    row.allowed = std::move(mask);
  }
}

// The next `length` positions of the sequence, in the state and pages that it holds.
PlanRow next_row(Sequence& sequence, RowKind kind, int32_t length) {
  PlanRow row;
  row.sequence = sequence.index;
  row.group = sequence.group;
  row.kind = kind;
  row.begin = sequence.computed;
  row.length = length;
  row.pages = sequence.pages;
  row.state_read = sequence.computed == 0 ? -1 : sequence.slot;
  row.state_write = sequence.slot;
  sequence.computed += length;
  return row;
}

bool is_stop(const Sequence& sequence, int32_t token) {
  return std::find(sequence.stop_ids.begin(), sequence.stop_ids.end(), token) != sequence.stop_ids.end();
}

}  // namespace

SequenceStart sequence_start(const Sequence& sequence) {
  SequenceStart start{sequence.index, sequence.request.sampling, sequence.stop_ids, {}, {}};
  if (sequence.request.sampling.repetition_penalty != 1.f) start.prompt = sequence.request.prompt;
  return start;
}

PlanRow prefill_row(Sequence& sequence, int32_t length, int32_t vocab_size) {
  HYLAS_CHECK(sequence.phase == SequencePhase::kPrefill && length > 0);
  PlanRow row = next_row(sequence, RowKind::kPrefill, length);
  const std::vector<int32_t>& prompt = sequence.request.prompt;
  row.tokens.assign(prompt.begin() + row.begin, prompt.begin() + sequence.computed);
  row.prompt_logprobs_from = sequence.request.sampling.prompt_logprobs_from;
  if (sequence.computed < sequence.prompt_tokens()) {
    row.next_token = prompt[sequence.computed];
  } else {
    sequence.phase = SequencePhase::kDecode;
    add_sampling(sequence, row, vocab_size);
  }
  return row;
}

PlanRow decode_row(Sequence& sequence, int32_t vocab_size) {
  HYLAS_CHECK(sequence.decodable());
  HYLAS_CHECK(sequence.computed == sequence.prompt_tokens() + sequence.samples_planned - 1);
  PlanRow row = next_row(sequence, RowKind::kDecode, 1);
  if (sequence.received_token) row.tokens = {*std::exchange(sequence.received_token, std::nullopt)};
  add_sampling(sequence, row, vocab_size);
  return row;
}

std::optional<Finish> accept_token(Sequence& sequence, int32_t token) {
  const int32_t step = sequence.samples_known++;
  GrammarMatcher* grammar = sequence.request.grammar.get();
  const SamplingParams& sampling = sequence.request.sampling;
  if (token < 0 && !grammar && sampling.logit_bias.empty() && step >= sampling.min_new_tokens) {
    return Finish{FinishReason::kError, -1, "the model's logits are not numbers: its weights may be damaged"};
  }
  if (token < 0 || (grammar && !grammar->accept(token))) {
    return Finish{FinishReason::kError, -1, "no token may follow: grammar, logit_bias and min_new_tokens exclude all"};
  }
  if (is_stop(sequence, token) && step >= sampling.min_new_tokens) {
    return Finish{FinishReason::kStop, token};
  }
  if (grammar && grammar->terminated()) return Finish{FinishReason::kStop, token};
  if (sequence.samples_known == sequence.samples_max) return Finish{FinishReason::kLength};
  return std::nullopt;
}

}  // namespace hylas
