#pragma once
// The one place that says what an activation is in FP8: the kernels that quantize on their way agree bit for bit.
#include "ops/cuda/element.cuh"

namespace hylas::cuda {

constexpr float kE4m3Max = 448.f;
constexpr float kE4m3LeastMaximum = 1e-10f;  // of a group's |x|: a group of zeros has a scale too

// x / scale rounded to nearest, without the division's many steps: `reciprocal` is 1 / scale rounded to nearest, so the
// product is at most two units off, the remainder exact and the second guess right.
__device__ __forceinline__ float quotient(float x, float scale, float reciprocal) {
  const float guess = x * reciprocal;
  return fmaf(fmaf(-guess, scale, x), reciprocal, guess);
}

}  // namespace hylas::cuda
