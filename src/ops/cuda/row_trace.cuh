#pragma once
#include <cstdint>
namespace hylas::cuda {
static __device__ unsigned long long row_trace[4][32][160];  // DEV: [layer][mark][block]
__device__ __forceinline__ void mark(int layer, int what) {  // DEV
  if (threadIdx.x == 0 || (threadIdx.x >= 256 && threadIdx.x % 32 == 0)) {
    unsigned long long t;
    asm volatile("mov.u64 %0, %globaltimer;" : "=l"(t));
    row_trace[layer][what][blockIdx.x] = t;
  }
}
}
