#pragma once
// Ops::moe on the CPU: tokens are grouped by expert, so that an expert's weights are read once for all its tokens.
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

void moe(ThreadPool& pool, GemmScratch& gemm, MoeScratch& scratch, const Tensor& x, const Tensor& ids,
         const Tensor& weights, const ExpertWeights& experts, const SharedExpertWeights* shared,
         const Tensor& shared_logit, const Tensor& partials);

}  // namespace hylas::cpu
