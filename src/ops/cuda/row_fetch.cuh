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
    const auto& scratch = *static_cast<const RowScratch*>(args_.scratch);
    uint32_t epoch = 0;
#pragma unroll 1
    for (int i = -1; i <= args_.layers; ++i) {
      if (first_ && i >= 0) rest(i);
      if (i == args_.layers) break;
      if (first_ && i >= 0) {
        out_soon(args_.layer[i]);
        out(args_.layer[i]);
        mark(i, 15);
        middle(args_.layer[i]);
        mark(i, 16);
      }
      if (first_) ahead(i + 1);
      if (i < 0) continue;
      const RowLayerArgs& layer = args_.layer[i];
      if (first_) rest_soon(i + 1);
      mark(i, 17);
      __syncwarp();
      if (i == 0) {  // what is read from here on may have been written by a launch before
        asm volatile("griddepcontrol.wait;" ::: "memory");
        epoch = first_epoch(args_.counters + 1);
      }
      down(layer, route(layer, scratch.logits, epoch + i, i));
      mark(i, 2);
    }
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
#pragma unroll 1
    for (int i = 0; i < 2; ++i) piece(rows.of, rows.row + i * kRowPiece, to);
  }
  // First products of layer `i`, or of what comes behind all layers: the block's tiles, and which rows they are of.
  __device__ int tiles(int i) const {
    if (i < args_.layers) return args_.layer[i].qkv.data ? kMixerTiles : 0;
    return args_.products.matrix[0].data ? row_product_tiles() : 0;
  }
  __device__ RowRows rows(int i, int tile) const {
    if (i < args_.layers) return row_mixer_tile(args_.layer[i], place_, tile);
    const RowProductPlace place(tile);
    return {args_.products.matrix[place.matrix], place.row};
  }
  __device__ void ahead(int i) {
    const int count = min(tiles(i), kAheadTiles);
#pragma unroll 1
    for (int t = 0; t < count; ++t) tile(rows(i, t), ahead_);
  }
  __device__ void rest(int i) {
    const int count = tiles(i);
    if (i < args_.layers && count > 0) gates(args_.layer[i]);
#pragma unroll 1
    for (int t = kAheadTiles; t < count; ++t) tile(rows(i, t), to_);
  }
  // To the second-level cache, while memory has nothing else to do.
  __device__ void rest_soon(int i) const {
    const int count = tiles(i);
#pragma unroll 1
    for (int t = kAheadTiles; t < count; ++t) {
      const RowRows of = rows(i, t);
      prefetch_bytes(of.of.data + static_cast<int64_t>(of.row) * row_shape::kHidden, 2 * kPieceBytes);
    }
  }
  __device__ void out_soon(const RowLayerArgs& layer) const {
    constexpr int kBytes = kRowTile * row_shape::kValues;
    prefetch_bytes(layer.out.data + static_cast<int64_t>(block_) * kBytes, kBytes);
    const auto* norm = static_cast<const unsigned char*>(layer.norm.data);
    const int bytes = row_shape::kDim * (layer.norm.dtype == DType::kF32 ? sizeof(float) : sizeof(Bf16));
    for (int at = 0; norm && at < bytes; at += 128) asm volatile("prefetch.global.L2 [%0];" ::"l"(norm + at));
  }
  // The rows of bf16 from `row` on.
  __device__ void small(const void* from, int row, int rows) {
    constexpr uint32_t kRow = row_shape::kHidden * sizeof(Bf16);
    to_.begin(rows * kRow);
    to_.data(0, static_cast<const unsigned char*>(from) + static_cast<int64_t>(row) * kRow, rows * kRow);
    to_.end();
  }
  __device__ void gates(const RowLayerArgs& layer) {
    constexpr uint32_t kRow = row_shape::kHidden * sizeof(Bf16);
    const int64_t at = static_cast<int64_t>(place_.head) * kRow;
    to_.begin(2 * kRow);
    to_.data(0, static_cast<const unsigned char*>(layer.a) + at, kRow);
    to_.data(kRow, static_cast<const unsigned char*>(layer.b) + at, kRow);
    to_.end();
  }
  // Half of K after the other, of each eight rows and the next eight. They take turns with what comes ahead, so that
  // nothing but the first products has to be done before they are asked for.
  __device__ void out(const RowLayerArgs& layer) {
    using namespace row_shape;
#pragma unroll 1
    for (int i = 0; i < 4; ++i) {
      const int half = i / 2, row = block_ * kRowTile + i % 2 * kRowPiece;
      const unsigned char* from = layer.out.data + static_cast<int64_t>(row) * kValues + half * kHidden;
      ahead_.begin(kPieceBytes + kRowBlocks * sizeof(float));
#pragma unroll 1
      for (int r = 0; r < kRowPiece; ++r) ahead_.data(r * kHidden, from + r * kValues, kHidden);
      ahead_.scale(0, layer.out.scale + (row / 128 * 2 + half) * kRowBlocks, kRowBlocks);
      ahead_.end();
    }
  }
  __device__ void middle(const RowLayerArgs& layer) {
    if (block_ <= kRouterTiles) {
      const bool router = block_ < kRouterTiles;
#pragma unroll 1
      for (int i = 0; i < (router ? 2 : 1); ++i) {
        small(router ? layer.router : layer.shared_gate, router ? block_ * 8 + i * 4 : 0, router ? 4 : 1);
      }
    } else if (block_ < kMiddleTiles) {
      const int row = (block_ - kRouterTiles - 1) * 8;
#pragma unroll 1
      for (int i = 0; i < 2; ++i) piece(i == 0 ? layer.shared_gate_rows : layer.shared_up, row, to_);
    }
  }
  __device__ void expert_up(const RowLayerArgs& layer, int expert, int tile) {
    using namespace row_shape;
#pragma unroll 1
    for (int i = 0; i < 2; ++i) {
      const int64_t at = 2 * static_cast<int64_t>(expert) + i;
      piece({layer.experts.data + at * kWidth * kHidden, layer.experts.scale + at * kUpScales}, tile * 8, to_);
    }
  }
  // Of every chosen expert and the shared one behind them.
  __device__ void down(const RowLayerArgs& layer, int id) {
    using namespace row_shape;
    const int scale = block_ * kRowTile / 128 * kDownBlocks;
#pragma unroll 1
    for (int from = 0; from <= kChoices; from += 2) {
      const int count = from < kChoices ? 2 : 1;
      if (first_) to_.begin(count * (kDownBytes + kDownBlocks * sizeof(float)));
#pragma unroll 1
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
  __device__ int route(const RowLayerArgs& layer, const uint64_t* logits, uint32_t epoch, int l) {
    constexpr int kHeld = row_shape::kExperts / 32, kChoices = row_shape::kChoices;
    const int lane = threadIdx.x % 32;
    int tile = block_;
    uint32_t bits[kHeld];
    LogitsSoon::wait();
    take_words(bits, epoch, [&](int i) { return logits + lane + 32 * i; });
    mark(l, 20);
    float highest = -INFINITY;
#pragma unroll
    for (int i = 0; i < kHeld; ++i) highest = fmaxf(highest, __uint_as_float(bits[i]));
    for (int offset = 16; offset > 0; offset /= 2) highest = fmaxf(highest, __shfl_xor_sync(~0u, highest, offset));
    unsigned key[kHeld];
#pragma unroll
    for (int i = 0; i < kHeld; ++i) key[i] = __float_as_uint(expf(fmaxf(__uint_as_float(bits[i]) - highest, -87.f)));
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
#pragma unroll 1
      for (; tile < (j + 1) * kWidthTiles; tile += kGridBlocks) {
        if (first_) expert_up(layer, static_cast<int>(id), tile % kWidthTiles);
        if (tile == block_) mark(l, 18);
      }
    }
    if (lane < kChoices) shared_.weight[lane] = mine / sum;
    __syncwarp();
    mark(l, 21);
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
