#pragma once
// What the first warps of a block of delta_mixer.cu make: q, k and v of a value head, its gates, and the gated norm of
// its results. All that they read comes to shared memory past their registers: a multiprocessor counts loads to
// registers together, so to wait for any of these would be to wait for the state, which is on its way by then.
#include <cstddef>

#include "ops/cuda/copy_ahead.cuh"
#include "ops/cuda/delta_gates.cuh"
#include "ops/cuda/delta_mixer.h"
#include "ops/cuda/quantize.cuh"

namespace hylas::cuda::mixer {

constexpr int kDim = kDeltaDimMax;
constexpr int kGroups = 4;  // of keys: key i * kGroups + g belongs to group g
constexpr int kHeld = kDim / kGroups;
constexpr int kHistory = 3;
constexpr int kPieces = kDim / 32;  // channels of a lane where a warp has all of a head: lane + 32 j

// Of the first warps.
enum Role { kQuery, kKey, kValue, kGates };

// Of a group; a warp that goes through neighbouring keys meets no bank twice.
constexpr int kKeyRow = kHeld + 8;
constexpr int kOldWords = kPieces * kHistory / 4;  // of 8 bytes, of a lane's channels

// As it lies in memory: bf16, or f32 in twice the room.
struct Ahead {
  uint2 old[kGates][kOldWords][32];  // by role and lane: the windows of four channels in bf16
  union {                            // four blocks of a multiprocessor stay within 64 KB
    uint4 taps[kGates][kPieces][32];
    float results[kGroups][kDim];  // sums over the keys of a group, when the taps have been used
  };
  uint2 newest[kGates + 1][32];  // inputs of the channels; the last: z
  uint2 norm[2][32];
  uint32_t bias, rate;  // with their neighbour, if in bf16
  float a, b;
};

struct Shared {
  alignas(16) float query[kGroups][kKeyRow];
  alignas(16) float key[kGroups][kKeyRow];
  alignas(16) float value[kDim];
  alignas(16) float gate[kDim];           // silu of z
  alignas(16) float sums[kGroups][kDim];  // what the keys of a group recall
  alignas(16) Ahead ahead;
  float decay, beta;
};

__device__ __forceinline__ float bf16_of(uint32_t two, int which) {
  return __uint_as_float(which % 2 == 0 ? two << 16 : two & 0xffff0000u);
}

// Element `index` of f32 or bf16: the four bytes that hold it, and what they say. One load for both types: of two, one
// of which is left out, the second waits for the first.
__device__ __forceinline__ const uint32_t* word_of(const void* data, DType dtype, int64_t index) {
  return static_cast<const uint32_t*>(data) + (dtype == DType::kF32 ? index : index / 2);
}
__device__ __forceinline__ float value_of(uint32_t word, DType dtype, int64_t index) {
  return dtype == DType::kF32 ? __uint_as_float(word) : bf16_of(word, static_cast<int>(index % 2));
}

// The convolution of a lane's four neighbouring channels.
struct Window {
  static __device__ __forceinline__ void read(const ConvArgs& args, int slot, int channel, int role, Ahead& to) {
    const int lane = threadIdx.x % 32;
    const Bf16* pool = static_cast<const Bf16*>(args.pool) + max(slot, 0) * args.slot_stride + channel * kHistory;
#pragma unroll
    for (int i = 0; i < kOldWords; ++i) copy_ahead<8>(&to.old[role][i][lane], pool + 4 * i, slot >= 0);
    const bool wide = args.weight_dtype == DType::kF32;
    const auto* taps = static_cast<const std::byte*>(args.weight) + channel * kPieces * (wide ? 4 : 2);
#pragma unroll
    for (int i = 0; i < (wide ? kPieces : kPieces / 2); ++i) {
      copy_ahead<16>(&to.taps[role][i][lane], taps + 16 * i, true);
    }
  }
  static __device__ __forceinline__ void read_newest(const ConvArgs& args, int64_t t, int channel, int role,
                                                     Ahead& to) {
    const Bf16* u = static_cast<const Bf16*>(args.u.data) + t * args.u.stride + channel;
    copy_ahead<8>(&to.newest[role][threadIdx.x % 32], u, true);
  }

