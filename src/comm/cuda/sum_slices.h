#pragma once
// The sum of slice_tree.h on a GPU.
#include <cstdint>

#include "tensor/dtype.h"

struct CUstream_st;

namespace hylas::cuda {

constexpr int kSumSlicesMax = 64;

struct SumArgs {
  const void* slices[kSumSlicesMax] = {};
  DType type = DType::kF32;  // of the slices; or bf16, if they are added onto rows
  int32_t count = 0;         // a power of two
  int64_t begin = 0;
  int64_t end = 0;
  void* out = nullptr;
  DType out_type = DType::kF32;  // or bf16, where it is added to
  bool adds = false;
};
// out[i - begin] = the balanced binary tree over slices[..][i] in f32, with `adds` added to what was there. `out` may
// be slices[0] + begin. Asynchronous.
void sum_slices(const SumArgs& args, CUstream_st* stream);

}  // namespace hylas::cuda
