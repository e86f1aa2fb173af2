#pragma once
// Products of experts with few rows each on the FP8 tensor cores: mma.sync on the weights as they are stored, and rows
// that every block quantizes for itself (quantize.h says how) and sorts by expert for itself: few_runs.cuh.
#include "ops/cuda/gemm.h"

namespace hylas::cuda {

constexpr int kFewRows = 16;

struct FewFp8Args {
  View x;  // bf16, rows at multiples of 16 bytes: of a token, or with by_pair of a pair
  bool by_pair = false;
  bool paired = false;  // as Product::paired; then out is bf16, else f32
  View ids;             // [tokens, k] i32, the model's experts: pair t * k + j is choice j of token t
  int64_t tokens = 0;
  int k = 0;
  int32_t expert_begin = 0;
  int32_t experts = 0;                  // held here; pairs of others are left out
  const WeightView* weights = nullptr;  // on the device, by expert
  const WeightView* others = nullptr;
  // One more expert, which all tokens have: its pair of token t is tokens * k + t.
  bool with_shared = false;
  WeightView shared, shared_other;
  int64_t inputs = 0;
  int64_t outputs = 0;  // multiples of 128 both
  View out;             // by pair
};

// Whether matrices of these inputs are taken, for so many pairs of so many experts.
bool few_fp8_takes(int64_t hidden, int64_t width, int64_t pairs, int64_t experts);
// The kernel before this one in the stream writes neither ids nor weights unless `paired`. The sum over each block of
// 128 inputs is multiplied by both scales and added in f32, in an order that the shape alone decides: a row's bits do
// not depend on other rows.
void few_fp8(const FewFp8Args& args, Stream stream);

}  // namespace hylas::cuda
