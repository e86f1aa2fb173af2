#pragma once
// What the memory of a rank is divided into: pages (KV), slots (per-sequence state) and the activation arena. A pure
// function of numbers; with several stages the counts are the minimum over them.
#include <cstdint>

#include "base/result.h"

namespace hylas {

// Most sequences that run at once unless --max-running-requests says otherwise.
constexpr int32_t kRunningMaxDefault = 64;
// Length of a typical sequence when the number of slots is chosen: slots for more of them than fit would stay empty.
constexpr int32_t kTypicalTokens = 4096;

struct BudgetInputs {
  int64_t free_bytes = 0;      // on the device, once the weights are there
  double fraction = 0.9;       // of it that may be used: (0, 1]
  int64_t arena_bytes = 0;     // activations of the largest step
  int64_t token_bytes = 0;     // StateLayout::bytes_per_token()
  int64_t sequence_bytes = 0;  // StateLayout::bytes_per_sequence()
  int32_t page_size = 64;
  int32_t context_length = 0;
  int64_t kv_tokens_max = 0;  // --max-total-tokens; 0 = as many as fit
  int32_t running_max = 0;    // --max-running-requests; 0 = chosen
};

struct MemoryBudget {
  int64_t pages = 0;
  int32_t slots = 0;  // = the largest number of running sequences
  int64_t page_bytes_total = 0, slot_bytes_total = 0, arena_bytes = 0;
};

// Never more pages than `slots` sequences of the whole context can fill. kExhausted when one request of the context (or
// of kv_tokens_max, if that is less) does not fit, or what was asked for does not: says how much is needed. kInvalid
// for numbers that make no sense.
Result<MemoryBudget> plan_memory(const BudgetInputs& inputs);

}  // namespace hylas
