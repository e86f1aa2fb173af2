#pragma once
// A value head's part of a Gated DeltaNet layer in row_layers.cu, with the arithmetic of delta_mixer.cu: the same bits.
#include <type_traits>

#include "ops/cuda/row_math.cuh"

namespace hylas::cuda {

// What the launch's multiprocessors hand each other.
struct RowScratch {
  alignas(16) Bf16 u[row_shape::kChannels];
  alignas(16) Bf16 z[row_shape::kValues];
  alignas(16) Bf16 mixed[row_shape::kValues];
  alignas(16) Bf16 halves[row_shape::kChoices + 1][row_shape::kWidth];
  alignas(16) float gates[2][row_shape::kValueHeads];  // a, b
  alignas(16) float logits[row_shape::kExperts + 1];   // the shared expert's behind them
};
static_assert(sizeof(RowScratch) <= kRowLayersScratch);

constexpr int kRowGroups = 4;  // of keys: key i * 4 + g belongs to group g
constexpr int kRowHeld = row_shape::kDim / kRowGroups;

struct RowHead {
  alignas(16) float query[kRowGroups][kRowHeld];
  alignas(16) float key[kRowGroups][kRowHeld];
  alignas(16) float value[row_shape::kDim];
  alignas(16) float sums[2][kRowGroups][row_shape::kDim];
  float decay, beta;
};

__device__ __forceinline__ float row_element(const RowVector& v, int at) {
  return v.dtype == DType::kF32 ? static_cast<const float*>(v.data)[at] : to_f32(static_cast<const Bf16*>(v.data)[at]);
}

// What a warp of the first four knows of its part before the products are there: the convolution of q, k or v over the
// old inputs, or the gates' weights. Lane l of the first three has channels l + 32 j, of the last 4 l + j.
struct RowHeadWarp {
  int head, role, channel = 0;
  float sum[4], tap[4], norm[4], bias = 0.f, rate = 0.f;
  uint2 gate = {};

  __device__ __forceinline__ void find_channel() {
    using namespace row_shape;
    const int key_head = head / (kValueHeads / kKeyHeads);
    const int block = role == 0 ? key_head : role == 1 ? kKeyHeads + key_head : 2 * kKeyHeads + head;
    channel = block * kDim + static_cast<int>(threadIdx.x) % 32;
  }
  __device__ __forceinline__ void read(const RowLayerArgs& layer, int slot) {
    const int lane = threadIdx.x % 32;
    if (role < 3) {
      find_channel();
      const Bf16* old = static_cast<const Bf16*>(layer.conv_pool) + slot * layer.conv_stride;
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int c = channel + 32 * j;
        sum[j] = 0.f;
#pragma unroll
        for (int i = 0; i < 3; ++i) {
          sum[j] = fmaf(row_element(layer.conv, c * 4 + i), slot < 0 ? 0.f : to_f32(old[c * 3 + i]), sum[j]);
        }
        tap[j] = row_element(layer.conv, c * 4 + 3);
      }
    } else if (role == 3) {
#pragma unroll
      for (int j = 0; j < 4; ++j) norm[j] = row_element(layer.norm, lane * 4 + j);
      bias = row_element(layer.dt_bias, head);
      rate = row_element(layer.a_log, head);
    }
  }
  __device__ __forceinline__ void make(const RowScratch& scratch, RowHead& shared) {
    using namespace row_shape;
    const int lane = threadIdx.x % 32;
    if (role < 3) {
      float x[4], squares = 0.f;
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const float u = fresh_bf16(scratch.u, channel + 32 * j);
        x[j] = to_f32(from_f32<Bf16>(silu(fmaf(tap[j], u, sum[j]))));
      }
      if (role == 2) {
        for (int j = 0; j < 4; ++j) shared.value[lane + 32 * j] = x[j];
        return;
      }
#pragma unroll
      for (int j = 0; j < 4; ++j) squares += x[j] * x[j];
      const float factor = role == 0 ? 1.f / sqrtf(static_cast<float>(kDim)) : 1.f;
      const float scale = factor / sqrtf(warp_sum(squares) + 1e-6f);
      auto& to = role == 0 ? shared.query : shared.key;
#pragma unroll
      for (int j = 0; j < 4; ++j) to[lane % kRowGroups][(lane + 32 * j) / kRowGroups] = x[j] * scale;
    } else if (role == 3) {
      gate = fresh<uint2>(scratch.z + head * kDim + lane * 4);
      if (lane != 0) return;
      const float x = fresh<float>(&scratch.gates[0][head]) + bias;
      const float softplus = x > 20.f ? x : log1pf(expf(x));
      shared.decay = expf(-expf(rate) * softplus);
      shared.beta = sigmoid(fresh<float>(&scratch.gates[1][head]));
    }
  }
  // The last warp: the norm over the head's results, gated.
  __device__ __forceinline__ void put(const RowHead& shared, RowScratch& scratch, float eps) const {
    using namespace row_shape;
    const int first = threadIdx.x % 32 * 4, at = head * kDim + first;
    float x[4], squares = 0.f;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const auto& s = shared.sums[1];
      const int c = first + j;
      x[j] = to_f32(from_f32<Bf16>((s[0][c] + s[1][c]) + (s[2][c] + s[3][c])));
      squares += x[j] * x[j];
    }
    const float scale = 1.f / sqrtf(warp_sum(squares) / static_cast<float>(kDim) + eps);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const uint32_t pair = j < 2 ? gate.x : gate.y;
      x[j] = norm[j] * (x[j] * scale) * silu(j % 2 ? high_bf16(pair) : low_bf16(pair));
    }
    store<4>(scratch.mixed + at, x);
  }
  // The newest input takes its place, once every head has read the window. The value heads of a key head share theirs.
  __device__ __forceinline__ void move_window(const RowLayerArgs& layer, const RowScratch& scratch, int read,
                                              int write) const {
    if (role > 2 || write < 0 || (role < 2 && head % (row_shape::kValueHeads / row_shape::kKeyHeads) != 0)) return;
    Bf16* pool = static_cast<Bf16*>(layer.conv_pool);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int c = channel + 32 * j;
      const Bf16* from = pool + read * layer.conv_stride + c * 3;
      const Bf16 zero = from_f32<Bf16>(0.f), first = read < 0 ? zero : from[1], second = read < 0 ? zero : from[2];
      Bf16* to = pool + write * layer.conv_stride + c * 3;
      to[0] = first;
      to[1] = second;
      to[2] = from_f32<Bf16>(fresh_bf16(scratch.u, c));
    }
  }
};

