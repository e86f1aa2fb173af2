#pragma once
// The sum of slice_tree.h on a GPU.
#include <cstdint>

struct CUstream_st;

namespace hylas::cuda {

constexpr int kSumSlicesMax = 64;

struct SumArgs {
  const float* slices[kSumSlicesMax] = {};
  int32_t count = 0;  // a power of two
  int64_t begin = 0;
  int64_t end = 0;
  float* out = nullptr;
};
// out[i - begin] = the balanced binary tree over slices[..][i]. `out` may be slices[0] + begin. Asynchronous.
void sum_slices(const SumArgs& args, CUstream_st* stream);

}  // namespace hylas::cuda
