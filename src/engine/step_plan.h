#pragma once
// StepPlan: everything a rank needs for one step, as an immutable value. The scheduler decides, ranks only execute: they
// cannot diverge. Serialisable (multi-node), so no pointers into the scheduler.
#include <cstdint>
#include <memory>
#include <vector>

#include "engine/request.h"
#include "ops/sampling.h"

namespace hylas {

// Index of a sequence in the ranks' tables (sampler history, last token); unique among live sequences, reused later.
using SequenceIndex = int32_t;

// Sampling state of a sequence, sent once when it joins (or re-joins after a retraction) the ranks.
struct SequenceStart {
  SequenceIndex sequence = -1;
  SamplingParams sampling;  // seed is set
  std::vector<int32_t> prompt;     // for the repetition penalty and prompt logprobs; may be empty when not needed
  std::vector<int32_t> generated;  // tokens generated before a retraction
};

enum class RowKind : uint8_t { kDecode, kPrefill };

struct PlanRow {
  SequenceIndex sequence = -1;
  RowKind kind = RowKind::kPrefill;
  int32_t begin = 0;                // position of the first token
  int32_t length = 0;               // tokens in this step (decode: 1)
  std::vector<int32_t> tokens;      // prefill: the ids. decode: empty = the sequence's last sampled token, which the rank
                                    // knows even when the scheduler does not yet
  std::vector<int32_t> pages;       // page ids from position 0 on, covering begin + length
  int32_t state_read = -1;          // -1: fresh
  int32_t state_write = -1;
  bool sample = false;              // sample a token after the row's last token
  int32_t step = 0;                 // index of the sampled token within the generated text (the draw's counter)
  bool block_stops = false;         // below min_new_tokens: stop ids may not come
  std::shared_ptr<const std::vector<uint32_t>> allowed;  // grammar mask of the sampled token; null = all
  int32_t prompt_logprobs_from = -1;  // >= 0: logprobs of prompt tokens at positions >= this that this chunk predicts
  int32_t next_token = -1;            // the prompt token after this chunk, for its prompt logprob; -1 = none
  bool want_logits = false;           // return logits of all the row's tokens (hylas logits)
};

struct SlotCopy {
  int32_t from, to;
};

// State of a retracted sequence on its way to or from host memory; the buffer lives with the rank, under `key`.
struct SwapOp {
  enum class Direction : uint8_t { kOut, kIn, kDrop } direction;
  uint64_t key;
  std::vector<int32_t> pages;
  int32_t slot;
};

struct StepPlan {
  uint64_t id = 0;                    // 1, 2, 3, ...
  int32_t lane = 0;                   // which of the plans in flight (pipeline)
  std::vector<SwapOp> swaps;          // before the rows
  std::vector<SequenceStart> starts;  // before the rows
  std::vector<PlanRow> rows;          // decode rows first
  std::vector<SlotCopy> copies;       // after the rows
  std::vector<SequenceIndex> ends;    // after the rows: the ranks forget these sequences
};

struct RowResult {
  SequenceIndex sequence = -1;
  SampleResult sampled;                      // token -1: this row did not sample
  std::vector<OutputToken> prompt_logprobs;  // see PlanRow
  std::vector<float> logits;                 // [length, vocab], see PlanRow::want_logits
};

struct StepResult {
  uint64_t id = 0;
  std::vector<RowResult> rows;  // in the plan's order, only rows that produced something
  int64_t busy_us = 0;
};

}  // namespace hylas
