#pragma once
// Values as they lie in memory, f32 or bf16, read as and written from f32.
#include <cuda_bf16.h>

namespace hylas::cuda {

using Bf16 = __nv_bfloat16;

__device__ __forceinline__ float to_f32(float x) { return x; }
__device__ __forceinline__ float to_f32(Bf16 x) { return __bfloat162float(x); }

// To nearest even.
template <class T>
__device__ __forceinline__ T from_f32(float x);
template <>
__device__ __forceinline__ float from_f32<float>(float x) {
  return x;
}
template <>
__device__ __forceinline__ Bf16 from_f32<Bf16>(float x) {
  return __float2bfloat16_rn(x);
}

}  // namespace hylas::cuda
