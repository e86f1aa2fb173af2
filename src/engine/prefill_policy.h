#pragma once
// How one step's prefill tokens are shared among the prompts that are not computed yet. A pure function.
#include <cstdint>
#include <span>
#include <vector>

namespace hylas {

// Chunks are cut at multiples of this position: there the chunked delta rule and attention have their tile bounds, so a
// prompt gives the same bits however it was cut (docs: "order is fixed").
constexpr int32_t kChunkUnit = 64;

struct PrefillNeed {
  int32_t begin = 0;  // first position that is not computed; a multiple of kChunkUnit
  int32_t end = 0;    // the prompt's length
};

// Tokens for each prompt, oldest first. Each takes all it needs or is cut at the last multiple of kChunkUnit that the
// budget reaches; who comes after a prompt that was cut waits, so nobody is overtaken.
std::vector<int32_t> cut_chunks(std::span<const PrefillNeed> needs, int32_t budget_tokens);

}  // namespace hylas
