#pragma once
// Experts with few rows each on the FP8 tensor cores, gate, up and down products in one launch: weights as they are
// stored, rows that every block sorts by expert for itself (few_runs.cuh).
#include <cstddef>

#include "ops/cuda/fp8_rows.h"
#include "ops/cuda/gemm.h"
#include "ops/cuda/tensor_map.h"
#include "ops/fp8_plan.h"

namespace hylas::cuda {

constexpr int kFewRows = 16;
constexpr int kFewTileRows = kFewPieceOutputs;  // of a weight; paired: of both

// The matrices of experts, one behind the other, scales too. Paired: two of each, in the order of their places.
struct FewWeights {
  CUtensorMap map = {};
  const std::byte* data = nullptr;   // of the first expert; paired: of its matrix that lies first
  const std::byte* other = nullptr;  // paired: of the other one
  int64_t stride = 0;                // between outputs
  int64_t expert_bytes = 0;          // between experts
  const float* scale = nullptr;
  const float* other_scale = nullptr;
  bool other_is_gated = true;  // silu goes over the first matrix's products
  int64_t scale_stride = 0;    // between blocks of 128 outputs
  int64_t expert_stride = 0;   // of scales
};

// A matrix of every expert, or gate and up of each.
struct FewProduct {
  FewWeights weights;
  FewWeights shared;  // of one more expert
  int64_t inputs = 0;
  int64_t outputs = 0;  // multiples of 128 both
};

// Counters that a launch needs: zeros on the device, and again when it is done. Two launches that may run at the same
// time have different ones.
constexpr int64_t kFewCounters = 4096;

struct FewFp8Args {
  Fp8Rows x;  // [tokens, hidden]; chosen_fp8 has its own
  View ids;   // [tokens, k] i32, the model's experts: pair t * k + j is choice j of token t
  int64_t tokens = 0;
  int k = 0;
  int32_t expert_begin = 0;
  int32_t experts = 0;  // held here; pairs of others are left out
  // One more expert, which all tokens have: its pair of token t is tokens * k + t.
  bool with_shared = false;
  FewProduct up, down;  // `up` paired
  View halves;          // [pairs, width] bf16: silu(gate) * up, each rounded to bf16
  View out;             // [pairs, hidden] f32
  int32_t* counters = nullptr;
};

// `count` matrices of `outputs` rows from `first` on; with `up` as many pairs, of which `first` and `up` are one, and
// the next lie twice as far from each as they do from each other.
FewWeights few_weights(const WeightView& first, const WeightView* up, int64_t count, int64_t outputs, int64_t inputs);
// Whether matrices of these inputs are taken, for so many pairs.
bool few_fp8_takes(int64_t hidden, int64_t width, int64_t pairs);
// The sum over each block of 128 inputs is multiplied by both scales and added in f32, in ascending order: a row's bits
// do not depend on other rows. By so many blocks, one for each multiprocessor.
void few_fp8(const FewFp8Args& args, int32_t blocks, Stream stream);

// gemm_fp8_chosen.cu: the same, of rows in bf16, for so few tokens times `choices`, those that a token has among all
// ranks' experts: their sums come in another order, so this alone decides who makes them.
constexpr int64_t kChosenPairs = 16;
inline bool chosen_fp8_takes(int64_t tokens, int64_t choices) { return tokens * choices <= kChosenPairs; }
void chosen_fp8(const FewFp8Args& args, const View& x, Stream stream);

}  // namespace hylas::cuda
