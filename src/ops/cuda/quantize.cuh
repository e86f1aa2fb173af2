#pragma once
// The one place that says what an activation is in FP8: the kernels that quantize on their way agree bit for bit.
#include "ops/cuda/fp8_rows.h"
#include "ops/cuda/vector.cuh"

namespace hylas::cuda {

constexpr float kE4m3Max = 448.f;
constexpr float kE4m3LeastMaximum = 1e-10f;  // of a group's |x|: a group of zeros has a scale too

// x / scale rounded to nearest, without the division's many steps: `reciprocal` is 1 / scale rounded to nearest, so the
// product is at most two units off, the remainder exact and the second guess right.
__device__ __forceinline__ float quotient(float x, float scale, float reciprocal) {
  const float guess = x * reciprocal;
  return fmaf(fmaf(-guess, scale, x), reciprocal, guess);
}

__device__ __forceinline__ uint32_t e4m3_of_4(const uint2& values, float scale, float reciprocal) {
  uint32_t packed[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const uint32_t pair = i == 0 ? values.x : values.y;
    const float2 q = {quotient(__uint_as_float(pair << 16), scale, reciprocal),
                      quotient(__uint_as_float(pair & 0xffff0000u), scale, reciprocal)};
    packed[i] = __nv_cvt_float2_to_fp8x2(q, __NV_SATFINITE, __NV_E4M3);
  }
  return packed[0] | packed[1] << 16;
}

// 16 neighbouring bf16 values over their scale.
__device__ __forceinline__ uint4 e4m3_of_16(const uint4& low, const uint4& high, float scale, float reciprocal) {
  return {e4m3_of_4({low.x, low.y}, scale, reciprocal), e4m3_of_4({low.z, low.w}, scale, reciprocal),
          e4m3_of_4({high.x, high.y}, scale, reciprocal), e4m3_of_4({high.z, high.w}, scale, reciprocal)};
}

// The largest |x| so far, of even and of odd places.
__device__ __forceinline__ __nv_bfloat162 most_of(__nv_bfloat162 most, const uint4& values) {
  const auto* pairs = reinterpret_cast<const __nv_bfloat162*>(&values);
#pragma unroll
  for (int i = 0; i < 4; ++i) most = __hmax2(most, __habs2(pairs[i]));
  return most;
}

// The scale of a group whose values are spread over `lanes` neighbouring lanes, each with the maxima of its own; the
// lanes of `mask` come, whole groups.
template <int lanes>
__device__ __forceinline__ float scale_of(__nv_bfloat162 each, unsigned mask) {
  float most = fmaxf(kE4m3LeastMaximum, fmaxf(__low2float(each), __high2float(each)));
#pragma unroll
  for (int offset = lanes / 2; offset > 0; offset /= 2) most = fmaxf(most, __shfl_xor_sync(mask, most, offset));
  return most / kE4m3Max;
}

// What a kernel that makes rows does with them: a lane's neighbouring values (as bf16 has them) of a group of 128 that
// kLanes neighbouring lanes share, from the row's `column` on. All lanes of a group come, and lane 0 of kLanes has its
// first values.
template <int kLanes>
__device__ __forceinline__ void put_fp8(const float (&x)[128 / kLanes], const Fp8Rows& to, int64_t row,
                                        int64_t column) {
  constexpr int kEach = 128 / kLanes;
  __nv_bfloat162 pairs[kEach / 2], most = __floats2bfloat162_rn(0.f, 0.f);
#pragma unroll
  for (int i = 0; i < kEach / 2; ++i) {
    pairs[i] = __floats2bfloat162_rn(x[2 * i], x[2 * i + 1]);
    most = __hmax2(most, __habs2(pairs[i]));
  }
  const int lane = threadIdx.x % 32;
  const unsigned mask = kLanes == 32 ? ~0u : ((1u << kLanes % 32) - 1) << lane / kLanes * kLanes;
  const float scale = scale_of<kLanes>(most, mask), reciprocal = __frcp_rn(scale);
  Pack<uint32_t, kEach / 4> values;
#pragma unroll
  for (int i = 0; i < kEach / 4; ++i) {
    const auto* two = reinterpret_cast<const uint32_t*>(&pairs[2 * i]);
    values.value[i] = e4m3_of_4({two[0], two[1]}, scale, reciprocal);
  }
  *reinterpret_cast<Pack<uint32_t, kEach / 4>*>(static_cast<F8*>(to.data) + row * to.inputs + column) = values;
  if (lane % kLanes == 0) to.scale[column / 128 * to.scale_stride + row] = scale;
}

}  // namespace hylas::cuda
