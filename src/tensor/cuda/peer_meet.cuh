#pragma once
// How the kernels of ranks on GPUs of their own meet.
#include "tensor/cuda/peers.h"

namespace hylas::cuda {

// All ranks' blocks of this index come here before any goes on: what they wrote before can be read, what they read be
// overwritten. The fence orders the writes of all threads to other GPUs before the signal. By all threads of a block.
__device__ inline void meet(const Peers& peers) {
  __threadfence_system();
  __syncthreads();
  const int peer = static_cast<int>(threadIdx.x);
  if (peer < 32) {
    Signals& mine = *peers.signals[peers.rank];
    volatile uint32_t* meetings = &mine.meetings[blockIdx.x];
    const uint32_t now = *meetings + 1;
    __syncwarp();
    if (peer == 0) *meetings = now;
    if (peer < peers.size) {
      uint32_t* there = &peers.signals[peer]->arrived[blockIdx.x][peers.rank];
      const uint32_t* here = &mine.arrived[blockIdx.x][peer];
      asm volatile("st.release.sys.global.u32 [%0], %1;" ::"l"(there), "r"(now) : "memory");
      uint32_t seen;
      do {
        asm volatile("ld.acquire.sys.global.u32 %0, [%1];" : "=r"(seen) : "l"(here) : "memory");
      } while (static_cast<int32_t>(seen - now) < 0);  // the other may be further already
    }
  }
  __syncthreads();
}

}  // namespace hylas::cuda
