#pragma once
// A block's part of a Gated DeltaNet layer in row_layers.cu, with the arithmetic of delta_mixer.cu: the same bits.
// Eight blocks have a key head and its two value heads. Block r of them makes channels [16 r, +16) of q and of k, which
// all eight want, and has columns [32 (r % 4), +32) of value head r / 4: of v, of the gate and of the state.
#include "ops/cuda/row_math.cuh"
#include "ops/cuda/row_words.cuh"

namespace hylas::cuda {

// What the launch's multiprocessors hand each other.
struct RowScratch {
  // q and k of a key head, before the norm: f32. One of each is enough: who writes the next layer's has seen that all
  // blocks are done with this layer, and they read these before.
  uint64_t heads[row_shape::kKeyHeads][2 * row_shape::kDim];
  alignas(16) Bf16 results[row_shape::kValues];  // of the delta rule
  alignas(16) float gate[row_shape::kValues];    // silu of z
  alignas(16) Bf16 halves[row_shape::kChoices + 1][row_shape::kWidth];
  alignas(16) float logits[row_shape::kExperts + 1];  // the shared expert's behind them
};
static_assert(sizeof(RowScratch) <= kRowLayersScratch);

constexpr int kRowGroups = 4;  // of keys: key i * 4 + g belongs to group g, which a warp has
constexpr int kRowHeld = row_shape::kDim / kRowGroups;
constexpr int kRowKeys = kRowHeld + 8;  // a group's row: who goes through neighbouring keys meets no bank twice
constexpr int kRowColumns = 32;         // of a block
constexpr int kHeadBlocks = 8;          // of a key head
static_assert(row_shape::kValueHeads == 2 * row_shape::kKeyHeads && row_shape::kDim == 4 * kRowColumns &&
              kGridBlocks == row_shape::kKeyHeads * kHeadBlocks);

struct RowHead {
  // Before the norm; a group's are written and read by its warp.
  alignas(16) float query[kRowGroups][kRowKeys];
  alignas(16) float key[kRowGroups][kRowKeys];
  float sums[2][kRowGroups][kRowColumns];
};

// Which part the block has.
struct RowPlace {
  int key_head, rank, head, column;  // `column`: of all value heads' columns, the first
  __device__ __forceinline__ RowPlace()
      : key_head(static_cast<int>(blockIdx.x) / kHeadBlocks),
        rank(static_cast<int>(blockIdx.x) % kHeadBlocks),
        head(2 * key_head + rank / 4),
        column(head * row_shape::kDim + rank % 4 * kRowColumns) {}
};

__device__ __forceinline__ float row_element(const RowVector& v, int at) {
  return v.dtype == DType::kF32 ? static_cast<const float*>(v.data)[at] : to_f32(static_cast<const Bf16*>(v.data)[at]);
}

// A channel's convolution over its old inputs.
struct RowWindow {
  int channel;
  float sum, tap;
  Bf16 kept[2];
  __device__ __forceinline__ void read(const RowLayerArgs& layer, int slot) {
    const Bf16* old = static_cast<const Bf16*>(layer.conv_pool) + slot * layer.conv_stride + channel * 3;
    Bf16 input[3];
    sum = 0.f;
#pragma unroll
    for (int i = 0; i < 3; ++i) {
      input[i] = slot < 0 ? from_f32<Bf16>(0.f) : old[i];
      sum = fmaf(row_element(layer.conv, channel * 4 + i), to_f32(input[i]), sum);
    }
    kept[0] = input[1];
    kept[1] = input[2];
    tap = row_element(layer.conv, channel * 4 + 3);
  }
  __device__ __forceinline__ float with(Bf16 newest) const {
    return to_f32(from_f32<Bf16>(silu(fmaf(tap, to_f32(newest), sum))));
  }
  // Once all warps of the block have read theirs: no other block has the channel.
  __device__ __forceinline__ void move(const RowLayerArgs& layer, int slot, Bf16 newest) const {
    Bf16* to = static_cast<Bf16*>(layer.conv_pool) + slot * layer.conv_stride + channel * 3;
    to[0] = kept[0];
    to[1] = kept[1];
    to[2] = newest;
  }
};

// A thread's part. The first four warps have the state, a group of keys each, a column a lane, and its values; what the
// others make: kPutsHead, kMoves.
template <class S>
struct RowMixing {
  static constexpr int kPutsHead = kRowGroups, kMoves = kRowGroups + 1;  // warps

