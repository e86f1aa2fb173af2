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
        lane_(static_cast<int>(threadIdx.x) % 32) {}

  __device__ void run() {
    const auto& scratch = *static_cast<const RowScratch*>(args_.scratch);
    uint32_t epoch = 0;
#pragma unroll 1
    for (int i = -1; i <= args_.layers; ++i) {
      if (i >= 0) rest(i);
      if (i == args_.layers) break;
      if (i >= 0) {
        const RowLayerArgs& layer = args_.layer[i];
        if (i > 0) out_soon(layer);
        out(layer);
        middle(layer);
      }
      ahead(i + 1);
      if (i < 0) continue;
      rest_soon(i + 1);
      if (i == 0) {  // what is read from here on may have been written by a launch before
        asm volatile("griddepcontrol.wait;" ::: "memory");
        epoch = first_epoch(args_.counters + 1);
      }
      const RowLayerArgs& layer = args_.layer[i];
      down(layer, route(layer, scratch.logits, epoch + i));
    }
  }

 private:
  template <class To>
  __device__ __forceinline__ static void piece(const RowMatrix& from, int row, const To& to) {
    to.begin(kPieceBytes + kRowBlocks * sizeof(float));
    to.data(0, from.data + static_cast<int64_t>(row) * row_shape::kHidden, kPieceBytes);
    to.scale(0, from.scale + row / 128 * kRowBlocks, kRowBlocks);
  }
  // Half `half` of a tile.
  template <class To>
  __device__ __forceinline__ static void half_tile(const RowRows& rows, int half, const To& to) {
    piece(rows.of, rows.row + half * kRowPiece, to);
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
  __device__ __forceinline__ void ahead(int i) {
    const int count = min(tiles(i), kAheadTiles);
#pragma unroll 1
    for (int t = 0; t < count; t += 2) {
      ahead_.pieces(4, [&](int p) { half_tile(rows(i, t + p / 2), p % 2, ahead_); });
    }
  }
  // a and b, and the tiles behind those that came ahead.
  __device__ __forceinline__ void rest(int i) {
    const int gates = i < args_.layers ? 1 : 0, more = tiles(i) - kAheadTiles;
    if (more <= 0) return;
    to_.pieces(gates + 2 * more, [&](int p) {
      if (p < gates) {
        constexpr uint32_t kRow = row_shape::kHidden * sizeof(Bf16);
        const int64_t at = static_cast<int64_t>(place_.head) * kRow;
        to_.begin(2 * kRow);
        to_.data(0, static_cast<const unsigned char*>(args_.layer[i].a) + at, kRow);
        to_.data(kRow, static_cast<const unsigned char*>(args_.layer[i].b) + at, kRow);
      } else {
        half_tile(rows(i, kAheadTiles + (p - gates) / 2), (p - gates) % 2, to_);
      }
    });
  }
  // To the second-level cache, while memory has nothing else to do.
  __device__ __forceinline__ void rest_soon(int i) const {
    if (lane_ >= tiles(i) - kAheadTiles) return;
    const RowRows of = rows(i, kAheadTiles + lane_);
    prefetch_bytes(of.of.data + static_cast<int64_t>(of.row) * row_shape::kHidden, 2 * kPieceBytes);
  }
  __device__ __forceinline__ void out_soon(const RowLayerArgs& layer) const {
    if (lane_ < 4) prefetch_bytes(out_piece(layer, lane_), kPieceBytes);
    const int bytes = row_shape::kDim * (layer.norm.dtype == DType::kF32 ? sizeof(float) : sizeof(Bf16));
    if (lane_ * 128 < bytes) {
      asm volatile("prefetch.global.L2 [%0];" ::"l"(static_cast<const unsigned char*>(layer.norm.data) + lane_ * 128));
    }
  }
  // Four rows each. They take turns with what comes ahead, so that nothing but the first products has to be done before
  // they are asked for.
  __device__ __forceinline__ const unsigned char* out_piece(const RowLayerArgs& layer, int p) const {
    return layer.out.data + static_cast<int64_t>(4 * block_ + p) * kPieceBytes;
  }
  __device__ __forceinline__ void out(const RowLayerArgs& layer) {
    ahead_.pieces(4, [&](int p) {
      ahead_.begin(kPieceBytes + (p < 2 ? kRowBlocks * sizeof(float) : 0));
      ahead_.data(0, out_piece(layer, p), kPieceBytes);
      if (p < 2) ahead_.scale(0, layer.out.scale + (block_ * kRowTile / 128 * 2 + p) * kRowBlocks, kRowBlocks);
    });
  }
  __device__ __forceinline__ void middle(const RowLayerArgs& layer) {
    if (block_ >= kMiddleTiles) return;
    constexpr uint32_t kRow = row_shape::kHidden * sizeof(Bf16);
    to_.pieces(block_ == kRouterTiles ? 1 : 2, [&](int p) {
      if (block_ > kRouterTiles) {
        piece(p == 0 ? layer.shared_gate_rows : layer.shared_up, (block_ - kRouterTiles - 1) * kRowPiece, to_);
        return;
      }
      const bool router = block_ < kRouterTiles;
      const auto* from = static_cast<const unsigned char*>(router ? layer.router : layer.shared_gate);
      const uint32_t bytes = (router ? 4 : 1) * kRow;
      to_.begin(bytes);
      to_.data(0, from + static_cast<int64_t>(router ? block_ * 2 + p : 0) * bytes, bytes);
    });
  }
  __device__ __forceinline__ void expert_up(const RowLayerArgs& layer, int expert, int tile) {
    to_.pieces(2, [&](int p) {
      const int64_t at = 2 * static_cast<int64_t>(expert) + p;
      piece({layer.experts.data + at * row_shape::kWidth * row_shape::kHidden, layer.experts.scale + at * kUpScales},
            tile * 8, to_);
    });
  }
  // Of every chosen expert, two a piece, and the shared one behind them; lane j knows choice j.
  __device__ __forceinline__ void down(const RowLayerArgs& layer, int id) {
    const int scale = block_ * kRowTile / 128 * kDownBlocks;
#pragma unroll 1
    for (int from = 0; from < kDownPieces; from += 2) {
      const int mine = 2 * (from + lane_);
      const int ids[2] = {__shfl_sync(~0u, id, mine % 32), __shfl_sync(~0u, id, (mine + 1) % 32)};
      to_.pieces(min(2, kDownPieces - from), [&](int p) {
        const int count = min(2, row_shape::kChoices + 1 - mine);
        to_.begin(count * (kDownBytes + kDownBlocks * sizeof(float)));
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          if (i >= count) break;
          const int64_t expert = ids[i];
          const RowMatrix of =
              mine + i == row_shape::kChoices
                  ? layer.shared_down
                  : RowMatrix{layer.experts_down.data + expert * row_shape::kHidden * row_shape::kWidth,
                              layer.experts_down.scale + expert * kDownScales};
          to_.data(i * kDownBytes, of.data + static_cast<int64_t>(block_) * kDownBytes, kDownBytes);
          to_.scale(i * kDownBlocks, of.scale + scale, kDownBlocks);
        }
      });
    }
  }
  // As route.cu: lane j gets choice j's expert, whose tiles are fetched at once; the weights go to shared memory.
  __device__ int route(const RowLayerArgs& layer, const uint64_t* logits, uint32_t epoch) {
    constexpr int kHeld = row_shape::kExperts / 32, kChoices = row_shape::kChoices;
    const int lane = threadIdx.x % 32;
    int tile = block_;
    uint32_t bits[kHeld];
    LogitsSoon::wait();
    take_words(bits, epoch, [&](int i) { return logits + lane + 32 * i; });
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
        expert_up(layer, static_cast<int>(id), tile % kWidthTiles);
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
  int block_, lane_;
};

}  // namespace hylas::cuda
