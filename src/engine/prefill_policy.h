#pragma once
// How one step's prefill tokens are shared among the prompts that are not computed yet. Pure functions.
#include <cstdint>
#include <span>
#include <vector>

#include "engine/step_cost.h"

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

// The same for steps of equal time (--enable-dynamic-chunking): a step takes what `budget_tokens` at the beginning of a
// prompt do, so chunks shrink as the prefix that they attend to grows; never above `budget_tokens`, and not below an
// eighth of it, where a step's fixed part would outweigh what is gained. `others_wait`: prompts that are not among
// `needs` yet. If nobody comes after a prompt, its rest is not left to a step of less than a quarter of a chunk: the
// last two chunks share what is left.
std::vector<int32_t> cut_chunks_by_time(std::span<const PrefillNeed> needs, int32_t budget_tokens, const StepCost& cost,
                                        bool others_wait);

// The longest row of at most `tokens_max` tokens after `prefix` that takes at most as long as `us`, the step's constant
// left aside. Not rounded.
double tokens_in_time(const StepCost& cost, double prefix, double us, double tokens_max);

}  // namespace hylas
