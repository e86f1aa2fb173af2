#include "ops/cuda/conv.h"

#include "ops/cuda/l2_norm.cuh"
#include "ops/cuda/row_tile.cuh"
#include "ops/cuda/silu.cuh"
#include "ops/cuda/vector.cuh"
#include "tensor/cuda/launch.cuh"

namespace hylas::cuda {
namespace {

constexpr int kHistory = 3;
constexpr int kTokens = kConvTile;
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
  constexpr int kLoads = kDecode ? 1 : 8;
  for (int t = first; t < last; t += kLoads) {
    T next[kLoads];
#pragma unroll
    for (int i = 0; i < kLoads; ++i) next[i] = u[min(t + i, last - 1) * args.u.stride];
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      if (t + i >= last) break;
      window[kHistory] = to_f32(next[i]);
      float sum = 0.f;
      for (int j = 0; j <= kHistory; ++j) sum = fmaf(taps[j], window[j], sum);
      out[(t + i) * args.out.stride] = from_f32<T>(silu(sum));
      for (int j = 0; j < kHistory; ++j) window[j] = window[j + 1];
    }
  }
}

// The same of bf16 for four neighbouring channels a thread, where a batch has prefill rows.
constexpr int kWide = 4;
constexpr int kAhead = 4;  // tokens at a time
using Channels = Pack<Bf16, kWide>;

template <class W>
struct WideConv {
  float taps[kWide][kHistory + 1];
  float window[kHistory][kWide];

  __device__ __forceinline__ void read_taps(const void* weight, int channel) {
    const W* from = static_cast<const W*>(weight) + channel * (kHistory + 1);
#pragma unroll
    for (int c = 0; c < kWide; ++c) load<kHistory + 1>(from + c * (kHistory + 1), taps[c]);
  }
  // The window of a row's first tile, from its state, which becomes the row's last inputs.
  __device__ __forceinline__ void exchange_state(const ConvArgs& args, int row, const Bf16* u, int tokens,
                                                 int channel) {
    const int read = args.batch.state_read[row];
    const auto at = [&](int slot) {
      return static_cast<Bf16*>(args.pool) + slot * args.slot_stride + channel * kHistory;
    };
    Channels old[kHistory] = {}, kept[kHistory], last[kHistory];
#pragma unroll
    for (int j = 0; j < kHistory; ++j) {
      if (read >= 0) old[j] = reinterpret_cast<const Channels*>(at(read))[j];
      const int source = tokens - kHistory + j;
      last[j] = source >= 0 ? *reinterpret_cast<const Channels*>(u + source * args.u.stride) : Channels();
    }
    const auto was = [&](int c, int j) { return old[(c * kHistory + j) / kWide].value[(c * kHistory + j) % kWide]; };
#pragma unroll
    for (int c = 0; c < kWide; ++c) {
#pragma unroll
      for (int j = 0; j < kHistory; ++j) {
        window[j][c] = to_f32(was(c, j));
        // Of fewer inputs than the state holds the oldest are the state's newest.
        Bf16 keep = last[j].value[c];
#pragma unroll
        for (int n = 0; n < kHistory; ++n) {
          if (tokens == n && j + n < kHistory) keep = was(c, j + n);
        }
        kept[(c * kHistory + j) / kWide].value[(c * kHistory + j) % kWide] = keep;
      }
    }
    auto* to = reinterpret_cast<Channels*>(at(args.batch.state_write[row]));
#pragma unroll
    for (int j = 0; j < kHistory; ++j) to[j] = kept[j];
  }
  // The next tokens' outputs.
  __device__ __forceinline__ void convolve(const uint2 (&inputs)[kAhead], float (&y)[kAhead][kWide]) {
    float x[kHistory + kAhead][kWide];
#pragma unroll
    for (int j = 0; j < kHistory + kAhead; ++j) {
#pragma unroll
      for (int c = 0; c < kWide; ++c) {
        if (j < kHistory) {
          x[j][c] = window[j][c];
        } else {
          const uint32_t pair = c < 2 ? inputs[j - kHistory].x : inputs[j - kHistory].y;
          x[j][c] = __uint_as_float(c % 2 == 0 ? pair << 16 : pair & 0xffff0000u);
        }
      }
    }
    const auto sum = [&](int i, int c) {
      float total = 0.f;
#pragma unroll
      for (int j = 0; j <= kHistory; ++j) total = fmaf(taps[c][j], x[i + j][c], total);
      return total;
    };
    bool fails[kAhead], any = false;
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      RoundingCheck check;
#pragma unroll
      for (int c = 0; c < kWide; ++c) {
        const float total = sum(i, c);
        y[i][c] = quick_silu(total);
        check.add(total, y[i][c]);
      }
      fails[i] = check.fails();
      any = any || fails[i];
    }
    if (any) {
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        if (!fails[i]) continue;
#pragma unroll
        for (int c = 0; c < kWide; ++c) y[i][c] = silu(sum(i, c));
      }
    }
