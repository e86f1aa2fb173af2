// A decode row through some layers, in one launch of as many blocks as the GPU has multiprocessors, which stay. Between
// products the blocks meet at a counter; what a launch of its own for each would leave idle is used all the same: one
// warp of a block fetches the weights that the block will want, up to 192 KiB ahead, in the order of their use. Only
// which experts it will be has to be known first; the same warp finds it out.
//
// The arithmetic is that of the kernels that have an operator each, in their order: the same bits (row_math.cuh,
// row_mixer.cuh).
#include "ops/cuda/row_layers.h"

#include <cstdio>
#include <cstdlib>

#include "ops/cuda/row_mixer.cuh"
#include "tensor/cuda/launch.cuh"

namespace hylas::cuda {
namespace {

using namespace row_shape;

constexpr int kInputTiles = (kChannels + kValues) / kRowTile, kGateTiles = 2 * kValueHeads / 8;
constexpr int kHiddenTiles = kHidden / kRowTile;
constexpr int kRouterTiles = kExperts / 8, kWidthTiles = kWidth / 8;
constexpr int kMiddleTiles = kRouterTiles + 1 + kWidthTiles;  // router, the shared expert's gate, its products
constexpr int kExpertTiles = kChoices * kWidthTiles;
constexpr int kHalfRow = kHidden;  // bytes: a tile's rows of FP8, or half of those of the mixer's product
constexpr int kUpScales = kWidth / 128 * kRowBlocks, kDownBlocks = kWidth / 128;
constexpr int kDownScales = kHidden / 128 * kDownBlocks;
constexpr int kDownEach = kSlotBytes / (kRowTile * kWidth);  // experts of a slot
static_assert(kDownEach * kDownBlocks == 2 * kRowWarps && kDownBlocks == 4 && kValues == 2 * kHidden && kRowShare == 2);
constexpr int kDownSlots = (kChoices + kDownEach) / kDownEach;

// Pieces of the next layer's first products, fetched while it is not known yet which experts this one wants; and all
// others in turn.
constexpr int kAhead = 3, kInTurn = 3;
using Ahead = RowSlots<kAhead>;
using InTurn = RowSlots<kInTurn>;

struct Shared {
  Ahead ahead;
  InTurn slots;
  RowInput input;
  union {
    RowSums sums;
    RowHead head;
  };
  float small[8 * 8];
  alignas(16) unsigned char exchange[kRowWarps][5][128];
  float weight[kChoices];
};

// Which counts the blocks have to reach together, in this order in every layer.
struct Targets {
  unsigned inputs, mixed, out, middle, up, down;
  __device__ __forceinline__ void next(const RowLayerArgs& layer, unsigned grid) {
    const auto some = [&](int tiles) { return min(grid, static_cast<unsigned>(tiles)); };
    inputs = down + (layer.qkv.data ? grid : 0);
    mixed = inputs + (layer.qkv.data ? kValueHeads : 0);
    out = mixed + some(kHiddenTiles);
    middle = out + some(kMiddleTiles);
    up = middle + grid;
    down = up + some(kHiddenTiles);
  }
};

__device__ __forceinline__ int head_of_block() { return static_cast<int>(gridDim.x - 1 - blockIdx.x); }

// The fetching warp.
class Fetch {
 public:
  __device__ Fetch(const RowLayersArgs& args, Shared& shared)
      : args_(args), shared_(shared), ahead_(shared.ahead), to_(shared.slots), first_(threadIdx.x % 32 == 0) {}

  __device__ void run() {
    Targets targets = {};
    const RowGrid grid{args_.counters};
    auto& scratch = *static_cast<RowScratch*>(args_.scratch);
    for (int i = 0; i < args_.layers; ++i) {
      const RowLayerArgs& layer = args_.layer[i];
      targets.next(layer, gridDim.x);
      if (first_ && layer.qkv.data) {
        if (i == 0) inputs_ahead(layer);
        inputs(layer);
        if (i == 0) asm volatile("griddepcontrol.wait;" ::: "memory");  // states and their slots are others' work
        state(layer);
      }
      if (first_) {
        middle(layer);
        if (i + 1 < args_.layers) inputs_ahead(args_.layer[i + 1]);
        grid.poll(targets.middle);
      }
      __syncwarp();
      const int id = route(layer, scratch);
#pragma unroll 1
      for (int tile = static_cast<int>(blockIdx.x); tile < kHiddenTiles; tile += static_cast<int>(gridDim.x)) {
        down(layer, id, tile);
      }
    }
  }