  RowPlace place;
  RowWindow window;  // of q (lanes 0-15) and k (16-31) in the warp that puts the head, of v in the others
  float bias, rate, value;
  S state[kRowHeld];

  __device__ __forceinline__ bool renews() const { return threadIdx.x < 32 * kRowGroups; }
  // The thread's first element; the others follow at this distance.
  static constexpr int kStep = kRowGroups * row_shape::kDim;
  __device__ __forceinline__ S* state_in(const RowLayerArgs& layer, int slot) const {
    const int key = static_cast<int>(threadIdx.x) / 32, column = place.rank % 4 * kRowColumns + threadIdx.x % 32;
    return static_cast<S*>(layer.delta_pool) + slot * layer.delta_stride +
           (place.head * row_shape::kDim + key) * row_shape::kDim + column;
  }
  // What is there before the layer's row.
  __device__ __forceinline__ void read(const RowLayerArgs& layer, int slot) {
    using namespace row_shape;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    window.channel = warp == kPutsHead ? (lane / 16 * kKeyHeads + place.key_head) * kDim + place.rank * 16 + lane % 16
                                       : 2 * kKeyHeads * kDim + place.column + lane;
    if (renews()) {
      // The state comes near: to registers would be to wait for it at once, for there are not as many.
      const S* row = static_cast<const S*>(layer.delta_pool) + slot * layer.delta_stride +
                     (place.head * kDim + static_cast<int>(threadIdx.x)) * kDim + place.rank % 4 * kRowColumns;
      if (slot >= 0) asm volatile("prefetch.global.L2 [%0];" ::"l"(row));
      bias = row_element(layer.dt_bias, place.head);
      rate = row_element(layer.a_log, place.head);
    }
    if (warp <= kMoves) window.read(layer, slot);
  }
  __device__ __forceinline__ void read_state(const RowLayerArgs& layer, int slot) {
    const S* from = state_in(layer, slot);
#pragma unroll
    for (int i = 0; i < kRowHeld; ++i) state[i] = slot < 0 ? from_f32<S>(0.f) : from[i * kStep];
  }
  // From the sums of the block's tiles q, k, v, v, z, z.
  __device__ __forceinline__ void hand_out(const RowLayerArgs& layer, const RowSums& sums, int write,
                                           RowScratch& scratch, uint32_t epoch) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, tile = lane / 16, output = lane % 16;
    const auto total = [&](int tiles) {
      return from_f32<Bf16>(total_of<kRowWarps>(sums, (tiles + tile) * kRowWarps, output));
    };
    if (warp > kMoves) return;
    const Bf16 newest = total(warp == kPutsHead ? 0 : 2);
    value = window.with(newest);
    if (warp == kPutsHead) {
      uint64_t* to = scratch.heads[place.key_head] + tile * row_shape::kDim + place.rank * 16 + output;
      put_word(to, __float_as_uint(value), epoch);
    }
    if (warp == kRowGroups - 1) scratch.gate[place.column + lane] = silu(to_f32(total(4)));
    if (warp >= kPutsHead && write >= 0) window.move(layer, write, newest);
  }
  // The head's q and k once they are there: the warp's group of keys to shared memory, and the factors of both norms.
  static __device__ __forceinline__ float2 take_head(const uint64_t* words, RowHead& head, uint32_t epoch) {
    const int lane = threadIdx.x % 32, group = threadIdx.x / 32;
    uint32_t both[8];  // channels lane + 32 j of q and of k
    take_words<32>(words + lane, both, epoch);
    float squares[2] = {};
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const float x = __uint_as_float(both[j]);
      squares[j / 4] += x * x;
      float* to = (j < 4 ? head.query : head.key)[group] + lane / kRowGroups + 32 / kRowGroups * (j % 4);
      if (lane % kRowGroups == group) *to = x;
    }
    __syncwarp();
    return {1.f / sqrtf(static_cast<float>(row_shape::kDim)) / sqrtf(warp_sum(squares[0]) + 1e-6f),
            1.f / sqrtf(warp_sum(squares[1]) + 1e-6f)};
  }
  static __device__ __forceinline__ void sync() { asm volatile("bar.sync 2, %0;" ::"n"(32 * kRowGroups) : "memory"); }
  static __device__ __forceinline__ float sum_of(const float (&s)[kRowGroups][kRowColumns]) {
    const int lane = threadIdx.x % 32;
    return (s[0][lane] + s[1][lane]) + (s[2][lane] + s[3][lane]);
  }
  // The first four warps; `scale`: take_head.
  __device__ __forceinline__ void renew(RowHead& head, float2 scale, float decay, float beta, RowScratch& scratch) {
    const int lane = threadIdx.x % 32, group = threadIdx.x / 32;
    const float of_query = scale.x, of_key = scale.y;
    float old = 0.f, result = 0.f;
#pragma unroll
    for (int i = 0; i < kRowHeld; i += 4) {
      float k[4];
      load<4>(head.key[group] + i, k);
#pragma unroll
      for (int n = 0; n < 4; ++n) old = fmaf(k[n] * of_key, to_f32(state[i + n]), old);
    }
    head.sums[0][group][lane] = old;
    sync();
    const float written = beta * (value - decay * sum_of(head.sums[0]));
#pragma unroll
    for (int i = 0; i < kRowHeld; i += 4) {
      float k[4], q[4];
      load<4>(head.key[group] + i, k);
      load<4>(head.query[group] + i, q);
#pragma unroll
      for (int n = 0; n < 4; ++n) {
        const float now = fmaf(k[n] * of_key, written, decay * to_f32(state[i + n]));
        result = fmaf(q[n] * of_query, now, result);
        state[i + n] = from_f32<S>(now);
      }
    }
    head.sums[1][group][lane] = result;
    sync();
    if (group == 0) scratch.results[place.column + lane] = from_f32<Bf16>(sum_of(head.sums[1]));
  }
  __device__ __forceinline__ float decay(float a) const {
    const float x = a + bias;
    const float softplus = x > 20.f ? x : log1pf(expf(x));
    return expf(-expf(rate) * softplus);
  }
  __device__ __forceinline__ void store_state(const RowLayerArgs& layer, int slot) const {
    S* to = state_in(layer, slot);
#pragma unroll
    for (int i = 0; i < kRowHeld; ++i) to[i * kStep] = state[i];
  }
};

// A head's results, of which a lane has four neighbouring, normed and gated as delta_inputs.cuh does.
__device__ __forceinline__ uint2 row_gated(const uint2& results, const float4& gate, const float (&norm)[4],
                                           float eps) {
  float x[4] = {low_bf16(results.x), high_bf16(results.x), low_bf16(results.y), high_bf16(results.y)}, squares = 0.f;
  const float gates[4] = {gate.x, gate.y, gate.z, gate.w};
#pragma unroll
  for (int j = 0; j < 4; ++j) squares += x[j] * x[j];
  const float scale = 1.f / sqrtf(warp_sum(squares) / static_cast<float>(row_shape::kDim) + eps);
#pragma unroll
  for (int j = 0; j < 4; ++j) x[j] = norm[j] * (x[j] * scale) * gates[j];
  alignas(8) Bf16 rounded[4];
  store<4>(rounded, x);
  return *reinterpret_cast<const uint2*>(rounded);
}

}  // namespace hylas::cuda
