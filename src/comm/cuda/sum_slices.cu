#include "comm/cuda/sum_slices.h"

#include "tensor/cuda/cuda_error.h"

namespace hylas::cuda {
namespace {

constexpr int kThreads = 256;

__device__ __forceinline__ bool odd(int i) { return i % 2 == 1; }

// A tree over any power of two, with one value kept for each of its levels: slice by slice, two neighbours of a level
// become one of the next.
__global__ void sum_slices_kernel(const __grid_constant__ SumArgs args) {
  constexpr int kLevels = 7;
  static_assert(1 << (kLevels - 1) == kSumSlicesMax);
  const int64_t i = args.begin + blockIdx.x * static_cast<int64_t>(kThreads) + threadIdx.x;
  if (i >= args.end) return;
  float waiting[kLevels];
  float sum = 0.f;
  for (int s = 0; s < args.count; ++s) {
    sum = args.slices[s][i];
    bool going_up = true;
    int index = s;
#pragma unroll
    for (int level = 0; level < kLevels; ++level) {
      if (!going_up) continue;
      if (odd(index)) {
        sum = waiting[level] + sum;
        index /= 2;
      } else {
        waiting[level] = sum;
        going_up = false;
      }
    }
  }
  // The last slice closed all levels: what it left is the whole.
  args.out[i - args.begin] = sum;
}

}  // namespace

void sum_slices(const SumArgs& args, CUstream_st* stream) {
  const int64_t count = args.end - args.begin;
  if (count <= 0) return;
  sum_slices_kernel<<<static_cast<unsigned>((count + kThreads - 1) / kThreads), kThreads, 0, stream>>>(args);
  check_launch("the sum of ranks");
}

}  // namespace hylas::cuda
