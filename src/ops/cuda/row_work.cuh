#pragma once
// The multiplying warps of row_layers.cu. A part of a layer begins with the weights that are there, in registers; then
// comes what other blocks wrote, and behind that is as little as can be: products, sums. The first warp hands the
// block's results to the others.
#include <array>

#include "ops/cuda/row_mixer.cuh"

namespace hylas::cuda {

class RowWorker {
 public:
  __device__ RowWorker(const RowLayersArgs& args, RowShared& shared)
      : args_(args),
        shared_(shared),
        ahead_(shared.ahead),
        from_(shared.slots),
        scratch_(*static_cast<RowScratch*>(args.scratch)),
        warp_(__shfl_sync(~0u, static_cast<int>(threadIdx.x) / 32, 0)),
        lane_(static_cast<int>(threadIdx.x) % 32),
        block_(static_cast<int>(blockIdx.x)) {}

  __device__ void run() {
    weights_ = norm_weights(args_.layer[0].input_norm);
    asm volatile("griddepcontrol.wait;" ::: "memory");
    epoch_ = first_epoch(args_.counters + 1);
    if (threadIdx.x < kRowTile) {
      residual_ = to_f32(fresh<Bf16>(static_cast<const Bf16*>(args_.hidden) + block_ * kRowTile + threadIdx.x));
    }
#pragma unroll 1
    for (l_ = 0;; ++l_, ++epoch_) {
      if (l_ == args_.layers) asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
      first();
      if (l_ == args_.layers) break;
      const RowLayerArgs& layer = args_.layer[l_];
      out(layer);
      middle(layer);
      up();
      down();
    }
    if (threadIdx.x == 0) leave();
  }

 private:
  // The thread's weights of a norm over the row, fetched long before the row is there.
  __device__ uint4 norm_weights(const void* weight) const { return static_cast<const uint4*>(weight)[threadIdx.x]; }
  // The row's blocks of the warp, and their scales.
  struct Input {
    RowBlock block[kRowShare];
    float scale[kRowShare];
  };
  __device__ Input input() const {
    Input x;
#pragma unroll
    for (int b = 0; b < kRowShare; ++b) {
      x.block[b].take(shared_.input.e4m3 + (warp_ + b * kRowWarps) * 128);
      x.scale[b] = shared_.input.scale[warp_ + b * kRowWarps];
    }
    return x;
  }
  // The warp's part of a tile over the hidden size.
  struct Tile {
    RowWeights weights[kRowShare];
    float low[kRowShare], high[kRowShare];
  };
  template <class From>
  __device__ __forceinline__ Tile tile(From& from) {
    Tile t;
    const int at = lane_ / 4 * row_shape::kHidden;
    from.begin();
#pragma unroll
    for (int b = 0; b < kRowShare; ++b) {
      const int block = warp_ + b * kRowWarps;
      RowWeights::take(t.weights[b].low, from.data() + at + block * 128);
      t.low[b] = from.scale()[block];
    }
    from.end();
    from.begin();
#pragma unroll
    for (int b = 0; b < kRowShare; ++b) {
      const int block = warp_ + b * kRowWarps;
      RowWeights::take(t.weights[b].high, from.data() + at + block * 128);
      t.high[b] = from.scale()[block];
    }
    from.end();
    return t;
  }
  __device__ __forceinline__ static void multiply(const Tile& t, const Input& x, float2& sum) {
#pragma unroll
    for (int b = 0; b < kRowShare; ++b) {
      const float2 part = multiply_block(t.weights[b], x.block[b]);
      sum.x = fmaf(t.low[b] * x.scale[b], part.x, sum.x);
      sum.y = fmaf(t.high[b] * x.scale[b], part.y, sum.y);
    }
  }
  // Of the block's tile `at`.
  __device__ __forceinline__ void multiply_tile(const Tile& t, const Input& x, int at) {
    float2 sum = {};
    multiply(t, x, sum);
    put_sums(shared_.sums, at * kRowWarps + warp_, sum);
  }

