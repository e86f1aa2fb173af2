#pragma once
// Whether a request can be served at all: everything that can be said when it comes in. Pure functions.
#include <cstdint>

#include "base/result.h"
#include "engine/request.h"

namespace hylas {

struct RequestLimits {
  int32_t context_length = 0;  // prompt and generated tokens of one sequence
  int64_t kv_tokens_max = 0;   // the whole KV pool
  int32_t vocab_size = 0;
};

// Prompt and generated tokens that one sequence may have: the context, or the pool where that is smaller.
int32_t sequence_tokens_max(const RequestLimits& limits);

// kInvalid with the offending name and the numbers: an empty prompt, one that leaves no room for a generated token, ids
// outside the vocabulary, sampling parameters out of range.
Status check_request(const Request& request, const RequestLimits& limits);

}  // namespace hylas
