#pragma once
// Tokens from logits: sampling_kernels.cu. The order of the steps and the draws are ops/sampling.h's.
#include "ops/cuda/views.h"

namespace hylas::cuda {

constexpr int kSortedMax = 1024;  // candidates that are sorted: largest top-k, most top logprobs

// x = (x > 0 ? x / repeat : x * repeat) - subtract + add, once per row and token.
struct LogitEdit {
  int32_t row = 0;
  int32_t token = 0;
  float repeat = 1.f;
  float subtract = 0.f;
  float add = 0.f;
};

// A row to draw from, and how.
struct DrawRow {
  const float* logits = nullptr;
  int32_t slot = 0;  // of DrawArgs::last_tokens
  float inverse_temperature = 1.f;
  int32_t greedy = 0;
  int32_t top_k = 0;  // 0: all
  float top_p = 1.f;
  float min_p = 0.f;
  double share = 0;  // uniform in [0, 1)
};

// Rows `sources[i]` of the logits into row i of `changed`; tokens whose bit in mask row i is not set become -inf.
struct MaskArgs {
  View logits;
  const int32_t* sources = nullptr;
  View changed;
  const uint32_t* masks = nullptr;
  const int32_t* mask_of = nullptr;  // row of `masks`; -1: none
  int64_t mask_words = 0;
  int32_t count = 0;  // tokens
  int32_t rows = 0;
};
void copy_masked(const MaskArgs& args, Stream stream);
// Edits on rows of `changed`.
void edit_logits(const LogitEdit* edits, int64_t count, const View& changed, Stream stream);

// One token per row, of `count` logits: tokens[i]; -1 where none may come.
struct DrawArgs {
  const DrawRow* rows = nullptr;
  int32_t count = 0;
  int32_t draws = 0;
  int32_t* tokens = nullptr;
  int32_t* last_tokens = nullptr;  // gets them too, at the rows' slots, 0 for none; may be null
};
void draw(const DrawArgs& args, Stream stream);
// Ops::feed.
void feed_tokens(int32_t* ids, int64_t count, const int32_t* last_tokens, Stream stream);

// What log probabilities are made of.
struct RowScores {
  float highest = 0.f;
  float target = 0.f;  // logit of the target; -inf if it is none
  double sum = 0;      // of exp(x - highest)
};
struct ScoreArgs {
  View logits;
  const int32_t* row_of = nullptr;   // of each result
  const int32_t* targets = nullptr;  // of each result
  int32_t results = 0;
  int32_t count = 0;    // logits of a row
  int32_t best_of = 0;  // the best are among the first so many
  int32_t best = 0;     // at most kSortedMax
  RowScores* scores = nullptr;
  int32_t* best_tokens = nullptr;  // [results, best]; -1 behind the last
  float* best_logits = nullptr;
};
void score(const ScoreArgs& args, Stream stream);

}  // namespace hylas::cuda
