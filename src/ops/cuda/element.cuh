#pragma once
// Element types as they lie in memory, read as and written from f32; and the choice of a kernel by type.
#include <cuda_fp16.h>
#include <cuda_fp8.h>

#include <cstdint>

#include "tensor/cuda/f32_bf16.cuh"
#include "tensor/dtype.h"

namespace hylas::cuda {

using F16 = __half;
using F8 = __nv_fp8_e4m3;

__device__ __forceinline__ float to_f32(F16 x) { return __half2float(x); }
__device__ __forceinline__ float to_f32(F8 x) { return static_cast<float>(x); }

// Round to nearest even and saturate (a state must not become infinite).
template <>
__device__ __forceinline__ F16 from_f32<F16>(float x) {
  return __float2half_rn(x != x ? x : fminf(fmaxf(x, -65504.f), 65504.f));
}
template <>
__device__ __forceinline__ F8 from_f32<F8>(float x) {
  F8 value;
  value.__x = __nv_cvt_float_to_fp8(x, __NV_SATFINITE, __NV_E4M3);
  return value;
}

__device__ __forceinline__ float sigmoid(float x) { return 1.f / (1.f + expf(-x)); }
__device__ __forceinline__ float silu(float x) { return x / (1.f + expf(-x)); }

// body(T{}) with the type of `dtype`; types outside the list never come: the host has checked.
template <class Body>
void with_f32_bf16(DType dtype, Body&& body) {
  if (dtype == DType::kF32) {
    body(float{});
  } else {
    body(Bf16{});
  }
}
template <class Body>
void with_state_type(DType dtype, Body&& body) {
  if (dtype == DType::kF16) {
    body(F16{});
  } else {
    with_f32_bf16(dtype, body);
  }
}
template <class Body>
void with_kv_type(DType dtype, Body&& body) {
  if (dtype == DType::kF8E4M3) {
    body(F8{});
  } else {
    with_f32_bf16(dtype, body);
  }
}

// Sum over a block of `threads` (a multiple of 32, at most 1024) in a fixed order; every thread gets it. `memory` holds
// 32 floats; one barrier more and it may be used again.
__device__ __forceinline__ float warp_sum(float x) {
  for (int offset = 16; offset > 0; offset >>= 1) x += __shfl_xor_sync(~0u, x, offset);
  return x;
}
__device__ __forceinline__ float block_sum(float x, float* memory) {
  x = warp_sum(x);
  const int warps = (blockDim.x + 31) / 32;
  if (warps == 1) return x;
  __syncthreads();
  if (threadIdx.x % 32 == 0) memory[threadIdx.x / 32] = x;
  __syncthreads();
  float sum = 0.f;
  for (int i = 0; i < warps; ++i) sum += memory[i];
  return sum;
}

}  // namespace hylas::cuda
