#pragma once
// What a step brings to one rank: Roofline's own.
#include "engine/roofline.h"

namespace hylas {

// Of the dp group with most tokens.
struct Roofline::Load {
  double tokens = 0, sequences = 0;
  double decode_rows = 0;         // one token each, by kernels of their own
  double decode_keys = 0;         // that they read
  double pairs = 0;               // of prefill, (token, earlier token)
  double prefill_keys = 0;        // what it attends to
  double tiles = 0, longest = 0;  // of 64 prefill tokens, of all rows and of the longest
  double tokens_all = 0;          // of all groups: what the experts see
  double logits = 0;              // rows that sample

  double prefill_tokens() const { return tokens - decode_rows; }
};

}  // namespace hylas
