#pragma once
// From a sequence to the rows of a plan, and from a sampled token to what it means. The sequence's counts move with its
// rows.
#include <cstdint>
#include <optional>

#include "engine/sequence.h"
#include "engine/step_plan.h"

namespace hylas {

// What the ranks learn once about a sequence that joins.
SequenceStart sequence_start(const Sequence& sequence);

// The next chunk of `length` prompt tokens. The last chunk samples the first token, and the sequence enters decode.
PlanRow prefill_row(Sequence& sequence, int32_t length, int32_t vocab_size);

// One token: reads the last sampled one, samples the next. The sequence must be decodable() and hold a page for it.
PlanRow decode_row(Sequence& sequence, int32_t vocab_size);

struct Finish {
  FinishReason reason;
  int32_t stop_token = -1;
  const char* error = "";
};

// Takes note of a sampled token that came back (counts, grammar) and says whether the text ends with it. -1: there was
// none.
std::optional<Finish> accept_token(Sequence& sequence, int32_t token);

}  // namespace hylas
