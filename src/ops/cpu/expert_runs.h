#pragma once
// Tokens grouped by expert, so that an expert's weights are read once for all its tokens: what the operators of moe.h
// share, up to the down products.
#include <vector>

#include "ops/cpu/linear.h"

namespace hylas::cpu {

// One expert (or the shared one) and its tokens. Its rows are pairs (token, expert), numbered across all runs.
struct ExpertRun {
  const LinearWeight* gate;
  const LinearWeight* up;
  const LinearWeight* down;
  const int32_t* tokens;  // of each row; null: row i is token i
  int64_t rows;
  int64_t pair_begin;
  int64_t hidden_begin;  // elements of MoeScratch::hidden, [rows, expert width]
  PackedRows packed;     // the hidden rows, packed for `down`
  int64_t packed_begin;  // floats of MoeScratch::packed
};

// Kept between calls; grows with the largest layer and number of tokens seen.
struct MoeScratch {
  std::vector<ExpertRun> runs;
  GrowBuffer<int32_t> expert_rows;  // [experts + 1]
  GrowBuffer<int32_t> pair_token;   // [pairs]: token of each pair, sorted by expert, then token
  GrowBuffer<int32_t> pair_of;      // [tokens, k]: pair of each choice; -1: not held here
  GrowBuffer<float> hidden;         // [pairs, expert width] act (bf16 uses half of it)
  GrowBuffer<float> packed;
};

// Rows of one expert taken at once; a multiple of kRowTile.
constexpr int64_t kRowBlock = 63;

// The products of one block of tokens: those of its choices, then those of the shared expert, a row per token.
struct ExpertCall {
  ThreadPool& pool;
  GemmScratch& gemm;
  MoeScratch& scratch;
  Tensor x;                           // [tokens, H] act
  Tensor ids;                         // [tokens, k] i32
  const ExpertWeights* experts;       // null: none are asked for
  const SharedExpertWeights* shared;  // null: none
  int64_t slices;

  int64_t tokens() const { return x.dim(0); }
  int64_t choices() const { return experts != nullptr ? ids.dim(1) : 0; }
  int64_t hidden_size() const { return x.dim(1); }
  bool bf16() const { return x.dtype == DType::kBF16; }
  int lanes() const { return gemm.kernels->lanes; }
  // Pair of choice j of token t; -1: this rank does not hold that expert. After prepare_runs.
  int64_t pair(int64_t t, int64_t j) const { return scratch.pair_of.take(0)[t * choices() + j]; }
};

// Groups the block's tokens and computes their experts' hidden rows. Returns the number of pairs; the shared expert's
// product of token t stands at row pairs + t.
int64_t prepare_runs(const ExpertCall& call);

// Down products of all rows for outputs [begin, end), in memory.results: [row][slice][end - begin].
const float* down_products(const ExpertCall& call, int64_t pairs, int64_t begin, int64_t end,
                           GemmScratch::PerThread& memory);

// body(begin, end, memory) over all outputs, in parallel.
template <class Body>
void for_output_pieces(const ExpertCall& call, Body&& body) {
  constexpr int64_t kFew = 64, kMany = 32;
  int64_t columns = call.tokens() <= kRowsFew ? kFew : kMany, size = call.hidden_size();
  call.pool.parallel_items((size + columns - 1) / columns, [&](int64_t piece, int thread) {
    int64_t begin = piece * columns;
    body(begin, std::min(begin + columns, size), call.gemm.threads[static_cast<size_t>(thread)]);
  });
}

}  // namespace hylas::cpu
