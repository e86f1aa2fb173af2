// The product of any types on the ordinary arithmetic units, in f32 throughout: tiles of 64 x 64, one step of K after
// the other. An fp8 weight times its scale is rounded to f32 once, as on the CPU.
#include "ops/cuda/gemm_tile.cuh"
#include "tensor/cuda/cuda_error.h"

namespace hylas::cuda {
namespace {

constexpr int kTile = 64;
constexpr int kDepth = 16;
constexpr int kThreads = 256;

template <class W>
__device__ __forceinline__ float weight_at(const WeightView& weight, int64_t n, int64_t k) {
  const float value = to_f32(static_cast<const W*>(weight.data)[n * weight.stride + k]);
  if constexpr (sizeof(W) == 1) {
    return value * weight.scale[n / 128 * weight.scale_stride + k / 128];
  } else {
    return value;
  }
}

struct Panels {
  float x[kDepth][kTile + 4];
  float w[kDepth][kTile + 4];
};

// sum[a][b] += x rows y + 16 a, outputs c + 16 b, over the slice.
template <class T, class W>
__device__ void multiply(const Product& p, const GemmTile& tile, const WeightView& weight, Panels& panels,
                         float (&sum)[4][4]) {
  const int c = threadIdx.x % 16, y = threadIdx.x / 16;
  for (int64_t k = tile.k_begin; k < tile.k_end; k += kDepth) {
    for (int i = threadIdx.x; i < kTile * kDepth; i += kThreads) {
      const int d = i % kDepth, r = i / kDepth;
      const bool inside = k + d < tile.k_end;
      panels.x[d][r] = inside && r < tile.rows
                           ? to_f32(static_cast<const T*>(p.x.data)[x_row(p, tile.row + r) * p.x.stride + k + d])
                           : 0.f;
      panels.w[d][r] = inside && r < tile.outputs ? weight_at<W>(weight, tile.output + r, k + d) : 0.f;
    }
    __syncthreads();
#pragma unroll
    for (int d = 0; d < kDepth; ++d) {
      float a[4], b[4];
      for (int i = 0; i < 4; ++i) a[i] = panels.x[d][y + 16 * i];
      for (int i = 0; i < 4; ++i) b[i] = panels.w[d][c + 16 * i];
      for (int i = 0; i < 4; ++i) {
        for (int j = 0; j < 4; ++j) sum[i][j] = fmaf(a[i], b[j], sum[i][j]);
      }
    }
    __syncthreads();
  }
}

template <class T, class W>
__global__ void __launch_bounds__(kThreads) gemm_f32_kernel(Product p) {
  __shared__ Panels panels;
  // A run may have more rows than the tile: they follow one after another.
  GemmTile tile = gemm_tile(p, blockIdx.x, blockIdx.y, kTile, kTile);
  const int64_t row_end = tile.row + tile.rows;
  for (; tile.row < row_end; tile.row += kTile) {
    tile.rows = static_cast<int>(min(static_cast<int64_t>(kTile), row_end - tile.row));
    float sum[4][4] = {}, other[4][4] = {};
    multiply<T, W>(p, tile, tile.weight, panels, sum);
    if (p.paired) multiply<T, W>(p, tile, tile.other, panels, other);
    const int c = threadIdx.x % 16, y = threadIdx.x / 16;
    for (int i = 0; i < 4; ++i) {
      for (int j = 0; j < 4; ++j) {
        const int r = y + 16 * i, n = c + 16 * j;
        if (r >= tile.rows || n >= tile.outputs) continue;
        float value = sum[i][j];
        if (p.paired) {
          value = silu(to_f32(from_f32<T>(value))) * to_f32(from_f32<T>(other[i][j]));
        }
        const int64_t at = out_at(p, tile, tile.row + r) + tile.output + n;
        if (p.out.dtype == DType::kF32) {
          static_cast<float*>(p.out.data)[at] = value;
        } else {
          static_cast<Bf16*>(p.out.data)[at] = from_f32<Bf16>(value);
        }
      }
    }
  }
}

}  // namespace

void gemm_f32(const Product& p, Stream stream) {
  const int64_t row_tiles = p.weights ? p.runs_max : (p.rows + kTile - 1) / kTile;
  if (row_tiles == 0 || p.outputs == 0) return;
  const dim3 grid(static_cast<unsigned>((p.outputs + kTile - 1) / kTile), static_cast<unsigned>(row_tiles),
                  static_cast<unsigned>(p.slices));
  with_f32_bf16(p.x.dtype, [&]<class T>(T) {
    with_kv_type(p.weight_dtype, [&]<class W>(W) { gemm_f32_kernel<T, W><<<grid, kThreads, 0, stream>>>(p); });
  });
  check_launch("linear (f32)");
}

}  // namespace hylas::cuda
