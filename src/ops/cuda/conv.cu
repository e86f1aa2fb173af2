#include "ops/cuda/conv.h"

#include "ops/cuda/element.cuh"
#include "ops/cuda/row_tile.cuh"
#include "tensor/cuda/launch.cuh"

namespace hylas::cuda {
namespace {

constexpr int kHistory = 3;
constexpr int kTokens = 32;    // of a tile
constexpr int kThreads = 128;  // channels of a block

// One thread per channel and tile of tokens. The state of a row is read and written by its first tile alone: what
// follows from the old state and what is kept of the inputs are both known there.
// kDecode: every row has one token.
template <class T, class W, bool kDecode>
__global__ void conv_silu_kernel(ConvArgs args) {
  follow();
  const BatchView& batch = args.batch;
  const RowTile tile = kDecode ? RowTile{static_cast<int>(blockIdx.x), 0}
                               : find_row_tile(batch.row_begin, 0, batch.rows, kTokens, 1, blockIdx.x);
  const int channel = blockIdx.y * kThreads + threadIdx.x;
  if (tile.row < 0 || batch.state_write[tile.row] < 0 || channel >= args.channels) return;
  const int row_begin = batch.row_begin[tile.row], tokens = batch.row_begin[tile.row + 1] - row_begin;
  const T* u = static_cast<const T*>(args.u.data) + row_begin * args.u.stride + channel;
  T* out = static_cast<T*>(args.out.data) + row_begin * args.out.stride + channel;
  const W* weight = static_cast<const W*>(args.weight) + channel * (kHistory + 1);
  float taps[kHistory + 1], window[kHistory + 1];
  for (int j = 0; j <= kHistory; ++j) taps[j] = to_f32(weight[j]);

  const int first = tile.index * kTokens, last = min(first + kTokens, tokens);
  if (first == 0) {
    T* pool = static_cast<T*>(args.pool);
    T old[kHistory], kept[kHistory];
    const int read = batch.state_read[tile.row];
    for (int j = 0; j < kHistory; ++j) {
      old[j] = read < 0 ? from_f32<T>(0.f) : pool[read * args.slot_stride + channel * kHistory + j];
      window[j] = to_f32(old[j]);
    }
    for (int j = 0; j < kHistory; ++j) {
      const int source = tokens - kHistory + j;
      kept[j] = source >= 0 ? u[source * args.u.stride] : old[(source + kHistory) % kHistory];
    }
    T* to = pool + batch.state_write[tile.row] * args.slot_stride + channel * kHistory;
    for (int j = 0; j < kHistory; ++j) to[j] = kept[j];
  } else {
    for (int j = 0; j < kHistory; ++j) window[j] = to_f32(u[(first - kHistory + j) * args.u.stride]);
  }
  // Several inputs are on their way at a time: stores between them would hold each load back.
  constexpr int kAhead = kDecode ? 1 : 8;
  for (int t = first; t < last; t += kAhead) {
    T next[kAhead];
#pragma unroll
    for (int i = 0; i < kAhead; ++i) next[i] = u[min(t + i, last - 1) * args.u.stride];
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      if (t + i >= last) break;
      window[kHistory] = to_f32(next[i]);
      float sum = 0.f;
      for (int j = 0; j <= kHistory; ++j) sum = fmaf(taps[j], window[j], sum);
      out[(t + i) * args.out.stride] = from_f32<T>(silu(sum));
      for (int j = 0; j < kHistory; ++j) window[j] = window[j + 1];
    }
  }
}

}  // namespace

void conv_rows(const ConvArgs& args, Stream stream) {
  if (args.batch.rows == 0) return;
  const bool decode = args.batch.decode_rows == args.batch.rows;
  const dim3 grid(static_cast<unsigned>(decode ? args.batch.rows : row_tiles_max(args.batch, 0, kTokens)),
                  static_cast<unsigned>((args.channels + kThreads - 1) / kThreads));
  with_f32_bf16(args.u.dtype, [&]<class T>(T) {
    with_f32_bf16(args.weight_dtype, [&]<class W>(W) {
      const auto kernel = decode ? conv_silu_kernel<T, W, true> : conv_silu_kernel<T, W, false>;
      launch_following(kernel, grid, kThreads, 0, stream, "conv_silu", args);
    });
  });
}

}  // namespace hylas::cuda
