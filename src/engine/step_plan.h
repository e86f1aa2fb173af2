#pragma once
// StepPlan: everything a rank needs for one step, as an immutable value. The scheduler decides, ranks only execute:
// they cannot diverge. Serialisable (multi-node), so no pointers into the scheduler.
#include <cstdint>
#include <memory>
#include <vector>

#include "engine/request.h"
#include "ops/sampling.h"
#include "transfer/sender.h"

namespace hylas {

// Index of a sequence in the ranks' tables (sampler history, last token); unique among live sequences, reused later.
using SequenceIndex = int32_t;

// Sampling state of a sequence, sent once when it joins the ranks. It stays there through a retraction.
struct SequenceStart {
  SequenceIndex sequence = -1;
  SamplingParams sampling;         // seed is set
  std::vector<int32_t> stop_ids;   // every id that ends the text: see PlanRow::block_stops
  std::vector<int32_t> prompt;     // for the repetition penalty; empty without one
  std::vector<int32_t> generated;  // tokens of it that another instance has sampled
};

enum class RowKind : uint8_t { kDecode, kPrefill };

struct PlanRow {
  SequenceIndex sequence = -1;
  int32_t group = 0;  // dp group: only its ranks see the row
  RowKind kind = RowKind::kPrefill;
  int32_t begin = 0;            // position of the first token
  int32_t length = 0;           // tokens in this step (decode: 1)
  std::vector<int32_t> tokens;  // prefill: the ids. decode: empty = the sequence's last sampled token, which the rank
                                // knows even when the scheduler does not yet; the id if another instance sampled it
  std::vector<int32_t> pages;   // page ids from position 0 on, covering begin + length (and perhaps more)
  int32_t state_read = -1;      // -1: fresh
  int32_t state_write = -1;
  bool sample = false;       // sample a token after the row's last token
  int32_t step = 0;          // index of the sampled token within the generated text (the draw's counter)
  bool block_stops = false;  // below min_new_tokens: stop ids may not come
  std::shared_ptr<const std::vector<uint32_t>> allowed;  // grammar mask of the sampled token; null = all
  int32_t prompt_logprobs_from = -1;  // >= 0: logprobs of prompt tokens at positions >= this that this chunk predicts
  int32_t next_token = -1;            // the prompt token after this chunk, for its prompt logprob; -1 = none
  bool want_logits = false;           // return logits of all the row's tokens (hylas logits)
  bool want_drafts = false;           // return what the MTP head expects after each next token; alone in its plan
};

struct SlotCopy {
  int32_t from, to;
  int32_t group = 0;
};

// State of a retracted sequence on its way to or from host memory; the buffer lives with the rank, under `key`. kDrop
// forgets a buffer that nobody will want back (no pages, slot -1).
struct SwapOp {
  enum class Direction : uint8_t { kOut, kIn, kDrop } direction = Direction::kOut;
  uint64_t key = 0;
  std::vector<int32_t> pages;
  int32_t slot = -1;
  int32_t group = 0;
};

// A state that another instance has written into host memory (landing_area.h), on its way to the device: from pages and
// slot there to pages and slot here. Every rank of the group reports it once what lay there may be overwritten.
struct LandOp {
  uint64_t sequence = 0;  // whose state: comes back with the report
  int32_t group = 0;
  TransferPart part;
};

// A rank does the parts of a plan in the order of the members, and plans in the order of their ids. So pages that a
// swap takes out may carry another sequence in the same plan, and an index that ends may start again in the same plan.
struct StepPlan {
  uint64_t id = 0;                  // 1, 2, 3, ...
  int32_t lane = 0;                 // which of the plans in flight (pipeline)
  uint64_t known = 0;               // results of the plans up to this one had come back: the first stage can take what
                                    // they sampled without waiting
  std::vector<SequenceIndex> ends;  // the ranks forget these sequences
  std::vector<LandOp> lands;
  std::vector<SwapOp> swaps;
  std::vector<SequenceStart> starts;
  std::vector<PlanRow> rows;  // decode rows first within a group; at most one row per sequence
  std::vector<SlotCopy> copies;
  std::vector<SendOp> sends;  // parts of states that are final after the rows
};

struct RowResult {
  SequenceIndex sequence = -1;
  bool did_sample = false;
  SampleResult sampled;                      // token -1: no token may come (all are blocked or masked)
  std::vector<OutputToken> prompt_logprobs;  // of the prompt tokens that this chunk predicts, in order: see PlanRow
  std::vector<float> logits;                 // [length, vocab], see PlanRow::want_logits
  std::vector<int32_t> drafts;               // [length], see PlanRow::want_drafts: the token two behind each position
};

struct StepResult {
  uint64_t id = 0;
  std::vector<RowResult> rows;       // in the plan's order, only rows that produced something
  int64_t begin_us = 0, end_us = 0;  // when this rank worked on it (base/clock)
  int64_t wait_us = 0;               // of that, waiting for other stages
  // Of it, sums over ranks (Comm::sums_us). On a GPU what was over when the host asked: right in the long run.
  int64_t sums_us = 0;

  int64_t busy_us() const { return end_us - begin_us - wait_us; }
};

}  // namespace hylas
