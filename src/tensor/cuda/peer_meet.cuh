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

// Nanoseconds of the GPU.
__device__ inline uint64_t time_ns() {
  uint64_t ns;
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(ns));
  return ns;
}

// At the end of a kernel that summed over ranks since `begin_ns`: its first block tells for all, since they meet. Such
// kernels of a rank come one after another. The host is told now and then: a step has too many of them to wait, at the
// end of each, for a write to its memory.
__device__ inline void add_sum_time(const Peers& peers, uint64_t begin_ns) {
  constexpr uint64_t kTellEveryNs = 1'000'000;
  if (blockIdx.x != 0 || threadIdx.x != 0) return;
  Signals& mine = *peers.signals[peers.rank];
  volatile uint64_t *sums_ns = &mine.sums_ns, *told_at_ns = &mine.told_at_ns;
  const uint64_t now_ns = time_ns(), total_ns = *sums_ns + now_ns - begin_ns;
  *sums_ns = total_ns;
  if (now_ns - *told_at_ns < kTellEveryNs) return;
  *told_at_ns = now_ns;
  *static_cast<volatile uint64_t*>(peers.sums_ns) = total_ns;
}

}  // namespace hylas::cuda
