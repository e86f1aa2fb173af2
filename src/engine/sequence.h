#pragma once
// Sequence: one request inside the scheduler. Counts and ids only; the tokens it generates live with the ranks and the
// client, its bytes in the ranks' pools.
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/request.h"
#include "engine/step_plan.h"
#include "transfer/messages.h"

namespace hylas {

// Where the state of a sequence goes that another instance decodes: memory that is reserved there.
struct SendTarget {
  int32_t peer = -1;
  int32_t group = 0;
  int32_t slot = -1;
  std::vector<int32_t> pages;  // for all positions of the prompt
};

enum class SequencePhase : uint8_t {
  kQueued,     // holds nothing yet
  kReceives,   // holds pages for its prompt and a slot, where another instance writes what it computes
  kPrefill,    // holds pages for its prompt and a slot; chunks remain to be planned
  kDecode,     // its last chunk is planned: one token a step
  kRetracted,  // its state is in host memory; it waits at the queue's front
  kEnded,      // its last Output is out; it stays until no plan in flight names it
};

// `planned` counts run ahead of `known` ones: ranks do plans in order, so what is planned will happen, and a decode row
// may be planned before the token that it reads has come back.
struct Sequence {
  RequestId id = 0;
  uint64_t arrival = 0;  // 1, 2, 3, ...: who is older
  Request request;
  int32_t samples_max = 0;        // tokens that it may generate: max_new_tokens or what the context leaves
  std::vector<int32_t> stop_ids;  // end-of-sequence and stop ids, none twice

  SequencePhase phase = SequencePhase::kQueued;
  int32_t computed = 0;         // planned positions: KV and state cover [0, computed)
  int32_t samples_planned = 0;  // sampling rows planned
  int32_t samples_known = 0;    // sampled tokens that came back
  int32_t plans_in_flight = 0;  // plans with a row of this sequence whose result is not back

  uint64_t sampled_in = 0;  // the last plan that samples for it

  // What it holds; SequenceMemory keeps these.
  SequenceIndex index = -1;
  int32_t group = -1;  // the dp group, once it has joined one; it stays there
  int32_t slot = -1;
  std::vector<int32_t> pages;
  std::vector<int32_t> landing_pages;  // where its state lands, if not in `pages` and `slot`
  int32_t landing_slot = -1;
  uint64_t swap_key = 0;  // of its buffer in host memory; 0 = none
  bool started = false;   // the ranks know its index

  // Another instance decodes it (target), or has prefilled it.
  std::optional<SendTarget> target;
  int32_t pages_sent = 0;                 // of `pages`, by plans
  int32_t sends_open = 0;                 // parts of ranks that are planned and not reported
  std::vector<SourceSum> sent;            // by rank
  std::string send_error;                 // the first one
  bool is_receiving = false;              // another instance may write into its memory
  int32_t copies_open = 0;                // ranks that have not said that its state has left where it landed
  std::optional<int32_t> received_token;  // the first one, until a row has fed it

  std::vector<OutputToken> prompt_logprobs;  // collected over the chunks, goes out with the first Output

  int32_t prompt_tokens() const { return static_cast<int32_t>(request.prompt.size()); }
  // Positions that need KV in the end: the last generated token is never fed back.
  int32_t tokens_final() const { return prompt_tokens() + samples_max - 1; }
  // Its mask needs every token so far, so it cannot run ahead of its results.
  bool needs_known_tokens() const { return request.grammar != nullptr; }
  // Everything it may generate is planned: only results are missing.
  bool fully_planned() const { return samples_planned == samples_max; }
  bool decodable() const {
    return phase == SequencePhase::kDecode && !fully_planned() &&
           (!needs_known_tokens() || samples_known == samples_planned);
  }
};

}  // namespace hylas
