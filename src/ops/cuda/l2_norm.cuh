#pragma once
// The l2 norm of queries and keys of the delta rule in prefill, as FlashInfer's kernel takes them.
#include "ops/cuda/element.cuh"

namespace hylas::cuda {

constexpr int kL2Dim = 128;  // of a head, which is a warp's
constexpr int kL2Each = kL2Dim / 32;

// A lane's four neighbouring values, as bf16 has them, over the norm of the head. All lanes come.
__device__ __forceinline__ void l2_normalise(float (&x)[kL2Each]) {
#pragma unroll
  for (float& value : x) value = to_f32(from_f32<Bf16>(value));
  const auto add = [&](float sum) {
    return fmaf(x[2], x[2], fmaf(x[3], x[3], fmaf(x[0], x[0], fmaf(x[1], x[1], sum))));
  };
  // Eight values in a row, in the second of two lanes, then a tree.
  float sum = add(__shfl_xor_sync(~0u, add(0.f), 1));
#pragma unroll
  for (int offset = 16; offset > 1; offset /= 2) sum += __shfl_xor_sync(~0u, sum, offset);
  sum = __shfl_sync(~0u, sum, threadIdx.x % 32 | 1);
  const float norm = 1.f / sqrtf(sum + 1e-6f);
#pragma unroll
  for (float& value : x) value *= norm;
}

}  // namespace hylas::cuda
