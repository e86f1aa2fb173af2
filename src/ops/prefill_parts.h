#pragma once
// How a delta layer's prefill is cut so that what does not wait for the delta rule runs beside it: pure functions.
#include <cstdint>

#include "ops/fp8_plan.h"

namespace hylas {

constexpr int64_t kPartRowsMin = 512;  // of a product: from so many rows on it is the same kernel for any number

constexpr int kPrefillPartsMax = 3;

struct PrefillParts {
  bool beside = false;  // whether the rule leaves enough of the GPU
  int32_t free = 0;     // multiprocessors that it leaves then
  int count = 1;        // more than one: a prompt alone
  // Of a prompt alone: part i has its tokens [cut[i], cut[i + 1]), and finishes the batch's rows [rows[i], rows[i +
  // 1]). Between parts they are multiples of 64 and of 4.
  int32_t cut[kPrefillPartsMax + 1] = {};
  int32_t rows[kPrefillPartsMax + 1] = {};
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
  if (parts.beside && prefill_rows == 1 && prefill >= 2 * kPartRowsMin + 2 * 64) {
    // What follows the last part has nothing to run beside, and what precedes the first neither: both are small.
    const auto at = [&](int64_t percent) { return static_cast<int32_t>((prefill * percent / 100 + 63) / 64 * 64); };
    const bool two = prefill < 4 * kPartRowsMin + 4 * 64;
    parts.count = two ? 2 : 3;
    parts.cut[1] = at(two ? 50 : 40);
    parts.cut[2] = at(75);
  }
  parts.cut[parts.count] = prefill;
  for (int i = 1; i < parts.count; ++i) parts.rows[i] = (decode_rows + parts.cut[i]) / 4 * 4;  // units of scales
  parts.rows[parts.count] = tokens;
  return parts;
}

}  // namespace hylas
