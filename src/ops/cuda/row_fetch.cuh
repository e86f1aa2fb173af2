#pragma once
// The fetching warp of row_layers.cu. It goes through the weights in the order of their use and finds out itself which
// experts they are to be.
#include "ops/cuda/row_plan.cuh"

namespace hylas::cuda {

class RowFetcher {
 public:
  __device__ RowFetcher(const RowLayersArgs& args, RowShared& shared)
      : args_(args),
        shared_(shared),
        ahead_(shared.ahead),
        to_(shared.slots),
        block_(static_cast<int>(blockIdx.x)),
        first_(threadIdx.x % 32 == 0) {}

  __device__ void run() {
    RowTargets targets;
    const RowGrid grid{args_.counters};
    auto& scratch = *static_cast<RowScratch*>(args_.scratch);
    if (first_ && args_.layer[0].qkv.data) inputs_ahead(args_.layer[0]);
#pragma unroll 1
    for (int i = 0; i < args_.layers; ++i) {
      const RowLayerArgs& layer = args_.layer[i];
      const bool more = i + 1 < args_.layers;
      targets.next(layer);
      if (first_) {
        if (layer.qkv.data) inputs(layer);
        out(layer);
        if (more) inputs_ahead(args_.layer[i + 1]);
        if (!more && args_.products.matrix[0].data) products_ahead();
        middle(layer);
        if (more) inputs_soon(args_.layer[i + 1]);
        if (!more && args_.products.matrix[0].data) products_soon();
        // The counters are those of a launch before, until that is done.
        if (i == 0) asm volatile("griddepcontrol.wait;" ::: "memory");
        grid.poll(targets.middle);
      }
      __syncwarp();
      down(layer, route(layer, scratch));
    }
    if (first_ && args_.products.matrix[0].data) products();
  }

 private:
  template <class To>
  __device__ static void piece(const RowMatrix& from, int row, To& to) {
    to.begin(kPieceBytes + kRowBlocks * sizeof(float));
    to.data(0, from.data + static_cast<int64_t>(row) * row_shape::kHidden, kPieceBytes);
    to.scale(0, from.scale + row / 128 * kRowBlocks, kRowBlocks);
    to.end();
  }
  template <class To>
  __device__ static void tile(const RowRows& rows, To& to) {
    piece(rows.of, rows.row, to);
    piece(rows.of, rows.row + kRowPiece, to);
  }
  // To the second-level cache, while memory has nothing else to do.
  __device__ static void soon(const RowRows& rows) {
    prefetch_bytes(rows.of.data + static_cast<int64_t>(rows.row) * row_shape::kHidden, 2 * kPieceBytes);
  }
  __device__ RowRows product(int i) const {
    const RowProductPlace place(i);
    return {args_.products.matrix[place.matrix], place.row};
  }

