#pragma once
// What blocks of row_layers.cu hand each other: a value and its epoch in one word of eight bytes, which is written and
// read whole. Who reads it sees by the epoch whether the value is there: one trip through the second-level cache, no
// counter and no fence (NCCL's LL protocol).
//
// One buffer of each kind is enough for all layers. Every block waits, in every layer, for something of each other one
// (all of the residual, twice), and puts its own share of the next residual only after all its warps have read what
// they wanted before. So who puts a word again has seen of every block that it has read the one before.
#include "ops/cuda/element.cuh"
#include "ops/cuda/row_layers.h"

namespace hylas::cuda {

// Epochs of a launch, from that of its first layer on. The number is that of launches before it, which the last block
// of each counts; epochs are never 0, as memory is at first. They begin again after 2^29 launches, when no word is as
// old.
constexpr uint32_t kLaunchEpochs = 8;
static_assert(kLaunchEpochs > kRowLayersMax);
__device__ __forceinline__ uint32_t first_epoch(const unsigned* launches) {
  return __ldcg(launches) * kLaunchEpochs + 1;
}

__device__ __forceinline__ void put_word(uint64_t* to, uint32_t value, uint32_t epoch) {
  asm volatile("st.relaxed.gpu.global.b64 [%0], %1;" ::"l"(to), "l"(static_cast<uint64_t>(epoch) << 32 | value)
               : "memory");
}
// A value in bf16 and that of the odd lane behind it. All lanes of the warp; of even ones.
__device__ __forceinline__ uint32_t pair_of(float value) {
  const uint32_t mine = __bfloat16_as_ushort(from_f32<Bf16>(value));
  return mine | __shfl_xor_sync(~0u, mine, 1) << 16;
}

// Rounds of looking for words. Some ten seconds of them are not a wait any more: a word is missing, and the process had
// better end than stand still.
class RowPolls {
 public:
  __device__ __forceinline__ void count() {
    if (++rounds_ == 1u << 25) __trap();
  }

