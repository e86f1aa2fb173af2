#pragma once
// The working warps of row_layers.cu. A part of a layer begins with the weights that are there, in registers; then the
// blocks meet, and what comes behind that is as little as can be: what the others wrote, products, sums. The first warp
// writes the block's results and says that they are there.
#include "ops/cuda/row_plan.cuh"

namespace hylas::cuda {

static __device__ unsigned long long row_trace[4][24][160];  // DEV: [layer][mark][block]
__device__ __forceinline__ void mark(int layer, int what) {  // DEV
  if (threadIdx.x == 0) {
    unsigned long long t;
    asm volatile("mov.u64 %0, %globaltimer;" : "=l"(t));
    row_trace[layer][what][blockIdx.x] = t;
  }
}

template <class S>
class RowWorker {
 public:
  __device__ RowWorker(const RowLayersArgs& args, RowShared& shared)
      : args_(args),
        shared_(shared),
        ahead_(shared.ahead),
        from_(shared.slots),
        scratch_(*static_cast<RowScratch*>(args.scratch)),
        grid_{args.counters},
        warp_(__shfl_sync(~0u, static_cast<int>(threadIdx.x) / 32, 0)),
        lane_(static_cast<int>(threadIdx.x) % 32),
        block_(static_cast<int>(blockIdx.x)) {}

  __device__ void run() {
    asm volatile("griddepcontrol.wait;" ::: "memory");
    epoch_ = first_epoch(args_.counters + 2);
#pragma unroll 1
    for (int i = 0; i < args_.layers; ++i, ++epoch_) {
      const RowLayerArgs& layer = args_.layer[i];
      const unsigned before = targets_.down;
      targets_.next(layer);
      l_ = i;
      mark(l_, 0);
      if (layer.qkv.data) mix(layer, before);
      mark(l_, 5);
      out(layer);
      mark(l_, 7);
      middle(layer);
      mark(l_, 10);
      up();
      mark(l_, 12);
      down();
      mark(l_, 14);
    }
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
    if (args_.products.matrix[0].data) {
      products();
    } else if (block_ == 0 && args_.next_norm) {
      finish();
    }
    if (threadIdx.x == 0) leave();
  }

 private:
  // The thread's weights of a norm over the row, fetched before the row is there.
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
  // Tiles `at` and the next one of the block's.
  __device__ __forceinline__ void multiply_two(const Tile& first, const Tile& second, const Input& x, int at) {
    float2 sums[2] = {};
    multiply(first, x, sums[0]);
    multiply(second, x, sums[1]);
    put_sums(shared_.sums, at * kRowWarps + warp_, sums[0]);
    put_sums(shared_.sums, (at + 1) * kRowWarps + warp_, sums[1]);
  }
  template <class From>
  __device__ __forceinline__ void two(From& from, const Input& x, int at) {
    const Tile first = tile(from), second = tile(from);
    multiply_two(first, second, x, at);
  }
  // The norm of the row that the others have written, and its products over the tiles that came ahead.
  __device__ __forceinline__ Input first_products(const void* norm, unsigned before) {
    const uint4 weights = norm_weights(norm);
    const Tile first = tile(ahead_), second = tile(ahead_);
    grid_.wait(before);
    mark(l_, 1);
    norm_row(args_.hidden, weights, args_.eps, shared_.input);
    mark(l_, 2);
    const Input x = input();
    multiply_two(first, second, x, 0);
    two(ahead_, x, 2);
    return x;
  }
  // The thread's element of the block's tile of the residual, which nobody else writes.
  __device__ float residual() const {
    return threadIdx.x < kRowTile ? fresh_bf16(args_.hidden, block_ * kRowTile + static_cast<int>(threadIdx.x)) : 0.f;
  }
  __device__ void put_residual(float value) const {
    static_cast<Bf16*>(args_.hidden)[block_ * kRowTile + threadIdx.x] = from_f32<Bf16>(value);
  }

