#pragma once
// Tokens sorted by expert, and the sum of their experts' products: moe_kernels.cu.
#include "ops/cuda/gemm.h"

namespace hylas::cuda {

struct SortArgs {
  View ids;  // [tokens, k] i32, the model's experts
  int64_t tokens = 0;
  int k = 0;
  int32_t expert_begin = 0;
  int32_t experts = 0;  // held here, at most kExpertsMax
  int32_t run_rows = 0;
  int32_t* pair_token = nullptr;   // [pairs]: token of each pair, by expert; may be null for moe_sort_padded
  int32_t* pair_of = nullptr;      // [tokens, k]: pair of each choice; -1: not held here
  int32_t* pair_choice = nullptr;  // [tokens * k]: of each pair t * k + j for choice j of token t; may be null
  RowRun* runs = nullptr;
  int32_t* run_count = nullptr;
  int32_t* counters = nullptr;  // moe_sort_padded: [experts], for its own use
};
// Runs of at most run_rows pairs of one expert; there are at most sort_runs_max of them.
void moe_sort(const SortArgs& args, Stream stream);
// The same without runs, and every expert's pairs begin at a multiple of run_rows: pair_expert (and pair_token) has
// `rows` = fp8_grouped_rows(tokens * k, experts, run_rows) elements, -1 where there is no pair; pair_expert [rows] says
// from where on there is none: a multiple of run_rows.
void moe_sort_padded(const SortArgs& args, int32_t* pair_expert, int64_t rows, Stream stream);
inline int64_t sort_runs_max(int64_t pairs, int64_t experts, int64_t run_rows) {
  return pairs / run_rows + (pairs < experts ? pairs : experts);
}

struct CombineArgs {
  View rows;  // [slices, rows, columns] f32, or with one slice bf16
  int64_t rows_slice_stride = 0;
  const int32_t* index = nullptr;  // [tokens, k]; -1 adds nothing
  int64_t index_stride = 0;
  // Without an index row t * k + j is that of choice j of token t, and ids [tokens, k] i32 tell whose rows are there:
  // those of the experts [expert_begin, expert_begin + experts).
  View ids;
  int32_t expert_begin = 0;
  int32_t experts = 0;
  View weights;  // [tokens, k] f32
  int k = 0;
  View shared;  // [slices, tokens, columns] f32, or beside bf16 rows bf16; data null: none
  int64_t shared_slice_stride = 0;
  View shared_logit;  // [tokens, 1] f32
  float* partials = nullptr;
  int64_t partials_slice_stride = 0;
  int slices = 0;
  int64_t tokens = 0;
  int64_t columns = 0;
};
// partials[s][t] = sum over k in order of weights[t][k] * rows[s][index[t][k]], then sigmoid(logit) * shared[s][t].
void moe_sum(const CombineArgs& args, Stream stream);

}  // namespace hylas::cuda
