#include "engine/prefill_policy.h"

namespace hylas {

std::vector<int32_t> cut_chunks(std::span<const PrefillNeed> needs, int32_t budget_tokens) {
  std::vector<int32_t> chunks(needs.size(), 0);
  int32_t left = budget_tokens;
  for (size_t i = 0; i < needs.size(); ++i) {
    const int32_t missing = needs[i].end - needs[i].begin;
    if (missing > left) {
      chunks[i] = left / kChunkUnit * kChunkUnit;
      break;
    }
    chunks[i] = missing;
    left -= missing;
  }
  return chunks;
}

}  // namespace hylas