 private:
  template <class To>
  __device__ static void input(const RowLayerArgs& layer, int tile, To& to) {
    constexpr int kFirst = kChannels / kRowTile;
    const RowMatrix& from = tile < kFirst ? layer.qkv : layer.z;
    if (tile >= kFirst) tile -= kFirst;
    to.begin(kSlotBytes + kRowBlocks * sizeof(float));
    to.data(0, from.data + static_cast<int64_t>(tile) * kSlotBytes, kSlotBytes);
    to.scale(0, from.scale + tile * kRowTile / 128 * kRowBlocks, kRowBlocks);
    to.end();
  }
  __device__ void inputs_ahead(const RowLayerArgs& layer) {
    for (int i = 0; i < kAhead; ++i) input(layer, blockIdx.x + i * gridDim.x, ahead_);
  }
  __device__ void paired(const RowMatrix& gate, const RowMatrix& up, int tile) {
    constexpr int kHalf = kSlotBytes / 2;
    const int64_t at = static_cast<int64_t>(tile) * 8 * kHidden;
    const int scale = tile * 8 / 128 * kRowBlocks;
    to_.begin(kSlotBytes + 2 * kRowBlocks * sizeof(float));
    to_.data(0, gate.data + at, kHalf);
    to_.data(kHalf, up.data + at, kHalf);
    to_.scale(0, gate.scale + scale, kRowBlocks);
    to_.scale(kRowBlocks, up.scale + scale, kRowBlocks);
    to_.end();
  }
  __device__ void small(const void* from, int tile, int outputs) {
    const uint32_t bytes = outputs * kHidden * sizeof(Bf16);
    to_.begin(bytes);
    to_.data(0, static_cast<const unsigned char*>(from) + static_cast<int64_t>(tile) * kSlotBytes, bytes);
    to_.end();
  }
  __device__ void inputs(const RowLayerArgs& layer) {
#pragma unroll 1
    for (int tile = blockIdx.x + kAhead * gridDim.x; tile < kInputTiles + kGateTiles; tile += gridDim.x) {
      const int gate = tile - kInputTiles;
      if (gate >= 0) {
        small(gate < kGateTiles / 2 ? layer.a : layer.b, gate % (kGateTiles / 2), 8);
      } else {
        input(layer, tile, to_);
      }
    }
  }
  __device__ void state(const RowLayerArgs& layer) {
    const int read = args_.state_read[0], head = head_of_block();
    if (head >= kValueHeads || read < 0) return;
    to_.begin(kSlotBytes);
    to_.data(0, static_cast<const F16*>(layer.delta_pool) + read * layer.delta_stride + head * kDim * kDim, kSlotBytes);
    to_.end();
  }
  __device__ void middle(const RowLayerArgs& layer) {
#pragma unroll 1
    for (int tile = blockIdx.x; tile < kHiddenTiles; tile += gridDim.x) {
      for (int half = 0; half < 2; ++half) {
        to_.begin(kSlotBytes + kRowBlocks * sizeof(float));
        for (int row = 0; row < kRowTile; ++row) {
          to_.data(row * kHalfRow, layer.out.data + (static_cast<int64_t>(tile) * kRowTile + row) * kValues +
                                       half * kHalfRow, kHalfRow);
        }
        to_.scale(0, layer.out.scale + (tile * kRowTile / 128 * 2 + half) * kRowBlocks, kRowBlocks);
        to_.end();
      }
    }
#pragma unroll 1
    for (int tile = blockIdx.x; tile < kMiddleTiles; tile += gridDim.x) {
      if (tile < kRouterTiles) small(layer.router, tile, 8);
      if (tile == kRouterTiles) small(layer.shared_gate, 0, 1);
      if (tile > kRouterTiles) paired(layer.shared_gate_rows, layer.shared_up, tile - kRouterTiles - 1);
    }
  }
  __device__ void expert_up(const RowLayerArgs& layer, int expert, int tile) {
    const int64_t first = 2 * static_cast<int64_t>(expert);
    const RowMatrix gate = {layer.experts.data + first * kWidth * kHidden, layer.experts.scale + first * kUpScales};
    paired(gate, {gate.data + kWidth * kHidden, gate.scale + kUpScales}, tile);
  }
  // Of every chosen expert and the shared one behind them.
  __device__ void down(const RowLayerArgs& layer, int id, int tile) {
    constexpr uint32_t kBytes = kRowTile * kWidth;
    const int scale = tile * kRowTile / 128 * kDownBlocks;
#pragma unroll 1
    for (int from = 0; from <= kChoices; from += kDownEach) {
      const int count = min(kDownEach, kChoices + 1 - from);
      if (first_) to_.begin(count * (kBytes + kDownBlocks * sizeof(float)));
      for (int i = 0; i < count; ++i) {
        const int64_t expert = __shfl_sync(~0u, id, (from + i) % 32);
        const bool shared = from + i == kChoices;
        const RowMatrix of = shared ? layer.shared_down
                                    : RowMatrix{layer.experts_down.data + expert * kHidden * kWidth,
                                                layer.experts_down.scale + expert * kDownScales};
        if (!first_) continue;
        to_.data(i * kBytes, of.data + static_cast<int64_t>(tile) * kBytes, kBytes);
        to_.scale(i * kDownBlocks, of.scale + scale, kDownBlocks);
      }
      to_.end();
    }
  }
  // As route.cu: lane j gets choice j's expert, whose tiles are fetched at once; the weights go to shared memory.
  __device__ int route(const RowLayerArgs& layer, const RowScratch& scratch) {
    int tile = static_cast<int>(blockIdx.x);
    constexpr int kHeld = kExperts / 32;
    const int lane = threadIdx.x % 32;
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
      for (; tile < (j + 1) * kWidthTiles; tile += static_cast<int>(gridDim.x)) {
        if (first_) expert_up(layer, static_cast<int>(id), tile % kWidthTiles);
      }
    }
    if (lane < kChoices) shared_.weight[lane] = mine / sum;
    __syncwarp();
    return chosen;
  }

