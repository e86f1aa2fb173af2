#pragma once
// How a delta layer's prefill is cut so that what does not wait for the delta rule runs beside it: pure functions.
#include <cstdint>

#include "ops/fp8_plan.h"

namespace hylas {

constexpr int64_t kPartRowsMin = 512;  // of a product: from so many rows on it is the same kernel for any number

struct PrefillParts {
  bool beside = false;  // whether the rule leaves enough of the GPU
  int32_t free = 0;     // multiprocessors that it leaves then
  int32_t cut = 0;      // of a prompt alone: its tokens in the first part, a multiple of 64; 0: one part
  int32_t rows = 0;     // rows of the batch that the first part finishes, a multiple of 4; 0: one part
};

// A batch with `decode_rows` rows of one token each before its prefill rows; the rule has a block for each prefill row
// and value head.
constexpr PrefillParts prefill_parts(int32_t tokens, int32_t rows, int32_t decode_rows, int32_t value_heads,
                                     int32_t multiprocessors) {
  const int32_t prefill_rows = rows - decode_rows, prefill = tokens - decode_rows;
  PrefillParts parts;
  const int64_t free = multiprocessors - int64_t{prefill_rows} * value_heads;
  parts.beside = prefill_rows > 0 && prefill >= kPartRowsMin && free >= kFp8BlocksBesideMany;
  parts.free = parts.beside ? static_cast<int32_t>(free) : 0;
  if (!parts.beside || prefill_rows > 1 || prefill < 2 * kPartRowsMin + 2 * 64) return parts;
  parts.cut = (prefill / 2 + 63) / 64 * 64;
  parts.rows = (decode_rows + parts.cut) / 4 * 4;  // scales of rows are copied in units of four
  return parts;
}

}  // namespace hylas
