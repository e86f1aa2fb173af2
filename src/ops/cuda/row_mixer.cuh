#pragma once
// A block's part of a Gated DeltaNet layer in row_layers.cu, with the arithmetic of delta_mixer.cu: the same bits.
// Eight blocks have a key head and its two value heads. Block r of them makes channels [16 r, +16) of q and of k, which
// all eight want, and has columns [32 (r % 4), +32) of value head r / 4: of v, of the gate and of the state.
//
// Warps that multiply nothing do what comes behind the first products: one hands out q and k, which come first, and has
// the gate, which is wanted last; two have the state in their registers before the row is there.
#include <type_traits>

#include "ops/cuda/row_plan.cuh"

namespace hylas::cuda {

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

// Of two tiles of the block's, the lane's output.
__device__ __forceinline__ float row_total(const RowSums& sums, int tiles) {
  const int lane = threadIdx.x % 32;
  return total_of<kRowWarps>(sums, (tiles + lane / kRowTile) * kRowWarps, lane % kRowTile);
}

// The warp that hands out q and k, and the gate to those that renew.
__device__ __forceinline__ void hand_out_row(const RowLayersArgs& args, RowShared& shared) {
  const RowPlace place;
  const int lane = threadIdx.x % 32, channel = place.rank * kRowTile + lane % kRowTile;
  auto& scratch = *static_cast<RowScratch*>(args.scratch);
  uint64_t* const head = scratch.heads[place.key_head] + lane / kRowTile * row_shape::kDim + channel;
  RowWindow window;
  window.channel = (lane / kRowTile * row_shape::kKeyHeads + place.key_head) * row_shape::kDim + channel;
  asm volatile("griddepcontrol.wait;" ::: "memory");
  uint32_t epoch = first_epoch(args.counters + 1);
  const int read = args.state_read[0], write = args.state_write[0];
#pragma unroll 1
  for (int i = 0; i < args.layers; ++i, ++epoch) {
    const RowLayerArgs& layer = args.layer[i];
    if (!layer.qkv.data) continue;
    window.read(layer, read);
    HeadSums::wait();
    const Bf16 newest = from_f32<Bf16>(row_total(shared.sums, 0));
    put_word(head, __float_as_uint(window.with(newest)), epoch);
    if (write >= 0) window.move(layer, write, newest);
    GateSums::wait();
    shared.head.gate[lane] = silu(to_f32(from_f32<Bf16>(row_total(shared.sums, 4))));
    GatesMade::say();
  }
}

// As from_f32, in fewer steps.
template <class S>
__device__ __forceinline__ S held(float x) {
  if constexpr (std::is_same_v<S, F16>) {
    asm("min.NaN.f32 %0, %0, 0f477fe000;" : "+f"(x));
    asm("max.NaN.f32 %0, %0, 0fc77fe000;" : "+f"(x));
    return __float2half_rn(x);
  } else {
    return from_f32<S>(x);
  }
}

// The warps that renew the state: two groups of keys each, a column a lane.
template <class S>
class RowRenewer {
 public:
  __device__ RowRenewer(const RowLayersArgs& args, RowShared& shared)
      : args_(args),
        shared_(shared),
        lane_(static_cast<int>(threadIdx.x) % 32),
        part_(static_cast<int>(threadIdx.x) / 32 - kRenewWarp) {}

  __device__ void run() {
    window_.channel = 2 * row_shape::kKeyHeads * row_shape::kDim + place_.column + lane_;
    asm volatile("griddepcontrol.wait;" ::: "memory");
    uint32_t epoch = first_epoch(args_.counters + 1);
    const int read = args_.state_read[0], write = args_.state_write[0];
    auto& scratch = *static_cast<RowScratch*>(args_.scratch);
#pragma unroll 1
    for (int i = 0; i < args_.layers; ++i, ++epoch) {
      const RowLayerArgs& layer = args_.layer[i];
      if (!layer.qkv.data) continue;
      read_state(layer, read);
      window_.read(layer, read);
      const float bias = row_element(layer.dt_bias, place_.head), rate = row_element(layer.a_log, place_.head);
      ValueSums::wait();
      const Bf16 newest = from_f32<Bf16>(row_total(shared_.sums, 2));
      const float value = window_.with(newest), decay = this->decay(small_total(shared_.small, 0) + bias, rate);
      const float beta = sigmoid(small_total(shared_.small, 1));
      const float2 scale = take_head(scratch.heads[place_.key_head], epoch);
      const uint32_t pair = pair_of(renew(scale, value, decay, beta));
      GatesMade::wait();
      if (part_ == 0 && lane_ % 2 == 0) {
        const int word = (place_.rank % 4 * kRowColumns + lane_) / 2;
        const float2 gate = *reinterpret_cast<const float2*>(shared_.head.gate + lane_);
        put_result(scratch.results[place_.head] + word % 2 * kResultStep + word / 2, gate, pair, epoch);
      }
      ResultsSoon::say();
      if (write < 0) continue;
      if (part_ == 1) window_.move(layer, write, newest);
      store_state(layer, write);  // nobody in this launch waits for it
    }
  }

 private:
  static constexpr int kGroups = kRowGroups / kRenewWarps;  // a warp's