  uint2 old[kOldWords], newest;
  __device__ __forceinline__ Window(const Ahead& from, int role) : newest(from.newest[role][threadIdx.x % 32]) {
#pragma unroll
    for (int i = 0; i < kOldWords; ++i) old[i] = from.old[role][i][threadIdx.x % 32];
  }
  // Input `i` of the window of channel j; its newest is input 3.
  __device__ __forceinline__ uint32_t input(int j, int i) const {
    const int at = i < kHistory ? j * kHistory + i : j;
    const uint2 four = i < kHistory ? old[at / 4] : newest;
    const uint32_t two = at % 4 < 2 ? four.x : four.y;
    return at % 2 == 0 ? two & 0xffffu : two >> 16;
  }
  // silu of the whole sums, as bf16 has it.
  __device__ __forceinline__ void convolve(DType weight, const Ahead& from, int role, float (&x)[kPieces]) const {
    const bool wide = weight == DType::kF32;
#pragma unroll
    for (int j = 0; j < kPieces; ++j) {
      const uint4 four = from.taps[role][wide ? j : j / 2][threadIdx.x % 32];
      const uint32_t low = j % 2 == 0 ? four.x : four.z, high = j % 2 == 0 ? four.y : four.w;
      const float tap[] = {
          wide ? __uint_as_float(four.x) : bf16_of(low, 0), wide ? __uint_as_float(four.y) : bf16_of(low, 1),
          wide ? __uint_as_float(four.z) : bf16_of(high, 0), wide ? __uint_as_float(four.w) : bf16_of(high, 1)};
      float sum = 0.f;
#pragma unroll
      for (int i = 0; i <= kHistory; ++i) sum = fmaf(tap[i], __uint_as_float(input(j, i) << 16), sum);
      x[j] = to_f32(from_f32<Bf16>(silu(sum)));
    }
  }
  // Moved on by the newest.
  __device__ __forceinline__ void write(const ConvArgs& args, int slot, int channel) const {
    auto* to = reinterpret_cast<uint2*>(static_cast<Bf16*>(args.pool) + slot * args.slot_stride + channel * kHistory);
    const auto kept = [&](int at) { return input(at / kHistory, at % kHistory + 1); };
#pragma unroll
    for (int i = 0; i < kOldWords; ++i) {
      to[i] = {kept(4 * i) | kept(4 * i + 1) << 16, kept(4 * i + 2) | kept(4 * i + 3) << 16};
    }
  }
};
static_assert(kHistory + 1 == kPieces);  // taps of a channel, channels of a lane

// q or k of a head, l2-normalised, to shared memory; channel 4 lane + j comes as x[j]. The squares are added as
// delta_decode.cu does: each lane has those of channels lane + 32 j.
__device__ __forceinline__ void put_normalised(const float (&x)[kPieces], float factor, float (&scratch)[kDim],
                                               float (&to)[kGroups][kKeyRow]) {
  const int lane = threadIdx.x % 32, first = lane * kPieces;
#pragma unroll
  for (int j = 0; j < kPieces; ++j) scratch[(first + j) % 32 * kPieces + (first + j) / 32] = x[j];
  __syncwarp();
  float mine[kPieces], sum = 0.f;
  load<kPieces>(scratch + first, mine);
#pragma unroll
  for (int j = 0; j < kPieces; ++j) sum += mine[j] * mine[j];
  const float scale = factor / sqrtf(warp_sum(sum) + 1e-6f);
#pragma unroll
  for (int j = 0; j < kPieces; ++j) to[lane % kGroups][(lane + 32 * j) / kGroups] = mine[j] * scale;
}

// The norm over the head's results, which the groups of keys have left as four sums for each: one warp, four
// neighbouring values a lane, as in norm.cu.
__device__ __forceinline__ void put_gated(const Shared& shared, const DeltaMixerArgs& args, int64_t t, int64_t column) {
  const int lane = threadIdx.x % 32, first = lane * kPieces;
  const auto& sums = shared.ahead.results;
  float x[kPieces], sum = 0.f;
#pragma unroll
  for (int j = 0; j < kPieces; ++j) {
    const int c = first + j;
    x[j] = to_f32(from_f32<Bf16>((sums[0][c] + sums[1][c]) + (sums[2][c] + sums[3][c])));
    sum += x[j] * x[j];
  }
  const float scale = 1.f / sqrtf(warp_sum(sum) / static_cast<float>(kDim) + args.eps);
  float gate[kPieces];
  load<kPieces>(shared.gate + first, gate);
  const uint2 norm[] = {shared.ahead.norm[0][lane], shared.ahead.norm[1][lane]};
#pragma unroll
  for (int j = 0; j < kPieces; ++j) {
    const uint2 two = norm[j / 2];
    const float weight = args.norm_dtype == DType::kF32 ? __uint_as_float(j % 2 == 0 ? two.x : two.y)
                                                        : bf16_of(j < 2 ? norm[0].x : norm[0].y, j);
    x[j] = weight * (x[j] * scale) * gate[j];
  }
  if (args.has_values) {
    const View& out = args.delta.out;
    store<kPieces>(static_cast<Bf16*>(out.data) + t * out.stride + column + first, x);
  }
  if (args.fp8.data) put_fp8<128 / kPieces>(x, args.fp8, t, column + first);
}

// What one of the first warps does before all go over the state; the others have nothing to do there.
struct FirstWarp {
  int role, head, key_head;