  // The norm of what the layers before have made and its products: a mixer's, or those behind all layers; or the norm
  // alone.
  __device__ __forceinline__ void first() {
    const bool behind = l_ == args_.layers;
    const bool multiplies = behind ? args_.products.matrix[0].data != nullptr : args_.layer[l_].qkv.data != nullptr;
    if (!multiplies && !(behind && block_ == 0 && args_.next_norm)) return;
    Tile one = {}, other = {};
    if (multiplies) {
      one = tile(ahead_);
      other = tile(ahead_);
    }
    const int thread = static_cast<int>(threadIdx.x);
    const uint4 raw = l_ == 0 ? fresh<uint4>(static_cast<const uint4*>(args_.hidden) + thread)
                              : scratch_.fed.take(thread, epoch_ - 1);
    norm_row(raw, weights_, args_.eps, shared_.input);
    if (multiplies) {
      first_products(one, other, behind);
    } else {
      static_cast<uint4*>(args_.normed)[thread] = reinterpret_cast<const uint4*>(shared_.input.values)[thread];
    }
  }
  // Pairs of tiles: q and k; v; z. In between a and b. While a tile is multiplied the next one comes to registers.
  __device__ __forceinline__ void first_products(Tile& one, Tile& other, bool behind) {
    const int tiles = behind ? row_product_tiles() : kMixerTiles;
    const Input x = input();
#pragma unroll 1
    for (int at = 0;; at += 2) {
      const bool more = at + 2 < tiles;
      multiply_tile(one, x, at);
      if (!behind && at == 2) gates();
      if (more) one = at == 0 ? tile(ahead_) : tile(from_);
      multiply_tile(other, x, at + 1);
      if (!behind && at == 0) HeadSums::say();
      if (!behind && at == 2) ValueSums::say();
      if (!more) break;
      if (at == 0) {
        other = tile(ahead_);
      } else if (!behind) {  // else it counts for nothing
        other = tile(from_);
      }
    }
    if (behind) {
      put_products(tiles);
    } else {
      GateSums::say();
    }
  }
  __device__ __forceinline__ void gates() {
    from_.begin();
    multiply_small(from_.data() + min(lane_ / 4, 1) * (row_shape::kHidden * sizeof(Bf16)), shared_.input.values,
                   shared_.small);
    from_.end();
  }
  __device__ __forceinline__ void put_products(int tiles) {
    row_sync();
    const int i = static_cast<int>(threadIdx.x) / kRowTile, output = static_cast<int>(threadIdx.x) % kRowTile;
    if (i >= tiles) return;
    const RowProductPlace place(i);
    static_cast<Bf16*>(args_.products.out[place.matrix])[place.row + output] =
        from_f32<Bf16>(total_of<kRowWarps>(shared_.sums, i * kRowWarps, output));
  }

