#pragma once
// silu of values that are rounded to bf16, with the bits of silu() (element.cuh) and a third of its instructions.
#include "ops/cuda/element.cuh"

namespace hylas::cuda {

// A unit or two in the last place off; below -16, where the exponent's rounding shows, more.
__device__ __forceinline__ float fast_silu(float x) { return __fdividef(x, 1.f + __expf(-x)); }

// Whether some values made of fast_silu may round to other bf16 than those made of silu do: they lie within kUnits (of
// f32's last place) of the middle between two, or their silu is of less than -16. Then all are made again, by silu.
class RoundingCheck {
 public:
  __device__ __forceinline__ void add(float silu_of, float value) {
    least_ = fminf(least_, silu_of);
    nearest_ = min(nearest_, (__float_as_uint(value) + 0x8000u + kUnits) & 0xffffu);
  }
  __device__ __forceinline__ bool fails() const { return nearest_ <= 2 * kUnits || least_ < -16.f; }

 private:
  static constexpr uint32_t kUnits = 24;
  float least_ = 0.f;
  uint32_t nearest_ = ~0u;
};

}  // namespace hylas::cuda
