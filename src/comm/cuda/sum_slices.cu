#include "comm/cuda/sum_slices.h"

#include "comm/cuda/values.cuh"
#include "tensor/cuda/cuda_error.h"

namespace hylas::cuda {
namespace {

constexpr int kThreads = 256;

__device__ __forceinline__ bool odd(int i) { return i % 2 == 1; }

// A tree over any power of two, with one value kept for each of its levels: slice by slice, two neighbours of a level
// become one of the next.
template <class P, class T, bool kAdds>
__global__ void sum_slices_kernel(const __grid_constant__ SumArgs args) {
  constexpr int kLevels = 7;
  static_assert(1 << (kLevels - 1) == kSumSlicesMax);
  const int64_t i = args.begin + blockIdx.x * static_cast<int64_t>(kThreads) + threadIdx.x;
  if (i >= args.end) return;
  float waiting[kLevels];
  float sum = 0.f;
  for (int s = 0; s < args.count; ++s) {
    sum = to_f32(static_cast<const P*>(args.slices[s])[i]);
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
  T* out = static_cast<T*>(args.out) + (i - args.begin);
  *out = from_f32<T>(kAdds ? to_f32(*out) + sum : sum);
}

}  // namespace

void sum_slices(const SumArgs& args, CUstream_st* stream) {
  const int64_t count = args.end - args.begin;
  if (count <= 0) return;
  const auto start = [&](auto* kernel) {
    kernel<<<static_cast<unsigned>((count + kThreads - 1) / kThreads), kThreads, 0, stream>>>(args);
  };
  const bool bf16_slices = args.type == DType::kBF16, bf16_rows = args.out_type == DType::kBF16;
  if (!args.adds) {
    start(sum_slices_kernel<float, float, false>);
  } else if (bf16_slices) {
    bf16_rows ? start(sum_slices_kernel<Bf16, Bf16, true>) : start(sum_slices_kernel<Bf16, float, true>);
  } else {
    bf16_rows ? start(sum_slices_kernel<float, Bf16, true>) : start(sum_slices_kernel<float, float, true>);
  }
  check_launch("the sum of ranks");
}

}  // namespace hylas::cuda