  __device__ __forceinline__ void out(const RowLayerArgs& layer) {
    constexpr int kBlocks = 2 * kRowShare;
    weights_ = norm_weights(layer.post_norm);
    const auto [low, high] = out_tiles();
    uint2 raw[kBlocks];
    const auto at = [&](int b) { return (warp_ + b * kRowWarps) * 128 + lane_ * 4; };
    if (layer.qkv.data) {
      float norm[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) norm[j] = row_element(layer.norm, lane_ * 4 + j);
      ResultsSoon::wait();
      RowResult result[kBlocks][2];
      take_results(result, epoch_, [&](int b) { return scratch_.results[warp_ + b * kRowWarps] + lane_; });
#pragma unroll
      for (int b = 0; b < kBlocks; ++b) raw[b] = row_gated(result[b], norm, layer.norm_eps);
    } else {
#pragma unroll
      for (int b = 0; b < kBlocks; ++b) raw[b] = fresh<uint2>(static_cast<const Bf16*>(args_.mixed) + at(b));
    }
    float scale[kBlocks];
    quantize_blocks(raw, shared_.exchange[warp_], scale);
    float2 sum = {};
    multiply(low, exchanged(0, scale), sum);
    in_turn();
    multiply(high, exchanged(kRowShare, scale), sum);
    put_sums(shared_.sums, RowSums::kOther * kRowWarps + warp_, sum);
    row_sync();
    if (warp_ != 0) return;
    add_residual(total_of<kRowWarps>(shared_.sums, RowSums::kOther * kRowWarps, lane_ % kRowTile));
    scratch_.mixed.put(block_, residual_, epoch_);
  }
  // Both halves of K of the mixer's last product: four pieces of four whole rows.
  __device__ __forceinline__ std::array<Tile, 2> out_tiles() {
    std::array<Tile, 2> t;
    const int g = lane_ / 4;
#pragma unroll
    for (int i = 0; i < 4; ++i) ahead_.behind(i).begin();
    const unsigned char* low = ahead_.behind(g / 4).data() + g % 4 * row_shape::kValues;
    const unsigned char* high = ahead_.behind(2 + g / 4).data() + g % 4 * row_shape::kValues;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
      for (int b = 0; b < kRowShare; ++b) {
        const int block = warp_ + b * kRowWarps, at = (half * kRowBlocks + block) * 128;
        RowWeights::take(t[half].weights[b].low, low + at);
        RowWeights::take(t[half].weights[b].high, high + at);
        t[half].low[b] = t[half].high[b] = ahead_.behind(half).scale()[block];
      }
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) ahead_.end();
    return t;
  }
  __device__ __forceinline__ Input exchanged(int first, const float (&scale)[2 * kRowShare]) const {
    Input x;
#pragma unroll
    for (int b = 0; b < kRowShare; ++b) {
      x.block[b].take(shared_.exchange[warp_][first + b]);
      x.scale[b] = scale[first + b];
    }
    return x;
  }
  // To the lane's value of the block's tile, as memory would have it.
  __device__ void add_residual(float value) { residual_ = to_f32(from_f32<Bf16>(value + residual_)); }

