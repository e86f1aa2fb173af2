#pragma once
// What blocks of row_layers.cu hand each other: a value and its epoch in one word of eight bytes, which is written and
// read whole. Who reads it sees by the epoch whether the value is there: one trip through the second-level cache, no
// counter and no fence (NCCL's LL protocol).
#include <cstdint>

namespace hylas::cuda {

__device__ __forceinline__ void put_word(uint64_t* to, uint32_t value, uint32_t epoch) {
  asm volatile("st.relaxed.gpu.global.b64 [%0], %1;" ::"l"(to), "l"(static_cast<uint64_t>(epoch) << 32 | value)
               : "memory");
}

// The thread's N values, kStep words from each other, once all of them are of this epoch.
template <int kStep, int N>
__device__ __forceinline__ void take_words(const uint64_t* from, uint32_t (&values)[N], uint32_t epoch) {
  bool there;
  do {
    uint64_t word[N];
#pragma unroll
    for (int i = 0; i < N; ++i) {
      asm volatile("ld.relaxed.gpu.global.b64 %0, [%1];" : "=l"(word[i]) : "l"(from + i * kStep) : "memory");
    }
    there = true;
#pragma unroll
    for (int i = 0; i < N; ++i) {
      values[i] = static_cast<uint32_t>(word[i]);
      there = there && static_cast<uint32_t>(word[i] >> 32) == epoch;
    }
  } while (!there);
}

// Epochs of a launch, from that of its first layer on. The number is that of launches before it, which the last block
// of each counts; epochs are never 0, as memory is at first.
constexpr uint32_t kLaunchEpochs = 8;
__device__ __forceinline__ uint32_t first_epoch(const unsigned* launches) { return __ldcg(launches) * kLaunchEpochs + 1; }

}  // namespace hylas::cuda
