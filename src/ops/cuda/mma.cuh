#pragma once
// The tensor cores' m16n8k16 on bf16, fed 32 inputs at a time, and copies that run beside the arithmetic.
//
// A lane reads eight neighbouring inputs of a row with one access: for lane 4 g + t inputs 8 t .. 8 t + 7 of row g. The
// sum over K does not ask for an order within a step, so the first four of them serve as the inputs that the
// instruction calls 2t, 2t + 1, 2t + 8, 2t + 9, on both sides alike, and the other four in the next instruction.
#include <cuda_bf16.h>

#include <cstdint>

namespace hylas::cuda {

__device__ __forceinline__ void mma_bf16(float (&sum)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
                                         uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

// sum += rows (g: `low`, g + 8: `high`) times column g over 32 inputs.
__device__ __forceinline__ void mma_32(float (&sum)[4], const uint4& low, const uint4& high, const uint4& column) {
  mma_bf16(sum, low.x, high.x, low.y, high.y, column.x, column.y);
  mma_bf16(sum, low.z, high.z, low.w, high.w, column.z, column.w);
}

// Two e4m3 values in the low bytes of `x`'s halves' high byte positions as two bf16: sign and magnitude move to their
// place, and the exponent's bias is made up for by an exact multiplication. 0x7f and 0xff read as +-480.
__device__ __forceinline__ uint32_t e4m3_pair_to_bf16(uint32_t high_bytes) {
  const uint32_t bits = ((high_bytes >> 4) & 0x07f007f0u) | (high_bytes & 0x80008000u);
  const __nv_bfloat162 bias = __float2bfloat162_rn(0x1p120f);
  const __nv_bfloat162 value = __hmul2(*reinterpret_cast<const __nv_bfloat162*>(&bits), bias);
  return *reinterpret_cast<const uint32_t*>(&value);
}

// Eight e4m3 values as eight bf16.
__device__ __forceinline__ uint4 e4m3_to_bf16(const uint2& bytes) {
  return {e4m3_pair_to_bf16(__byte_perm(bytes.x, 0, 0x1404)), e4m3_pair_to_bf16(__byte_perm(bytes.x, 0, 0x3424)),
          e4m3_pair_to_bf16(__byte_perm(bytes.y, 0, 0x1404)), e4m3_pair_to_bf16(__byte_perm(bytes.y, 0, 0x3424))};
}

// 16 bytes to shared memory behind the thread's back; zeros if not `there`.
__device__ __forceinline__ void copy_async(void* shared, const void* global, bool there) {
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  const int bytes = there ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(global), "r"(bytes));
}
__device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;"); }
template <int pending>
__device__ __forceinline__ void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(pending));
}

}  // namespace hylas::cuda