 private:
  uint32_t rounds_ = 0;
};

// The thread's N values, from at(i) on, once all of them are of this epoch. What is there is not read again.
template <int N, class At>
__device__ __forceinline__ void take_words(uint32_t (&values)[N], uint32_t epoch, At at) {
  uint64_t word[N] = {};
  RowPolls polls;
  bool there;
  do {
    polls.count();
#pragma unroll
    for (int i = 0; i < N; ++i) {
      const uint32_t missing = static_cast<uint32_t>(word[i] >> 32) ^ epoch;
      asm volatile(
          "{\n"
          ".reg .pred missing;\n"
          "setp.ne.u32 missing, %1, 0;\n"
          "@missing ld.relaxed.gpu.global.b64 %0, [%2];\n"
          "}\n"
          : "+l"(word[i])
          : "r"(missing), "l"(at(i))
          : "memory");
    }
    there = true;
#pragma unroll
    for (int i = 0; i < N; ++i) there = there && static_cast<uint32_t>(word[i] >> 32) == epoch;
  } while (!there);
#pragma unroll
  for (int i = 0; i < N; ++i) values[i] = static_cast<uint32_t>(word[i]);
}
// The same of two neighbouring words each, 16 bytes.
template <int N, class At>
__device__ __forceinline__ void take_twins(uint2 (&values)[N], uint32_t epoch, At at) {
  uint64_t word[N][2] = {};
  RowPolls polls;
  bool there;
  do {
    polls.count();
#pragma unroll
    for (int i = 0; i < N; ++i) {
      const uint32_t missing =
          (static_cast<uint32_t>(word[i][0] >> 32) ^ epoch) | (static_cast<uint32_t>(word[i][1] >> 32) ^ epoch);
      asm volatile(
          "{\n"
          ".reg .pred missing;\n"
          "setp.ne.u32 missing, %2, 0;\n"
          "@missing ld.relaxed.gpu.global.v2.b64 {%0, %1}, [%3];\n"
          "}\n"
          : "+l"(word[i][0]), "+l"(word[i][1])
          : "r"(missing), "l"(at(i))
          : "memory");
    }
    there = true;
#pragma unroll
    for (int i = 0; i < N; ++i) {
      there =
          there && static_cast<uint32_t>(word[i][0] >> 32) == epoch && static_cast<uint32_t>(word[i][1] >> 32) == epoch;
    }
  } while (!there);
#pragma unroll
  for (int i = 0; i < N; ++i) {
    values[i] = {static_cast<uint32_t>(word[i][0]), static_cast<uint32_t>(word[i][1])};
  }
}

// Two channels' results of the delta rule, a pair of bf16, and their gates, in one word of 16 bytes.
struct alignas(16) RowResult {
  float gate[2];
  uint32_t pair, epoch;
};
__device__ __forceinline__ void put_result(RowResult* to, float2 gate, uint32_t pair, uint32_t epoch) {
  asm volatile(
      "{\n"
      ".reg .b64 low, high;\n"
      ".reg .b128 word;\n"
      "mov.b64 low, {%1, %2};\n"
      "mov.b64 high, {%3, %4};\n"
      "mov.b128 word, {low, high};\n"
      "st.relaxed.gpu.global.b128 [%0], word;\n"
      "}\n" ::"l"(to),
      "f"(gate.x), "f"(gate.y), "r"(pair), "r"(epoch)
      : "memory");
}
__device__ __forceinline__ void look_at_result(RowResult& word, const RowResult* from, uint32_t missing) {
  asm volatile(
      "{\n"
      ".reg .pred missing;\n"
      ".reg .b64 low, high;\n"
      ".reg .b128 word;\n"
      "mov.b64 low, {%0, %1};\n"
      "mov.b64 high, {%2, %3};\n"
      "mov.b128 word, {low, high};\n"
      "setp.ne.u32 missing, %4, 0;\n"
      "@missing ld.relaxed.gpu.global.b128 word, [%5];\n"
      "mov.b128 {low, high}, word;\n"
      "mov.b64 {%0, %1}, low;\n"
      "mov.b64 {%2, %3}, high;\n"
      "}\n"
      : "+f"(word.gate[0]), "+f"(word.gate[1]), "+r"(word.pair), "+r"(word.epoch)
      : "r"(missing), "l"(from)
      : "memory");
}
// The lane's two words of each of N heads, from at(i) on: a head's even words come before its odd ones.
constexpr int kResultStep = row_shape::kDim / 4;
template <int N, class At>
__device__ __forceinline__ void take_results(RowResult (&words)[N][2], uint32_t epoch, At at) {
#pragma unroll
  for (int i = 0; i < N; ++i) words[i][0] = words[i][1] = {};
  RowPolls polls;
  bool there;
  do {
    polls.count();
    there = true;
#pragma unroll
    for (int i = 0; i < 2 * N; ++i) {
      RowResult& word = words[i / 2][i % 2];
      look_at_result(word, at(i / 2) + i % 2 * kResultStep, word.epoch ^ epoch);
    }
#pragma unroll
    for (int i = 0; i < 2 * N; ++i) there = there && words[i / 2][i % 2].epoch == epoch;
  } while (!there);
}

// The residual: of eight neighbouring values, which a thread reads, two twins of pairs of bf16. All blocks look for the
// same words at the same time; copies, each for some of the blocks, spread them over more of the cache.
struct RowResidual {
  static constexpr int kCopies = 4;
  alignas(16) uint64_t word[kCopies][2][row_shape::kHidden / 8][2];

  // Eight values of `thread`.
  __device__ __forceinline__ uint4 take(int thread, uint32_t epoch) const {
    uint2 of[2];
    take_twins(of, epoch, [&](int i) { return word[blockIdx.x % kCopies][i][thread]; });
    return {of[0].x, of[0].y, of[1].x, of[1].y};
  }
  // Values from 16 * `tile` on of the warp's first 16 lanes. All lanes.
  __device__ __forceinline__ void put(int tile, float value, uint32_t epoch) {
    static_assert(kCopies * 8 == 32);
    const int lane = threadIdx.x % 32, n = lane % 8;
    const uint32_t pair = __shfl_sync(~0u, pair_of(value), 2 * n);
    put_word(&word[lane / 8][n / 2 % 2][2 * tile + n / 4][n % 2], pair, epoch);
  }
};

// What the launch's multiprocessors hand each other. Pairs are of bf16.
struct RowScratch {
  alignas(16) uint64_t heads[row_shape::kKeyHeads][2 * row_shape::kDim];  // q and k, before the norm: f32
  RowResult results[row_shape::kValueHeads][row_shape::kDim / 2];
  RowResidual mixed, fed;                                                       // behind the mixer, behind the experts
  alignas(16) uint64_t halves[row_shape::kChoices + 1][row_shape::kWidth / 2];  // the shared expert's last: pairs
  uint64_t logits[row_shape::kExperts + 1];                                     // the shared expert's last: f32
};
static_assert(sizeof(RowScratch) <= kRowLayersScratch);

}  // namespace hylas::cuda
