#pragma once
// What both forms of the delta rule compute per token and head.
#include "ops/cuda/delta.h"
#include "ops/cuda/element.cuh"

namespace hylas::cuda {

__device__ __forceinline__ float element(const void* data, DType dtype, int64_t index) {
  if (dtype == DType::kF32) return static_cast<const float*>(data)[index];
  return to_f32(static_cast<const Bf16*>(data)[index]);
}

// g = -exp(a_log) softplus(a + dt_bias), the logarithm of the decay; <= 0.
__device__ __forceinline__ float log_decay(float a, float dt_bias, float a_log) {
  const float x = a + dt_bias;
  const float softplus = x > 20.f ? x : log1pf(expf(x));
  return -expf(a_log) * softplus;
}
__device__ __forceinline__ float log_decay(const DeltaArgs& args, int64_t t, int head) {
  return log_decay(element(args.a.data, args.a.dtype, t * args.a.stride + head),
                   element(args.dt_bias, args.dt_bias_dtype, head), element(args.a_log, args.a_log_dtype, head));
}

__device__ __forceinline__ float write_strength(const DeltaArgs& args, int64_t t, int head) {
  return sigmoid(element(args.b.data, args.b.dtype, t * args.b.stride + head));
}

}  // namespace hylas::cuda
