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

// In shared memory: the time of a kernel that sums over ranks. The first thread of its first block keeps it for all
// blocks, since they meet. Such kernels of a rank come one after another.
class SumClock {
 public:
  // As the kernel begins, behind follow().
  __device__ void begin() {
    if (keeps()) begin_ns_ = time_ns();
  }
  // Behind the first meeting, whose fence might wait for it: what the kernels before left comes beside what the other
  // ranks show, which takes longer, and no thread has registers for it.
  __device__ void read(const Peers& peers) {
    if (!keeps()) return;
    const auto to = static_cast<uint32_t>(__cvta_generic_to_shared(&before_));
    const SumTime* from = &peers.signals[peers.rank]->sum_time;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
  }
  // As the kernel ends. The host is told now and then: a step has too many such kernels to wait, at the end of each,
  // for a write to its memory.
  __device__ void end(const Peers& peers) const {
    constexpr uint64_t kTellEveryNs = 1'000'000;
    static_assert(sizeof(SumTime) == 16);
    if (!keeps()) return;
    asm volatile("cp.async.wait_all;" ::: "memory");
    volatile SumTime& time = peers.signals[peers.rank]->sum_time;
    const uint64_t now_ns = time_ns(), total_ns = before_.sums_ns + now_ns - begin_ns_;
    time.sums_ns = total_ns;
    if (now_ns - before_.told_at_ns < kTellEveryNs) return;
    time.told_at_ns = now_ns;
    *static_cast<volatile uint64_t*>(peers.sums_ns) = total_ns;
  }

 private:
  __device__ static bool keeps() { return blockIdx.x == 0 && threadIdx.x == 0; }

  SumTime before_;
  uint64_t begin_ns_;
};

}  // namespace hylas::cuda