  __device__ void mix(const RowLayerArgs& layer, unsigned before) {
    const int read = args_.state_read[0], write = args_.state_write[0];
    RowMixing<S> part;
    part.read(layer, read);
    two(from_, first_products(layer.input_norm, before), kAheadTiles);
    from_.begin();
    multiply_small(from_.data() + min(lane_ / 4, 1) * (row_shape::kHidden * sizeof(Bf16)), shared_.input.values,
                   shared_.small);
    from_.end();
    row_sync();
    mark(l_, 3);
    part.hand_out(layer, shared_.sums, write, scratch_, epoch_);
    if (part.renews()) {
      part.read_state(layer, read);  // while q and k are on their way
      const float decay = part.decay(small_total(shared_.small, 0)), beta = sigmoid(small_total(shared_.small, 1));
      const float2 scale = part.take_head(scratch_.heads[part.place.key_head], shared_.head, epoch_);
      mark(l_, 4);
      part.renew(shared_.head, scale, decay, beta, scratch_);
      mark(l_, 15);
      if (warp_ == 0) grid_.arrive();
      if (write >= 0) part.store_state(layer, write);  // nobody in this launch waits for it
    }
  }
  __device__ void out(const RowLayerArgs& layer) {
    constexpr int kBlocks = 2 * kRowShare;
    const bool mixes = layer.qkv.data != nullptr;
    const float old = residual();
    float norm[4] = {};
    if (mixes) {
#pragma unroll
      for (int j = 0; j < 4; ++j) norm[j] = row_element(layer.norm, lane_ * 4 + j);
    }
    const Tile low = tile(from_), high = tile(from_);
    grid_.wait(targets_.mixed);
    mark(l_, 6);
    uint2 raw[kBlocks];
    float4 gate[kBlocks];
    const Bf16* mixed = mixes ? scratch_.results : static_cast<const Bf16*>(args_.mixed);
#pragma unroll
    for (int b = 0; b < kBlocks; ++b) {
      const int at = (warp_ + b * kRowWarps) * 128 + lane_ * 4;
      raw[b] = fresh<uint2>(mixed + at);
      if (mixes) gate[b] = fresh<float4>(scratch_.gate + at);
    }
    if (mixes) {
#pragma unroll
      for (int b = 0; b < kBlocks; ++b) raw[b] = row_gated(raw[b], gate[b], norm, layer.norm_eps);
    }
    float scale[kBlocks];
    quantize_blocks(raw, shared_.exchange[warp_], scale);
    float2 sum = {};
    multiply(low, exchanged(0, scale), sum);
    in_turn();
    multiply(high, exchanged(kRowShare, scale), sum);
    put_sums(shared_.sums, warp_, sum);
    row_sync();
    if (warp_ != 0) return;
    if (lane_ < kRowTile) put_residual(old + total_of<kRowWarps>(shared_.sums, 0, lane_));
    grid_.arrive();
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
  __device__ void middle(const RowLayerArgs& layer) {
    const bool paired = block_ > kRouterTiles && block_ < kMiddleTiles;
    const uint4 weights = norm_weights(layer.post_norm);
    Tile shared = {};
    if (paired) shared = tile(from_);
    grid_.wait(targets_.out);
    mark(l_, 8);
    norm_row(args_.hidden, weights, args_.eps, shared_.input);
    mark(l_, 9);
    x_ = input();
    if (block_ >= kMiddleTiles) return;
    if (paired) {
      float2 sum = {};
      multiply(shared, x_, sum);
      put_sums(shared_.sums, warp_, sum);
    } else {
      small(block_ < kRouterTiles);
    }
    row_sync();
    if (warp_ != 0) return;
    if (paired) put_halves(row_shape::kChoices, block_ - kRouterTiles - 1, 0);
    if (!paired && lane_ < (block_ < kRouterTiles ? 8 : 1)) {
      scratch_.logits[block_ * 8 + lane_] = small_total(shared_.small, lane_);
    }
    grid_.arrive();
  }
  // Eight rows of bf16, of which the lane has its output's, or the only one.
  __device__ void small(bool eight) {
    constexpr int kRow = row_shape::kHidden * sizeof(Bf16);
    const auto second = from_.behind();
    from_.begin();
    if (eight) second.begin();
    const int output = eight ? lane_ / 4 : 0;
    multiply_small((output < 4 ? from_.data() : second.data()) + output % 4 * kRow, shared_.input.values,
                   shared_.small);
    from_.end();
    if (eight) from_.end();
  }
  // silu(gate) * up of an expert's eight outputs of a tile; lanes 8 .. 31 have nothing to do.
  __device__ void put_halves(int expert, int tile, int at) {
    if (lane_ < 8) put_half(expert, tile, at, lane_);
  }
  __device__ void put_half(int expert, int tile, int at, int output) {
    const float gate = to_f32(from_f32<Bf16>(total_of<kRowWarps>(shared_.sums, at, output)));
    const float up = to_f32(from_f32<Bf16>(total_of<kRowWarps>(shared_.sums, at, output + 8)));
    scratch_.halves[expert][tile * 8 + output] = from_f32<Bf16>(silu(gate) * up);
  }
  // The fetching warp waits for the experts to be known, and so does who waits for their weights; so the sums before
  // these have been read: the block has said what it made of them.
  __device__ void up() {
    from_.begin();
    mark(l_, 11);
    two(from_, x_, 0);
    two(from_, x_, 2);
    row_sync();
    if (warp_ != 0) return;
    const int i = lane_ / 8, t = block_ + i * kGridBlocks;
    put_half(t / kWidthTiles, t % kWidthTiles, i * kRowWarps, lane_ % 8);
    grid_.arrive();
  }
  __device__ void down() {
    // Of a piece's two experts the warp has one, and of the last one's only one half of the warps.
    const int of = warp_ / kDownBlocks, block = warp_ % kDownBlocks;
    const float old = residual();
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
    grid_.wait(targets_.up);
    mark(l_, 13);
    const float logit = fresh<float>(scratch_.logits + row_shape::kExperts);
    uint2 raw[kDownPieces];
    float scale[kDownPieces];
#pragma unroll
    for (int i = 0; i < kDownPieces; ++i) {
      const int expert = min(i * 2 + of, row_shape::kChoices);
      raw[i] = fresh<uint2>(scratch_.halves[expert] + block * 128 + lane_ * 4);
    }
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
      put_sums(shared_.sums, expert * kDownBlocks + block, make_float2(fmaf(by, part.x, 0.f), fmaf(by, part.y, 0.f)));
    }
    row_sync();
    if (warp_ != 0) return;
    if (lane_ < kRowTile) put_residual(with_experts(logit) + old);
    grid_.arrive();
  }
  __device__ float with_experts(float logit) const {
    float sum = 0.f;
#pragma unroll
    for (int e = 0; e <= row_shape::kChoices; ++e) {
      const float weight = e < row_shape::kChoices ? shared_.weight[e] : sigmoid(logit);
      sum = fmaf(weight, total_of<kDownBlocks>(shared_.sums, e * kDownBlocks, lane_), sum);
    }
    return sum;
  }
  // An attention's first products over the normed residual.
  __device__ void products() {
    const int tiles = row_product_tiles();
    const Input x = first_products(args_.next_norm, targets_.down);
    if (tiles > kAheadTiles) {
      float2 sum = {};
      multiply(tile(from_), x, sum);
      put_sums(shared_.sums, kAheadTiles * kRowWarps + warp_, sum);
    }
    row_sync();
    const int i = static_cast<int>(threadIdx.x) / kRowTile, output = static_cast<int>(threadIdx.x) % kRowTile;
    if (i >= tiles) return;
    const RowProductPlace place(i);
    static_cast<Bf16*>(args_.products.out[place.matrix])[place.row + output] =
        from_f32<Bf16>(total_of<kRowWarps>(shared_.sums, i * kRowWarps, output));
  }
  // Or only that norm.
  __device__ void finish() {
    const uint4 weights = norm_weights(args_.next_norm);
    grid_.wait(targets_.down);
    norm_row(args_.hidden, weights, args_.eps, shared_.input);
    static_cast<uint4*>(args_.normed)[threadIdx.x] = reinterpret_cast<const uint4*>(shared_.input.values)[threadIdx.x];
  }
  // One thread, behind the block's last look at the counter: who leaves last leaves it as it was, and counts launches.
  __device__ void leave() const {
    unsigned left;
    asm volatile("atom.acq_rel.gpu.global.add.u32 %0, [%1], 1;" : "=r"(left) : "l"(args_.counters + 1) : "memory");
    if (left != kGridBlocks - 1) return;
    args_.counters[0] = 0;
    args_.counters[1] = 0;
    ++args_.counters[2];
  }

  const RowLayersArgs& args_;
  RowShared& shared_;
  RowTake<RowAhead> ahead_;
  RowTake<RowInTurn> from_;
  RowScratch& scratch_;
  RowGrid grid_;
  RowTargets targets_;
  int warp_, lane_, block_;
  uint32_t epoch_ = 0;  // of the layer
  Input x_;             // of the row that the experts read
  int l_ = 0;
};

}  // namespace hylas::cuda