  const RowLayersArgs& args_;
  Shared& shared_;
  RowFetch<Ahead> ahead_;
  RowFetch<InTurn> to_;
  bool first_;
};

// The working warps.
__device__ unsigned long long row_trace[4][24][160];  // DEV: [layer][mark][block]
__device__ __forceinline__ void mark(int layer, int what) {  // DEV
  if (threadIdx.x == 0) {
    unsigned long long t;
    asm volatile("mov.u64 %0, %globaltimer;" : "=l"(t));
    row_trace[layer][what][blockIdx.x] = t;
  }
}

template <class S>
class Work {
 public:
  __device__ Work(const RowLayersArgs& args, Shared& shared)
      : args_(args),
        shared_(shared),
        ahead_(shared.ahead),
        from_(shared.slots),
        scratch_(*static_cast<RowScratch*>(args.scratch)),
        grid_{args.counters},
        warp_(__shfl_sync(~0u, static_cast<int>(threadIdx.x) / 32, 0)),
        g_(threadIdx.x % 32 / 4),
        block_(static_cast<int>(blockIdx.x)),
        blocks_(static_cast<int>(gridDim.x)) {}

  __device__ void run() {
    asm volatile("griddepcontrol.wait;" ::: "memory");
    for (int i = 0; i < args_.layers; ++i) {
      const RowLayerArgs& layer = args_.layer[i];
      const unsigned before = targets_.down;
      targets_.next(layer, gridDim.x);
      l_ = i;
      mark(l_, 0);
      if (layer.qkv.data) {
        RowHeadWarp part{.head = head_of_block(), .role = warp_};
        if (part.head < kValueHeads) part.read(layer, args_.state_read[0]);
        inputs(layer, before);
        mark(l_, 3);
        if (part.head < kValueHeads) mix(layer, part);
      }
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
    finish();
  }

 private:
  // The thread's weights of a norm over the row, fetched before the row is there.
  __device__ uint4 norm_weights(const void* weight) const {
    return static_cast<const uint4*>(weight)[threadIdx.x];
  }
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
  // The warp's part of a slot with FP8 rows of kHalfRow bytes, or eight rows of two matrices.
  struct Piece {
    RowWeights weights[kRowShare];
    float low[kRowShare], high[kRowShare];
  };
  template <class From>
  __device__ Piece piece(From& from, bool paired) {
    Piece p;
    from.begin();
#pragma unroll
    for (int b = 0; b < kRowShare; ++b) {
      const int block = warp_ + b * kRowWarps;
      const unsigned char* data = from.data() + block * 128;
      p.weights[b].take(data + g_ * kHalfRow, data + (g_ + 8) * kHalfRow);
      p.low[b] = from.scale()[block];
      p.high[b] = paired ? from.scale()[kRowBlocks + block] : p.low[b];
    }
    from.end();
    return p;
  }
  __device__ static void multiply(const Piece& p, const Input& x, float2& sum) {
#pragma unroll
    for (int b = 0; b < kRowShare; ++b) {
      const float2 part = multiply_block(p.weights[b], x.block[b]);
      sum.x = fmaf(p.low[b] * x.scale[b], part.x, sum.x);
      sum.y = fmaf(p.high[b] * x.scale[b], part.y, sum.y);
    }
  }
  // Tiles [done, count), two at a time.
  template <class From>
  __device__ void tiles(const Input& x, From& from, int done, int count, bool paired) {
#pragma unroll 1
    for (; done + 2 <= count; done += 2) {
      const Piece first = piece(from, paired), second = piece(from, paired);
      float2 sums[2] = {};
      multiply(first, x, sums[0]);
      multiply(second, x, sums[1]);
      put_sums(shared_.sums, done * kRowWarps + warp_, sums[0]);
      put_sums(shared_.sums, (done + 1) * kRowWarps + warp_, sums[1]);
    }
    if (done == count) return;
    float2 sum = {};
    multiply(piece(from, paired), x, sum);
    put_sums(shared_.sums, done * kRowWarps + warp_, sum);
  }
  // A tile of bf16 rows.
  __device__ void small(int outputs) {
    from_.begin();
    multiply_small(from_.data(), outputs, shared_.input.values, shared_.small);
    from_.end();
  }
  // Of so many tiles this block's: every so many from its own number on.
  __device__ int tiles_of(int all) const { return (all - block_ + blocks_ - 1) / blocks_; }
  // The thread's element of the block's first tile of the residual, which nobody else writes.
  __device__ float residual() const {
    const int at = block_ * kRowTile + static_cast<int>(threadIdx.x);
    return block_ < kHiddenTiles && threadIdx.x < kRowTile ? fresh_bf16(args_.hidden, at) : 0.f;
  }
  __device__ void inputs(const RowLayerArgs& layer, unsigned before) {
    const uint4 weights = norm_weights(layer.input_norm);
    grid_.wait(before);
    mark(l_, 1);
    norm_row(args_.hidden, weights, args_.eps, shared_.input);
    mark(l_, 2);
    const int count = tiles_of(kInputTiles);
    const Input x = input();
    tiles(x, ahead_, 0, kAhead, false);
    tiles(x, from_, kAhead, count, false);
    const int gate = block_ + (kInputTiles - block_ + blocks_ - 1) / blocks_ * blocks_ - kInputTiles;
    if (gate < kGateTiles) small(8);
    row_sync();
    for (int i = static_cast<int>(threadIdx.x); i < count * kRowTile; i += kRowThreads) {
      const int output = (block_ + i / kRowTile * blocks_) * kRowTile + i % kRowTile;
      const float value = total_of<kRowWarps>(shared_.sums, i / kRowTile * kRowWarps, i % kRowTile);
      (output < kChannels ? scratch_.u[output] : scratch_.z[output - kChannels]) = from_f32<Bf16>(value);
    }
    const int output = static_cast<int>(threadIdx.x) - (kRowThreads - 8);
    if (gate < kGateTiles && output >= 0) {
      scratch_.gates[gate / (kGateTiles / 2)][gate % (kGateTiles / 2) * 8 + output] =
          small_total(shared_.small, output);
    }
    grid_.arrive();
  }
  __device__ void mix(const RowLayerArgs& layer, RowHeadWarp& part) {
    const int head = part.head, read = args_.state_read[0], write = args_.state_write[0];
    grid_.wait(targets_.inputs);
    mark(l_, 4);
    part.make(scratch_, shared_.head);
    if (read >= 0) from_.begin();
    row_sync();
    S* to = write < 0 ? nullptr
                      : static_cast<S*>(layer.delta_pool) + write * layer.delta_stride + head * (kDim * kDim);
    RowState words;
    mark(l_, 15);
    renew_state<S>(read < 0 ? nullptr : from_.data(), shared_.head, words);
    mark(l_, 16);
    if (warp_ == 3) part.put(shared_.head, scratch_, layer.norm_eps);
    grid_.arrive();
    if (read >= 0) from_.end();
    if (to) {  // nobody in this launch waits for it
#pragma unroll
      for (int i = 0; i < kRowHeld; ++i) *reinterpret_cast<uint32_t*>(to + row_state_at(i)) = words[i];
    }
  }
  __device__ void out(const RowLayerArgs& layer) {
    const bool mixes = layer.qkv.data != nullptr;
    if (block_ >= kHiddenTiles && !(mixes && head_of_block() < kValueHeads)) return;
    const float old = residual();
    grid_.wait(targets_.mixed);
    mark(l_, 6);
    if (block_ < kHiddenTiles) {
      const Bf16* mixed = mixes ? scratch_.mixed : static_cast<const Bf16*>(args_.mixed);
      constexpr int kBlocks = 2 * kRowShare;
      RowBlock x[kBlocks];
      float scale[kBlocks];
      uint2 raw[kBlocks];
#pragma unroll
      for (int b = 0; b < kBlocks; ++b) {
        raw[b] = fresh<uint2>(mixed + (warp_ + b * kRowWarps) * 128 + threadIdx.x % 32 * 4);
      }
      quantize_blocks(raw, shared_.exchange[warp_], x, scale);
      const Input low = {{x[0], x[1]}, {scale[0], scale[1]}}, high = {{x[2], x[3]}, {scale[2], scale[3]}};
      for (int t = block_; t < kHiddenTiles; t += blocks_) {
        float2 sum = {};
        multiply(piece(from_, false), low, sum);
        multiply(piece(from_, false), high, sum);
        put_sums(shared_.sums, warp_, sum);
        row_sync();
        if (threadIdx.x < kRowTile) {
          Bf16* to = static_cast<Bf16*>(args_.hidden) + t * kRowTile + threadIdx.x;
          const float sum = total_of<kRowWarps>(shared_.sums, 0, static_cast<int>(threadIdx.x));
          *to = from_f32<Bf16>((t == block_ ? old : fresh_bf16(to, 0)) + sum);
        }
        row_sync();
      }
      grid_.arrive();
    }
    if (mixes && head_of_block() < kValueHeads) {
      const int read = args_.state_read[0];
      RowHeadWarp part{.head = head_of_block(), .role = warp_};
      part.find_channel();
      part.move_window(layer, scratch_, read, args_.state_write[0]);
    }
  }
  __device__ void middle(const RowLayerArgs& layer) {
    const uint4 weights = norm_weights(layer.post_norm);
    grid_.wait(targets_.out);
    mark(l_, 8);
    norm_row(args_.hidden, weights, args_.eps, shared_.input);
    mark(l_, 9);
    x_ = input();
    if (block_ >= kMiddleTiles) return;
    for (int t = block_; t < kMiddleTiles; t += blocks_) {
      if (t > kRouterTiles) {
        tiles(x_, from_, 0, 1, true);
        row_sync();
        put_halves(kChoices, t - kRouterTiles - 1, 0, static_cast<int>(threadIdx.x));
      } else {
        const int outputs = t < kRouterTiles ? 8 : 1;
        small(outputs);
        row_sync();
        if (static_cast<int>(threadIdx.x) < outputs) {
          scratch_.logits[t * 8 + threadIdx.x] = small_total(shared_.small, static_cast<int>(threadIdx.x));
        }
      }
      row_sync();
    }
    grid_.arrive();
  }
  // silu(gate) * up of an expert's eight outputs of a tile.
  __device__ void put_halves(int expert, int tile, int at, int output) {
    if (output >= 8) return;
    const float gate = to_f32(from_f32<Bf16>(total_of<kRowWarps>(shared_.sums, at, output)));
    const float up = to_f32(from_f32<Bf16>(total_of<kRowWarps>(shared_.sums, at, output + 8)));
    scratch_.halves[expert][tile * 8 + output] = from_f32<Bf16>(silu(gate) * up);
  }
  // The fetching warp waits for the experts to be known, and so does who waits for their weights.
  __device__ void up() {
    from_.begin();
    mark(l_, 11);
    tiles(x_, from_, 0, tiles_of(kExpertTiles), true);
    row_sync();
    const int t = block_ + static_cast<int>(threadIdx.x) / 8 * blocks_;
    if (t < kExpertTiles) {
      put_halves(t / kWidthTiles, t % kWidthTiles, static_cast<int>(threadIdx.x) / 8 * kRowWarps, threadIdx.x % 8);
    }
    grid_.arrive();
  }
  __device__ void down() {
    if (block_ >= kHiddenTiles) return;
    const float old = residual();
    grid_.wait(targets_.up);
    mark(l_, 13);
    const float logit = fresh<float>(scratch_.logits + kExperts);
    // Of a slot's four experts the warp has two, and of the last one's one or none.
    constexpr int kEach = kDownEach / 2, kUnits = kEach * (kDownSlots - 1) + 1;
    const int of = warp_ / kDownBlocks, block = warp_ % kDownBlocks;
    uint2 raw[kUnits];
    RowBlock x[kUnits];
    float scale[kUnits];
#pragma unroll
    for (int i = 0; i < kUnits; ++i) {
      const int expert = min(i * 2 + of, kChoices);
      raw[i] = fresh<uint2>(scratch_.halves[expert] + block * 128 + threadIdx.x % 32 * 4);
    }
    quantize_blocks(raw, shared_.exchange[warp_], x, scale);
    for (int t = block_; t < kHiddenTiles; t += blocks_) {
#pragma unroll
      for (int s = 0; s < kDownSlots; ++s) {
        from_.begin();
#pragma unroll
        for (int i = 0; i < kEach && s * kEach + i < kUnits; ++i) {
          const int within = i * 2 + of, unit = s * kEach + i, expert = s * kDownEach + within;
          if (expert > kChoices) continue;
          const unsigned char* data = from_.data() + (within * kRowTile + g_) * kWidth + block * 128;
          RowWeights w;
          w.take(data, data + 8 * kWidth);
          const float2 part = multiply_block(w, x[unit]);
          const float factor = from_.scale()[within * kDownBlocks + block] * scale[unit];
          put_sums(shared_.sums, expert * kDownBlocks + block,
                   make_float2(fmaf(factor, part.x, 0.f), fmaf(factor, part.y, 0.f)));
        }
        from_.end();
      }
      row_sync();
      if (threadIdx.x < kRowTile) add_experts(t, static_cast<int>(threadIdx.x), logit, old);
      row_sync();
    }
    grid_.arrive();
  }
  __device__ void add_experts(int tile, int output, float logit, float old) {
    float sum = 0.f;
#pragma unroll
    for (int e = 0; e <= kChoices; ++e) {
      const float weight = e < kChoices ? shared_.weight[e] : sigmoid(logit);
      sum = fmaf(weight, total_of<kDownBlocks>(shared_.sums, e * kDownBlocks, output), sum);
    }
    Bf16* to = static_cast<Bf16*>(args_.hidden) + tile * kRowTile + output;
    *to = from_f32<Bf16>(sum + (tile == block_ ? old : fresh_bf16(to, 0)));
  }
  __device__ void finish() {
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
    if (block_ == 0 && args_.next_norm) {
      const uint4 weights = norm_weights(args_.next_norm);
      grid_.wait(targets_.down);
      norm_row(args_.hidden, weights, args_.eps, shared_.input);
      static_cast<uint4*>(args_.normed)[threadIdx.x] =
          reinterpret_cast<const uint4*>(shared_.input.values)[threadIdx.x];
    }
    // Who leaves last leaves the counters as they were.
    if (threadIdx.x == 0 && atomicAdd(args_.counters + 1, 1u) == gridDim.x - 1) {
      args_.counters[0] = 0;
      args_.counters[1] = 0;
    }
  }

  const RowLayersArgs& args_;
  Shared& shared_;
  RowTake<Ahead> ahead_;
  RowTake<InTurn> from_;
  RowScratch& scratch_;
  RowGrid grid_;
  Targets targets_ = {};
  int warp_, g_, block_, blocks_;
  Input x_;  // of the row that the experts read
  int l_ = 0;
};

template <class S>
__global__ void __launch_bounds__(kRowThreads + 32, 1) row_layers_kernel(const __grid_constant__ RowLayersArgs args) {
  extern __shared__ __align__(128) unsigned char memory[];
  Shared& shared = *reinterpret_cast<Shared*>(memory);
  if (threadIdx.x == 0) {
    shared.ahead.make();
    shared.slots.make();
    barriers_made();
  }
  __syncthreads();
  if (threadIdx.x >= kRowThreads) {
    Fetch(args, shared).run();
  } else {
    Work<S>(args, shared).run();
  }
}

}  // namespace

bool row_layers_takes(int multiprocessors) {
  return multiprocessors * RowSums::kTiles >= kInputTiles && multiprocessors * kAhead <= kInputTiles && multiprocessors <= kExpertTiles && multiprocessors >= kValueHeads;
}

void row_trace_print() {  // DEV
  static unsigned long long t[4][24][160];
  cudaMemcpyFromSymbol(t, row_trace, sizeof t);
  const char* names[] = {"begin", "wait0", "norm", "inputs", "wait1", "mix", "wait2", "out", "wait3", "norm2", "middle", "route+load", "up", "wait5", "down", "made", "renewed"};
  for (int l = 0; l < 4; ++l) {
    for (int m = 0; m < 17; ++m) {
      double sum = 0, most = 0, least = 1e18; int n = 0;
      for (int b = 0; b < 132; ++b) {
        if (t[l][m][b] == 0) continue;
        const double d = (double)(long long)(t[l][m][b] - t[1][0][0]) * 1e-3;
        sum += d; ++n; most = most > d ? most : d; least = least < d ? least : d;
      }
      if (n) printf("layer %d %-11s n %3d mean %8.2f  %8.2f .. %8.2f  block 0: %8.2f\n", l, names[m], n, sum / n, least, most, (double)(long long)(t[l][m][0] - t[1][0][0]) * 1e-3);
    }
  }
}

void row_layers(const RowLayersArgs& args, int multiprocessors, Stream stream) {
  const auto kernel = args.state_dtype == DType::kF16 ? row_layers_kernel<F16> : row_layers_kernel<Bf16>;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, sizeof(Shared)), "row_layers");
  const char* how = std::getenv("HYLAS_ROW_LAUNCH");  // DEV
  cudaLaunchAttribute attributes[2] = {};
  int count = 0;
  if (!how || how[0] == 'b' || how[0] == 'p') {
    attributes[count].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[count++].val.programmaticStreamSerializationAllowed = 1;
  }
  if (!how || how[0] == 'b' || how[0] == 'c') {
    attributes[count].id = cudaLaunchAttributeCooperative;
    attributes[count++].val.cooperative = 1;
  }
  cudaLaunchConfig_t config = {};
  config.gridDim = static_cast<unsigned>(multiprocessors);
  config.blockDim = kRowThreads + 32;
  config.dynamicSmemBytes = sizeof(Shared);
  config.stream = stream;
  config.attrs = attributes;
  config.numAttrs = count;
  check(cudaLaunchKernelEx(&config, kernel, args), "row_layers");
}

}  // namespace hylas::cuda