#pragma unroll
    for (int j = 0; j < kHistory; ++j) {
#pragma unroll
      for (int c = 0; c < kWide; ++c) window[j][c] = x[kAhead + j][c];
    }
  }
};

template <class W>
__global__ void __launch_bounds__(kThreads, 7) conv_silu_wide_kernel(const ConvArgs args) {
  const BatchView& batch = args.batch;
  const int channel = static_cast<int>(blockIdx.y * kThreads + threadIdx.x) * kWide;
  WideConv<W> conv;
  if (channel < args.channels) conv.read_taps(args.weight, channel);
  follow();
  const RowTile tile = find_row_tile(batch.row_begin, 0, batch.rows, kTokens, 1, args.first_tile + blockIdx.x);
  if (tile.row < 0 || batch.state_write[tile.row] < 0 || channel >= args.channels) return;
  const int row_begin = batch.row_begin[tile.row], tokens = batch.row_begin[tile.row + 1] - row_begin;
  const Bf16* u = static_cast<const Bf16*>(args.u.data) + row_begin * args.u.stride + channel;
  Bf16* out = static_cast<Bf16*>(args.out.data) + row_begin * args.out.stride + channel;
  const int first = tile.index * kTokens, last = min(first + kTokens, tokens);
  if (first == 0) {
    conv.exchange_state(args, tile.row, u, tokens, channel);
  } else {
#pragma unroll
    for (int j = 0; j < kHistory; ++j) load<kWide>(u + (first - kHistory + j) * args.u.stride, conv.window[j]);
  }
  const bool normalised = tile.row >= batch.decode_rows && channel < args.normalised * kL2Dim;
  // The next inputs are on their way while these are worked on. Behind the last token it is worked on again.
  const Bf16* from = u + first * args.u.stride;
  Bf16* to = out + first * args.out.stride;
  uint2 next[kAhead];  // taken apart only then: before they would be waited for
  const auto fetch = [&](int t) {
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      next[i] = *reinterpret_cast<const uint2*>(from);
      if (t + i + 1 < last) from += args.u.stride;
    }
  };
  if (first < last) fetch(first);
  for (int t = first; t < last; t += kAhead) {
    uint2 now[kAhead];
#pragma unroll
    for (int i = 0; i < kAhead; ++i) now[i] = next[i];
    if (t + kAhead < last) fetch(t + kAhead);
    float y[kAhead][kWide];
    conv.convolve(now, y);
    if (normalised) {
#pragma unroll
      for (int i = 0; i < kAhead; ++i) l2_normalise(y[i]);
    }
#pragma unroll
    for (int i = 0; i < kAhead; ++i, to += args.out.stride) {
      if (t + i < last) store<kWide>(to, y[i]);
    }
  }
}

}  // namespace

bool conv_normalises(const ConvArgs& args) {
  return args.batch.decode_rows < args.batch.rows && args.u.dtype == DType::kBF16 && args.channels % kWide == 0 &&
         args.slot_stride % kWide == 0 && reinterpret_cast<uintptr_t>(args.pool) % 16 == 0 &&
         reinterpret_cast<uintptr_t>(args.weight) % 16 == 0 && aligned(args.u) && aligned(args.out);
}

void conv_rows(const ConvArgs& args, Stream stream) {
  if (args.batch.rows == 0) return;
  const bool decode = args.batch.decode_rows == args.batch.rows;
  if (conv_normalises(args)) {
    const int tiles = args.tiles > 0 ? args.tiles : row_tiles_max(args.batch, 0, kTokens) - args.first_tile;
    const dim3 grid(static_cast<unsigned>(tiles),
                    static_cast<unsigned>((args.channels / kWide + kThreads - 1) / kThreads));
    return with_f32_bf16(args.weight_dtype, [&]<class W>(W) {
      launch_following(conv_silu_wide_kernel<W>, grid, kThreads, 0, stream, "conv_silu", args);
    });
  }
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
