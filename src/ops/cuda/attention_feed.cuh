#pragma once
// Keys and values as operands of the tensor cores, by the type that they are stored in.
#include "ops/cuda/attention_bf16.cuh"
#include "ops/cuda/e4m3.cuh"

namespace hylas::cuda {

// What the tensor cores are fed with: bf16 as it is, e4m3 exactly in f16, which one instruction makes of it.
template <class K>
struct Feed;
template <>
struct Feed<Bf16> {
  using Mean = float;                             // of a piece's values, on the way to the merge
  static constexpr int kLaneDims = 8;             // neighbouring dimensions of a key that a lane takes at once
  static constexpr int kQueryStride = kDim + 32;  // so that a warp's reads meet no bank twice
  static __device__ __forceinline__ uint32_t pair(float x, float y) { return pack(x, y); }
  static __device__ __forceinline__ uint4 query(const uint4& eight) { return eight; }
  static __device__ __forceinline__ void mma(float (&sum)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
                                             uint32_t b0, uint32_t b1) {
    mma_bf16(sum, a0, a1, a2, a3, b0, b1);
  }
  // Dimensions 2 i .. of a key as pairs.
  static __device__ __forceinline__ void key(const uint4& from, uint32_t (&to)[4]) {
    to[0] = from.x, to[1] = from.y, to[2] = from.z, to[3] = from.w;
  }
  // Four neighbouring dimensions of two keys: the keys' pair for each dimension.
  static __device__ __forceinline__ void values(const Bf16* first, const Bf16* second, uint32_t (&to)[4]) {
    const uint2 a = *reinterpret_cast<const uint2*>(first), b = *reinterpret_cast<const uint2*>(second);
    to[0] = __byte_perm(a.x, b.x, 0x5410);
    to[1] = __byte_perm(a.x, b.x, 0x7632);
    to[2] = __byte_perm(a.y, b.y, 0x5410);
    to[3] = __byte_perm(a.y, b.y, 0x7632);
  }
};
template <>
struct Feed<F8> {
  using Mean = F16;
  static constexpr int kLaneDims = 16;
  static constexpr int kQueryStride = kDim + 8;
  static __device__ __forceinline__ uint32_t pair(float x, float y) {
    const __half2 value = __floats2half2_rn(x, y);
    return *reinterpret_cast<const uint32_t*>(&value);
  }
  // bf16 to f16: exact from 2^-17 to 65504, which normed queries stay in; no more than that.
  static __device__ __forceinline__ uint4 query(const uint4& eight) {
    const auto two = [](uint32_t bits) {
      const __half2 most = __float2half2_rn(65504.f);
      __half2 value = __floats2half2_rn(__uint_as_float(bits << 16), __uint_as_float(bits & 0xffff0000u));
      value = __hmin2_nan(__hmax2_nan(value, __hneg2(most)), most);
      return *reinterpret_cast<const uint32_t*>(&value);
    };
    return {two(eight.x), two(eight.y), two(eight.z), two(eight.w)};
  }
  static __device__ __forceinline__ void mma(float (&sum)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
                                             uint32_t b0, uint32_t b1) {
    mma_f16(sum, a0, a1, a2, a3, b0, b1);
  }
  static __device__ __forceinline__ void widen(uint32_t four, uint32_t& low, uint32_t& high) {
    asm("{.reg .b16 a, b; mov.b32 {a, b}, %2; cvt.rn.f16x2.e4m3x2 %0, a; cvt.rn.f16x2.e4m3x2 %1, b;}"
        : "=r"(low), "=r"(high)
        : "r"(four));
  }
  static __device__ __forceinline__ void key(const uint4& from, uint32_t (&to)[8]) {
    widen(from.x, to[0], to[1]);
    widen(from.y, to[2], to[3]);
    widen(from.z, to[4], to[5]);
    widen(from.w, to[6], to[7]);
  }
  static __device__ __forceinline__ void values(const F8* first, const F8* second, uint32_t (&to)[4]) {
    const uint32_t a = *reinterpret_cast<const uint32_t*>(first), b = *reinterpret_cast<const uint32_t*>(second);
    widen(__byte_perm(a, b, 0x5140), to[0], to[1]);
    widen(__byte_perm(a, b, 0x7362), to[2], to[3]);
  }
};

}  // namespace hylas::cuda