  // The lane's first one, of q, k or v.
  __device__ __forceinline__ int channel(const DeltaMixerArgs& args) const {
    const int keys = args.delta.key_heads;
    const int block = role == kQuery ? key_head : role == kKey ? keys + key_head : 2 * keys + head;
    return block * kDim + static_cast<int>(threadIdx.x) % 32 * kPieces;
  }
  // What the kernel before this one does not write.
  __device__ __forceinline__ void read(const DeltaMixerArgs& args, int slot, Ahead& to) const {
    const DeltaArgs& delta = args.delta;
    const int lane = threadIdx.x % 32;
    if (role <= kValue) {
      Window::read(args.conv, slot, channel(args), role, to);
    } else if (role == kGates) {
      const bool wide = args.norm_dtype == DType::kF32;
      const auto* norm = static_cast<const std::byte*>(args.norm) + lane * kPieces * (wide ? 4 : 2);
      copy_ahead<8>(&to.norm[0][lane], norm, true);
      if (wide) copy_ahead<8>(&to.norm[1][lane], norm + 8, true);
      if (lane == 0) {
        copy_ahead<4>(&to.bias, word_of(delta.dt_bias, delta.dt_bias_dtype, head), true);
        copy_ahead<4>(&to.rate, word_of(delta.a_log, delta.a_log_dtype, head), true);
      }
    }
  }
  // And then q, k, v and the gates.
  __device__ __forceinline__ void make(const DeltaMixerArgs& args, int64_t t, Shared& shared) const {
    if (role <= kValue) {
      Window::read_newest(args.conv, t, channel(args), role, shared.ahead);
      copies_ahead_done();
      float x[kPieces];
      Window(shared.ahead, role).convolve(args.conv.weight_dtype, shared.ahead, role, x);
      auto& scratch = shared.sums[role];
      if (role == kQuery) put_normalised(x, 1.f / sqrtf(static_cast<float>(kDim)), scratch, shared.query);
      if (role == kKey) put_normalised(x, 1.f, scratch, shared.key);
      if (role == kValue) store<kPieces>(shared.value + threadIdx.x % 32 * kPieces, x);
    } else if (role == kGates) {
      make_gates(args.delta, args.z, t, shared);
    }
  }
  __device__ __forceinline__ void make_gates(const DeltaArgs& args, const View& z, int64_t t, Shared& shared) const {
    Ahead& ahead = shared.ahead;
    const int lane = threadIdx.x % 32;
    if (lane == 0) {
      copy_ahead<4>(&ahead.a, static_cast<const float*>(args.a.data) + t * args.a.stride + head, true);
      copy_ahead<4>(&ahead.b, static_cast<const float*>(args.b.data) + t * args.b.stride + head, true);
    }
    const Bf16* from = static_cast<const Bf16*>(z.data) + t * z.stride + head * kDim;
    copy_ahead<8>(&ahead.newest[kGates][lane], from + lane * kPieces, true);
    copies_ahead_done();
    __syncwarp();  // the first lane's too
    const float bias = value_of(ahead.bias, args.dt_bias_dtype, head);
    const float rate = value_of(ahead.rate, args.a_log_dtype, head);
    const float decay = expf(log_decay(ahead.a, bias, rate)), beta = sigmoid(ahead.b);
    if (lane == 0) {
      shared.decay = decay;
      shared.beta = beta;
    }
    float gate[kPieces];
    load<kPieces>(reinterpret_cast<const Bf16*>(&ahead.newest[kGates][lane]), gate);
    for (float& value : gate) value = silu(value);
    store<kPieces>(shared.gate + lane * kPieces, gate);
  }
};

}  // namespace hylas::cuda::mixer