  __device__ static float decay(float x, float rate) {
    const float softplus = x > 20.f ? x : log1pf(expf(x));
    return expf(-expf(rate) * softplus);
  }
  // The lane's first element; key `i` of group `g` follows at this distance.
  static constexpr int distance(int g, int i) { return (i * kRowGroups + g) * row_shape::kDim; }
  __device__ __forceinline__ S* state_in(const RowLayerArgs& layer, int slot) const {
    const int row = place_.head * row_shape::kDim + part_ * kGroups;
    return static_cast<S*>(layer.delta_pool) + slot * layer.delta_stride + row * row_shape::kDim +
           place_.rank % 4 * kRowColumns + lane_;
  }
  __device__ __forceinline__ void read_state(const RowLayerArgs& layer, int slot) {
    if (slot < 0) {
#pragma unroll
      for (int i = 0; i < kGroups * kRowHeld; ++i) state_[i / kRowHeld][i % kRowHeld] = from_f32<S>(0.f);
      return;
    }
    const S* from = state_in(layer, slot);
#pragma unroll
    for (int g = 0; g < kGroups; ++g) {
#pragma unroll
      for (int i = 0; i < kRowHeld; ++i) state_[g][i] = from[distance(g, i)];
    }
  }
  __device__ __forceinline__ void store_state(const RowLayerArgs& layer, int slot) const {
    S* to = state_in(layer, slot);
#pragma unroll
    for (int g = 0; g < kGroups; ++g) {
#pragma unroll
      for (int i = 0; i < kRowHeld; ++i) to[distance(g, i)] = state_[g][i];
    }
  }
  // The head's q and k once they are there: the warp's groups of keys to shared memory, and the factors of both norms.
  __device__ __forceinline__ float2 take_head(const uint64_t* words, uint32_t epoch) {
    uint32_t both[8];  // channels lane + 32 j of q and of k
    take_words(both, epoch, [&](int i) { return words + lane_ + 32 * i; });
    float squares[2] = {};
    const int group = lane_ % kRowGroups, at = lane_ / kRowGroups;
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const float x = __uint_as_float(both[j]);
      squares[j / 4] += x * x;
      float* to = (j < 4 ? shared_.head.query : shared_.head.key)[group] + at + 32 / kRowGroups * (j % 4);
      if (group / kGroups == part_) *to = x;
    }
    __syncwarp();
    return {1.f / sqrtf(static_cast<float>(row_shape::kDim)) / sqrtf(warp_sum(squares[0]) + 1e-6f),
            1.f / sqrtf(warp_sum(squares[1]) + 1e-6f)};
  }
  // Over the keys of all groups, from those over the warp's.
  __device__ __forceinline__ float sum_of(const float (&sums)[kGroups], int round) {
    static_assert(kGroups == 2 && kRenewWarps == 2);
    const float mine = sums[0] + sums[1];
    shared_.head.sums[round][part_][lane_] = mine;
    RenewSync::wait();
    return mine + shared_.head.sums[round][1 - part_][lane_];
  }
  // The column's result.
  __device__ __forceinline__ float renew(float2 scale, float value, float decay, float beta) {
    float old[kGroups] = {}, result[kGroups] = {};
#pragma unroll
    for (int i = 0; i < kRowHeld; i += 4) {
#pragma unroll
      for (int g = 0; g < kGroups; ++g) {
        float k[4];
        load<4>(shared_.head.key[part_ * kGroups + g] + i, k);
#pragma unroll
        for (int n = 0; n < 4; ++n) old[g] = fmaf(k[n] * scale.y, to_f32(state_[g][i + n]), old[g]);
      }
    }
    const float written = beta * (value - decay * sum_of(old, 0));
#pragma unroll
    for (int i = 0; i < kRowHeld; i += 4) {
#pragma unroll
      for (int g = 0; g < kGroups; ++g) {
        float k[4], q[4];
        load<4>(shared_.head.key[part_ * kGroups + g] + i, k);
        load<4>(shared_.head.query[part_ * kGroups + g] + i, q);
#pragma unroll
        for (int n = 0; n < 4; ++n) {
          const float now = fmaf(k[n] * scale.y, written, decay * to_f32(state_[g][i + n]));
          result[g] = fmaf(q[n] * scale.x, now, result[g]);
          state_[g][i + n] = held<S>(now);
        }
      }
    }
    return sum_of(result, 1);
  }

  const RowLayersArgs& args_;
  RowShared& shared_;
  RowPlace place_;
  int lane_, part_;
  RowWindow window_;
  S state_[kGroups][kRowHeld];
};

// A head's results, of which a lane has four neighbouring, normed and gated as delta_inputs.cuh does.
__device__ __forceinline__ uint2 row_gated(const RowResult (&results)[2], const float (&norm)[4], float eps) {
  float x[4] = {low_bf16(results[0].pair), high_bf16(results[0].pair), low_bf16(results[1].pair),
                high_bf16(results[1].pair)};
  float squares = 0.f;
#pragma unroll
  for (int j = 0; j < 4; ++j) squares += x[j] * x[j];
  const float scale = 1.f / sqrtf(warp_sum(squares) / static_cast<float>(row_shape::kDim) + eps);
#pragma unroll
  for (int j = 0; j < 4; ++j) x[j] = norm[j] * (x[j] * scale) * results[j / 2].gate[j % 2];
  alignas(8) Bf16 rounded[4];
  store<4>(rounded, x);
  return *reinterpret_cast<const uint2*>(rounded);
}

}  // namespace hylas::cuda