  __device__ __forceinline__ void middle(const RowLayerArgs& layer) {
    const bool paired = block_ > kRouterTiles && block_ < kMiddleTiles;
    Tile shared = {};
    if (paired) shared = tile(from_);
    const uint4 raw = scratch_.mixed.take(static_cast<int>(threadIdx.x), epoch_);
    LogitsSoon::say();
    norm_row(raw, weights_, args_.eps, shared_.input);
    x_ = input();
    if (block_ >= kMiddleTiles) return;
    if (paired) {
      float2 sum = {};
      multiply(shared, x_, sum);
      put_sums(shared_.sums, RowSums::kOther * kRowWarps + warp_, sum);
    } else {
      small(block_ < kRouterTiles);
    }
    row_sync();
    if (warp_ != 0) return;
    if (paired) {
      const int tile = block_ - kRouterTiles - 1;
      put_half(row_shape::kChoices, tile, RowSums::kOther * kRowWarps, lane_ < 8);
    } else if (lane_ < (block_ < kRouterTiles ? 8 : 1)) {
      put_word(scratch_.logits + block_ * 8 + lane_, __float_as_uint(small_total(shared_.small, lane_)), epoch_);
    }
  }
  // Eight rows of bf16, of which the lane has its output's, or the only one.
  __device__ void small(bool eight) {
    constexpr int kRow = row_shape::kHidden * sizeof(Bf16);
    const auto second = from_.behind(1);
    from_.begin();
    if (eight) second.begin();
    const int output = eight ? lane_ / 4 : 0;
    multiply_small((output < 4 ? from_.data() : second.data()) + output % 4 * kRow, shared_.input.values,
                   shared_.small);
    from_.end();
    if (eight) from_.end();
  }
  // silu(gate) * up of an expert's output of a tile, lane % 8, whose sums begin at `at`. All lanes of the warp; those
  // that are not `wanted` put nothing.
  __device__ __forceinline__ void put_half(int expert, int tile, int at, bool wanted) {
    const int output = lane_ % 8;
    const float gate = to_f32(from_f32<Bf16>(total_of<kRowWarps>(shared_.sums, at, output)));
    const float up = to_f32(from_f32<Bf16>(total_of<kRowWarps>(shared_.sums, at, output + 8)));
    const uint32_t pair = pair_of(silu(gate) * up);
    if (wanted && lane_ % 2 == 0) put_word(scratch_.halves[expert] + tile * 4 + output / 2, pair, epoch_);
  }
  __device__ __forceinline__ void up() {
    if (l_ + 1 < args_.layers || args_.next_norm) {
      weights_ = norm_weights(l_ + 1 < args_.layers ? args_.layer[l_ + 1].input_norm : args_.next_norm);
    }
    from_.begin();
    Tile one = tile(from_);
#pragma unroll 1
    for (int at = 0; at < kExpertTiles; at += 2) {
      const Tile other = tile(from_);
      multiply_tile(one, x_, at);
      if (at + 2 < kExpertTiles) one = tile(from_);
      multiply_tile(other, x_, at + 1);
    }
    row_sync();
    if (warp_ != 0) return;
    const int i = lane_ / 8, t = block_ + i * kGridBlocks;
    put_half(t / kWidthTiles, t % kWidthTiles, i * kRowWarps, true);
  }
  __device__ __forceinline__ void down() {
    constexpr int kSums = RowSums::kDown * kRowWarps;
    // Of a piece's two experts the warp has one, and of the last one's only one half of the warps.
    const int of = warp_ / kDownBlocks, block = warp_ % kDownBlocks;
    RowWeights w[kDownPieces];
    float factor[kDownPieces] = {};
#pragma unroll
    for (int i = 0; i < kDownPieces; ++i) {
      const int within = i * 2 > row_shape::kChoices - 1 ? 0 : of;
      const unsigned char* data = from_.data() + (within * kRowTile + lane_ / 4) * row_shape::kWidth + block * 128;
      from_.begin();
      RowWeights::take(w[i].low, data);
      RowWeights::take(w[i].high, data + 8 * row_shape::kWidth);
      factor[i] = from_.scale()[within * kDownBlocks + block];
      from_.end();
    }
    uint32_t logit[1];
    take_words(logit, epoch_, [&](int) { return scratch_.logits + row_shape::kExperts; });
    uint2 raw[kDownPieces];
    float scale[kDownPieces];
    take_twins(raw, epoch_,
               [&](int i) { return scratch_.halves[min(i * 2 + of, row_shape::kChoices)] + block * 64 + lane_ * 2; });
    quantize_blocks(raw, shared_.exchange[warp_], scale);
#pragma unroll
    for (int i = 0; i < kDownPieces; ++i) {
      const int expert = i * 2 + of;
      if (expert > row_shape::kChoices) continue;
      if (i % 2 == 0) in_turn();
      RowBlock x;
      x.take(shared_.exchange[warp_][i]);
      const float2 part = multiply_block(w[i], x);
      const float by = factor[i] * scale[i];
      put_sums(shared_.sums, kSums + expert * kDownBlocks + block,
               make_float2(fmaf(by, part.x, 0.f), fmaf(by, part.y, 0.f)));
    }
    row_sync();
    if (warp_ != 0) return;
    float sum = 0.f;
#pragma unroll
    for (int e = 0; e <= row_shape::kChoices; ++e) {
      const float weight = e < row_shape::kChoices ? shared_.weight[e] : sigmoid(__uint_as_float(logit[0]));
      sum = fmaf(weight, total_of<kDownBlocks>(shared_.sums, kSums + e * kDownBlocks, lane_ % kRowTile), sum);
    }
    add_residual(sum);
    scratch_.fed.put(block_, residual_, epoch_);
    if (l_ + 1 < args_.layers || lane_ >= kRowTile) return;
    static_cast<Bf16*>(args_.hidden)[block_ * kRowTile + lane_] = from_f32<Bf16>(residual_);
  }
  // One thread, when the block wants nothing more of the others: who leaves last counts the launch.
  __device__ void leave() const {
    if (atomicAdd(args_.counters, 1u) != kGridBlocks - 1) return;
    args_.counters[0] = 0;
    ++args_.counters[1];
  }

  const RowLayersArgs& args_;
  RowShared& shared_;
  RowTake<RowAhead> ahead_;
  RowTake<RowInTurn> from_;
  RowScratch& scratch_;
  int warp_, lane_, block_;
  int l_ = 0;
  uint32_t epoch_ = 0;    // of the layer
  float residual_ = 0.f;  // of the block's tile, in the first warp
  uint4 weights_;         // of the norm that comes next
  Input x_;               // of the row that the experts read
};

}  // namespace hylas::cuda