  __device__ void inputs_ahead(const RowLayerArgs& layer) {
#pragma unroll 1
    for (int i = 0; i < kAheadTiles; ++i) tile(row_mixer_tile(layer, place_, i), ahead_);
  }
  __device__ void products_ahead() {
#pragma unroll 1
    for (int i = 0; i < kAheadTiles; ++i) tile(product(i), ahead_);
  }
  __device__ void inputs_soon(const RowLayerArgs& layer) const {
#pragma unroll 1
    for (int i = kAheadTiles; i < kMixerTiles; ++i) soon(row_mixer_tile(layer, place_, i));
  }
  __device__ void products_soon() const {
    if (row_product_tiles() > kAheadTiles) soon(product(kAheadTiles));
  }
  __device__ void products() {
    if (row_product_tiles() > kAheadTiles) tile(product(kAheadTiles), to_);
  }
  // The rows of bf16 from `row` on.
  __device__ void small(const void* from, int row, int rows) {
    constexpr uint32_t kRow = row_shape::kHidden * sizeof(Bf16);
    to_.begin(rows * kRow);
    to_.data(0, static_cast<const unsigned char*>(from) + static_cast<int64_t>(row) * kRow, rows * kRow);
    to_.end();
  }
  __device__ void inputs(const RowLayerArgs& layer) {
    constexpr uint32_t kRow = row_shape::kHidden * sizeof(Bf16);
#pragma unroll 1
    for (int i = kAheadTiles; i < kMixerTiles; ++i) tile(row_mixer_tile(layer, place_, i), to_);
    const int64_t at = static_cast<int64_t>(place_.head) * kRow;
    to_.begin(2 * kRow);
    to_.data(0, static_cast<const unsigned char*>(layer.a) + at, kRow);
    to_.data(kRow, static_cast<const unsigned char*>(layer.b) + at, kRow);
    to_.end();
  }
  // Half of K after the other, of each eight rows and the next eight.
  __device__ void out(const RowLayerArgs& layer) {
    using namespace row_shape;
#pragma unroll 1
    for (int i = 0; i < 4; ++i) {
      const int half = i / 2, row = block_ * kRowTile + i % 2 * kRowPiece;
      const unsigned char* from = layer.out.data + static_cast<int64_t>(row) * kValues + half * kHidden;
      to_.begin(kPieceBytes + kRowBlocks * sizeof(float));
      for (int r = 0; r < kRowPiece; ++r) to_.data(r * kHidden, from + r * kValues, kHidden);
      to_.scale(0, layer.out.scale + (row / 128 * 2 + half) * kRowBlocks, kRowBlocks);
      to_.end();
    }
  }
  __device__ void middle(const RowLayerArgs& layer) {
    if (block_ < kRouterTiles) {
      small(layer.router, block_ * 8, 4);
      small(layer.router, block_ * 8 + 4, 4);
    } else if (block_ == kRouterTiles) {
      small(layer.shared_gate, 0, 1);
    } else if (block_ < kMiddleTiles) {
      const int row = (block_ - kRouterTiles - 1) * 8;
      piece(layer.shared_gate_rows, row, to_);
      piece(layer.shared_up, row, to_);
    }
  }
  __device__ void expert_up(const RowLayerArgs& layer, int expert, int tile) {
    using namespace row_shape;
    const int64_t first = 2 * static_cast<int64_t>(expert);
    const RowMatrix gate = {layer.experts.data + first * kWidth * kHidden, layer.experts.scale + first * kUpScales};
    piece(gate, tile * 8, to_);
    piece({gate.data + kWidth * kHidden, gate.scale + kUpScales}, tile * 8, to_);
  }
  // Of every chosen expert and the shared one behind them.
  __device__ void down(const RowLayerArgs& layer, int id) {
    using namespace row_shape;
    const int scale = block_ * kRowTile / 128 * kDownBlocks;
#pragma unroll 1
    for (int from = 0; from <= kChoices; from += 2) {
      const int count = from < kChoices ? 2 : 1;
      if (first_) to_.begin(count * (kDownBytes + kDownBlocks * sizeof(float)));
      for (int i = 0; i < count; ++i) {
        const int64_t expert = __shfl_sync(~0u, id, (from + i) % 32);
        const RowMatrix of = from + i == kChoices ? layer.shared_down
                                                  : RowMatrix{layer.experts_down.data + expert * kHidden * kWidth,
                                                              layer.experts_down.scale + expert * kDownScales};
        if (!first_) continue;
        to_.data(i * kDownBytes, of.data + static_cast<int64_t>(block_) * kDownBytes, kDownBytes);
        to_.scale(i * kDownBlocks, of.scale + scale, kDownBlocks);
      }
      to_.end();
    }
  }
  // As route.cu: lane j gets choice j's expert, whose tiles are fetched at once; the weights go to shared memory.
  __device__ int route(const RowLayerArgs& layer, const RowScratch& scratch) {
    constexpr int kHeld = row_shape::kExperts / 32, kChoices = row_shape::kChoices;
    const int lane = threadIdx.x % 32;
    int tile = block_;
    float value[kHeld], highest = -INFINITY;
#pragma unroll
    for (int i = 0; i < kHeld; ++i) value[i] = fresh<float>(scratch.logits + lane + 32 * i);
#pragma unroll
    for (int i = 0; i < kHeld; ++i) highest = fmaxf(highest, value[i]);
    for (int offset = 16; offset > 0; offset /= 2) highest = fmaxf(highest, __shfl_xor_sync(~0u, highest, offset));
    unsigned key[kHeld];
#pragma unroll
    for (int i = 0; i < kHeld; ++i) key[i] = __float_as_uint(expf(fmaxf(value[i] - highest, -87.f)));
    float sum = 0.f, mine = 0.f;
    int chosen = 0;
#pragma unroll 1
    for (int j = 0; j < kChoices; ++j) {
      unsigned best = key[0];
#pragma unroll
      for (int i = 1; i < kHeld; ++i) best = max(best, key[i]);
      best = __reduce_max_sync(~0u, best);
      unsigned id = ~0u;
#pragma unroll
      for (int i = kHeld - 1; i >= 0; --i) {
        if (key[i] == best) id = lane + 32 * i;
      }
      id = __reduce_min_sync(~0u, id);
#pragma unroll
      for (int i = 0; i < kHeld; ++i) {
        if (lane + 32 * i == id) key[i] = 0;
      }
      sum += __uint_as_float(best);
      if (lane == j) {
        mine = __uint_as_float(best);
        chosen = static_cast<int>(id);
      }
      for (; tile < (j + 1) * kWidthTiles; tile += kGridBlocks) {
        if (first_) expert_up(layer, static_cast<int>(id), tile % kWidthTiles);
      }
    }
    if (lane < kChoices) shared_.weight[lane] = mine / sum;
    __syncwarp();
    return chosen;
  }

  const RowLayersArgs& args_;
  RowShared& shared_;
  RowFetch<RowAhead> ahead_;
  RowFetch<RowInTurn> to_;
  RowPlace place_;
  int block_;
  bool first_;
};

}  // namespace hylas::cuda
