#pragma once
// Values of rows and of partial sums, f32 or bf16 as they lie in memory, as sums take them.
#include <cuda_bf16.h>

namespace hylas::cuda {

using Bf16 = __nv_bfloat16;

// N neighbours, in accesses of up to 16 bytes.
template <class T, int N>
struct alignas(sizeof(T) * N < 16 ? sizeof(T) * N : 16) Values {
  T value[N];
};

__device__ __forceinline__ float value_of(float x) { return x; }
__device__ __forceinline__ float value_of(Bf16 x) { return __bfloat162float(x); }

// To nearest even, as the norms round the residual.
template <class T>
__device__ __forceinline__ T rounded(float x);
template <>
__device__ __forceinline__ float rounded<float>(float x) {
  return x;
}
template <>
__device__ __forceinline__ Bf16 rounded<Bf16>(float x) {
  return __float2bfloat16_rn(x);
}

}  // namespace hylas::cuda
