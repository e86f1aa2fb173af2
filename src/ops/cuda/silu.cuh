#pragma once
// silu of values that are rounded to bf16, with the bits of silu() (element.cuh) and a third of its instructions.
#include <cstdint>

#include "ops/cuda/element.cuh"

namespace hylas::cuda {

// Within 12 units of f32's last place of silu(), for x of at least -8.
__device__ __forceinline__ float quick_silu(float x) {
  float power, inverse;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x * -1.44269504f));
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(inverse) : "f"(1.f + power));
  return x * inverse;
}

// Whether some values made of quick_silu may round to other bf16 than those made of silu do: they lie so close to the
// middle between two, or their silu is of less than -8. Then all are made again, by silu. Tried for every x there is.
class RoundingCheck {
 public:
  __device__ __forceinline__ void add(float silu_of, float value) {
    least_ = fminf(least_, silu_of);
    nearest_ = min(nearest_, (__float_as_uint(value) + 0x8000u + kUnits) & 0xffffu);
  }
  __device__ __forceinline__ bool fails() const { return nearest_ <= 2 * kUnits || least_ < -8.f; }

 private:
  static constexpr uint32_t kUnits = 14;
  float least_ = 0.f;
  uint32_t nearest_ = ~0u;
};

}  // namespace hylas::cuda
