#pragma once
// The l2 norm of queries and keys of the delta rule in prefill, as FlashInfer's kernel takes them.
#include "ops/cuda/element.cuh"

namespace hylas::cuda {

constexpr int kL2Dim = 128;
constexpr int kL2Lanes = kL2Dim / 8;  // neighbouring lanes of one head: a lane has eight values

// x, as bf16 has it, over the norm of its head. All lanes of a head come.
__device__ __forceinline__ void l2_normalise(float (&x)[8]) {
  float sum = 0.f;
#pragma unroll
  for (int i = 0; i < 8; ++i) x[i] = to_f32(from_f32<Bf16>(x[i]));
#pragma unroll
  for (int i = 0; i < 8; i += 2) sum = fmaf(x[i], x[i], fmaf(x[i + 1], x[i + 1], sum));
  const unsigned mask = 0xffffu << (threadIdx.x & kL2Lanes);
#pragma unroll
  for (int offset = kL2Lanes / 2; offset > 0; offset /= 2) sum += __shfl_xor_sync(mask, sum, offset);
  const float norm = 1.f / sqrtf(sum + 1e-6f);
#pragma unroll
  for (float& value : x) value *= norm;
}

}  // namespace hylas::cuda