template <class S>
__device__ __forceinline__ float2 row_widen(uint32_t word) {
  if constexpr (std::is_same_v<S, F16>) return __half22float2(*reinterpret_cast<const __half2*>(&word));
  return __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(&word));
}
template <class S>
__device__ __forceinline__ uint32_t row_narrow(float x, float y) {
  if constexpr (std::is_same_v<S, F16>) {
    const __half2 most = __float2half2_rn(65504.f);  // NaN stays
    const __half2 two = __hmin2_nan(__hmax2_nan(__floats2half2_rn(x, y), __hneg2(most)), most);
    return *reinterpret_cast<const uint32_t*>(&two);
  }
  const __nv_bfloat162 two = __floats2bfloat162_rn(x, y);
  return *reinterpret_cast<const uint32_t*>(&two);
}

// A thread's part of the head's state: two columns of the keys of a group.
using RowState = uint32_t[kRowHeld];
__device__ __forceinline__ int row_state_at(int i) {
  return (i * kRowGroups + static_cast<int>(threadIdx.x) / 64) * row_shape::kDim + static_cast<int>(threadIdx.x) % 64 * 2;
}

// `from`: the head's state in shared memory, or null for a fresh sequence; `word`: the new one. All working threads
// come.
template <class S>
__device__ __forceinline__ void renew_state(const unsigned char* from, RowHead& shared, RowState& word) {
  static_assert(kRowThreads == 64 * kRowGroups);
  const int group = threadIdx.x / 64, column = threadIdx.x % 64 * 2;
  float2 old = {}, result = {};
  {
#pragma unroll
    for (int i = 0; i < kRowHeld; ++i) {
      word[i] = from ? *reinterpret_cast<const uint32_t*>(from + row_state_at(i) * 2) : 0;
    }
#pragma unroll
    for (int i = 0; i < kRowHeld; i += 4) {
      float k[4];
      load<4>(shared.key[group] + i, k);
#pragma unroll
      for (int n = 0; n < 4; ++n) {
        const float2 was = row_widen<S>(word[i + n]);
        old.x = fmaf(k[n], was.x, old.x);
        old.y = fmaf(k[n], was.y, old.y);
      }
    }
    shared.sums[0][group][column] = old.x;
    shared.sums[0][group][column + 1] = old.y;
  }
  row_sync();
  {
    const float decay = shared.decay, beta = shared.beta;
    const auto written = [&](int c) {
      const auto& s = shared.sums[0];
      return beta * (shared.value[c] - decay * ((s[0][c] + s[1][c]) + (s[2][c] + s[3][c])));
    };
    const float2 writes = {written(column), written(column + 1)};
#pragma unroll
    for (int i = 0; i < kRowHeld; i += 4) {
      float k[4], q[4];
      load<4>(shared.key[group] + i, k);
      load<4>(shared.query[group] + i, q);
#pragma unroll
      for (int n = 0; n < 4; ++n) {
        float2 now = row_widen<S>(word[i + n]);
        now.x = fmaf(k[n], writes.x, decay * now.x);
        now.y = fmaf(k[n], writes.y, decay * now.y);
        result.x = fmaf(q[n], now.x, result.x);
        result.y = fmaf(q[n], now.y, result.y);
        word[i + n] = row_narrow<S>(now.x, now.y);
      }
    }
    shared.sums[1][group][column] = result.x;
    shared.sums[1][group][column + 1] = result.y;
  }
  row_sync();
}

}  // namespace hylas::cuda
