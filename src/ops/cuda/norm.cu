#include "ops/cuda/norm.h"

#include <algorithm>

#include "ops/cuda/vector.cuh"
#include "tensor/cuda/launch.cuh"
#include "tensor/cuda/peer_meet.cuh"

namespace hylas::cuda {
namespace {

// The row that a block works on stays in registers where it has at most this many elements per thread.
constexpr int kHeld = 2;  // packs of N elements
constexpr int kThreadsMax = 768;

// kRanks: 1, or the ranks of a group whose partial sums are added.
template <class T, class W, int N, int kRanks>
struct NormPointers {
  const float* partials[kRanks];  // by rank; the first null: nothing is added
  int slices;
  int64_t slice_stride;
  T* residual;
  int64_t residual_stride;
  const W* weight;
  float eps;
  T* out;
  int64_t out_stride;
  int64_t rows, columns;

  // A rank's sum of its slices.
  __device__ void take_slices(const float* p, float (&sum)[N]) const {
    float other[N], third[N];
    load<N>(p, sum);
    if (slices >= 2) {
      load<N>(p + slice_stride, other);
      for (int i = 0; i < N; ++i) sum[i] += other[i];
    }
    if (slices == 4) {
      load<N>(p + 2 * slice_stride, other);
      load<N>(p + 3 * slice_stride, third);
      for (int i = 0; i < N; ++i) sum[i] += other[i] + third[i];
    }
  }
  // The residual's elements from column `c` on: with the partial sums of its row added, and stored so.
  __device__ void take(int64_t row, int64_t c, float (&x)[N]) const {
    T* at = residual + row * residual_stride + c;
    load<N>(at, x);
    if (!partials[0]) return;
    float sum[kRanks][N];
#pragma unroll
    for (int r = 0; r < kRanks; ++r) take_slices(partials[r] + row * columns + c, sum[r]);
#pragma unroll
    for (int step = 1; step < kRanks; step *= 2) {
#pragma unroll
      for (int r = 0; r < kRanks; r += 2 * step) {
        for (int i = 0; i < N; ++i) sum[r][i] += sum[r + step][i];
      }
    }
    for (int i = 0; i < N; ++i) x[i] += sum[0][i];
    store<N>(at, x);
    for (int i = 0; i < N; ++i) x[i] = to_f32(from_f32<T>(x[i]));  // the norm reads what was stored
  }
  __device__ Pack<W, N> weights(int64_t c) const { return *reinterpret_cast<const Pack<W, N>*>(weight + c); }
  __device__ void put(int64_t row, int64_t c, float (&x)[N], const Pack<W, N>& w, float scale) const {
    for (int i = 0; i < N; ++i) x[i] = x[i] * scale * (1.f + to_f32(w.value[i]));
    store<N>(out + row * out_stride + c, x);
  }
};

template <class T, class W, int N, int kRanks>
__device__ __forceinline__ void add_rms_norm_row(const NormPointers<T, W, N, kRanks>& p, int64_t row,
                                                 const Pack<W, N> (&weights)[kHeld], float* memory) {
  const int64_t step = blockDim.x * N;
  float held[kHeld][N], sum = 0.f;
#pragma unroll
  for (int j = 0; j < kHeld; ++j) {
    const int64_t c = threadIdx.x * N + j * step;
    if (c >= p.columns) break;
    p.take(row, c, held[j]);
    for (int i = 0; i < N; ++i) sum += held[j][i] * held[j][i];
  }
  for (int64_t c = threadIdx.x * N + kHeld * step; c < p.columns; c += step) {
    float x[N];
    p.take(row, c, x);
    for (int i = 0; i < N; ++i) sum += x[i] * x[i];
  }
  if (!p.out) return;
  const float scale = 1.f / sqrtf(block_sum(sum, memory) / static_cast<float>(p.columns) + p.eps);
#pragma unroll
  for (int j = 0; j < kHeld; ++j) {
    const int64_t c = threadIdx.x * N + j * step;
    if (c >= p.columns) break;
    p.put(row, c, held[j], weights[j], scale);
  }
  for (int64_t c = threadIdx.x * N + kHeld * step; c < p.columns; c += step) {
    float x[N];
    load<N>(p.residual + row * p.residual_stride + c, x);
    p.put(row, c, x, p.weights(c), scale);
  }
}

// Nobody writes the weights, so they come while the kernel before this one ends.
template <class T, class W, int N, int kRanks>
__device__ __forceinline__ void take_weights(const NormPointers<T, W, N, kRanks>& p, Pack<W, N> (&weights)[kHeld]) {
#pragma unroll
  for (int j = 0; j < kHeld; ++j) {
    const int64_t c = threadIdx.x * N + j * (blockDim.x * N);
    if (p.out && c < p.columns) weights[j] = p.weights(c);
  }
}

template <class T, class W, int N>
__global__ void __launch_bounds__(kThreadsMax) add_rms_norm_kernel(const NormPointers<T, W, N, 1> p) {
  __shared__ float memory[32];
  Pack<W, N> weights[kHeld];
  take_weights(p, weights);
  follow();
  add_rms_norm_row(p, blockIdx.x, weights, memory);
}

// Few rows of partial sums that lie with several GPUs: every one of them reads and adds all. Its blocks meet those of
// the others before, when all have made their sums, and behind, when all have read them.
template <class T, class W, int N, int kRanks>
__global__ void __launch_bounds__(kThreadsMax)
    add_rms_norm_over_kernel(const NormPointers<T, W, N, kRanks> p, const __grid_constant__ Peers peers) {
  __shared__ float memory[32];
  Pack<W, N> weights[kHeld];
  take_weights(p, weights);
  follow();
  meet(peers);
  for (int64_t row = blockIdx.x; row < p.rows; row += gridDim.x) {
    add_rms_norm_row(p, row, weights, memory);
    __syncthreads();  // before the next row's sum takes the shared memory
  }
  meet(peers);
}

// One warp per head; a lane takes N neighbouring elements at a time. N depends on the shape alone.
template <class T, class W, int N>
__global__ void gated_rms_norm_kernel(const T* x, int64_t x_stride, const T* z, int64_t z_stride, const W* weight,
                                      float eps, T* out, int64_t out_stride, int64_t rows, int heads, int dim) {
  follow();
  const int64_t item = (blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x) / 32;
  if (item >= rows * heads) return;
  const int64_t row = item / heads, offset = item % heads * dim;
  const int first = threadIdx.x % 32 * N;
  x += row * x_stride + offset;
  z += row * z_stride + offset;
  out += row * out_stride + offset;
  float sum = 0.f;
  for (int i = first; i < dim; i += 32 * N) {
    float value[N];
    load<N>(x + i, value);
    for (int j = 0; j < N; ++j) sum += value[j] * value[j];
  }
  const float scale = 1.f / sqrtf(warp_sum(sum) / static_cast<float>(dim) + eps);
  for (int i = first; i < dim; i += 32 * N) {
    float value[N], gate[N], w[N];
    load<N>(x + i, value);
    load<N>(z + i, gate);
    load<N>(weight + i, w);
    for (int j = 0; j < N; ++j) value[j] = w[j] * (value[j] * scale) * silu(gate[j]);
    store<N>(out + i, value);
  }
}

// Threads of a block: by the columns alone, so that a row's sum has one order. One pack for each where that is
// possible: a second one would be fetched after the first has come.
int threads_for(int64_t columns, int width) {
  const int64_t packs = (columns + width - 1) / width;
  return packs > kThreadsMax ? 512 : static_cast<int>((packs + 31) / 32 * 32);
}

}  // namespace

namespace {

template <class T, class W, int N, int kRanks>
NormPointers<T, W, N, kRanks> pointers(const AddNormArgs& args) {
  NormPointers<T, W, N, kRanks> p = {.slices = args.slices,
                                     .slice_stride = args.slice_stride,
                                     .residual = static_cast<T*>(args.residual.data),
                                     .residual_stride = args.residual.stride,
                                     .weight = static_cast<const W*>(args.weight),
                                     .eps = args.eps,
                                     .out = static_cast<T*>(args.out.data),
                                     .out_stride = args.out.stride,
                                     .rows = args.rows,
                                     .columns = args.columns};
  for (int r = 0; r < kRanks; ++r) p.partials[r] = kRanks == 1 ? args.partials : args.peers->partials[r];
  return p;
}

template <class T, class W, int N, int kRanks>
void launch_over(const AddNormArgs& args, Stream stream) {
  const auto blocks = static_cast<unsigned>(std::min<int64_t>(args.rows, kSignalBlocks));
  launch_following(add_rms_norm_over_kernel<T, W, N, kRanks>, blocks, threads_for(args.columns, N), 0, stream,
                   "add_rms_norm of several ranks", pointers<T, W, N, kRanks>(args), args.peers->peers);
}

template <class T, class W, int N>
void launch(const AddNormArgs& args, Stream stream) {
  switch (args.peers ? args.peers->peers.size : 1) {
    case 1:
      return launch_following(add_rms_norm_kernel<T, W, N>, static_cast<unsigned>(args.rows),
                              threads_for(args.columns, N), 0, stream, "add_rms_norm", pointers<T, W, N, 1>(args));
    case 2:
      return launch_over<T, W, N, 2>(args, stream);
    case 4:
      return launch_over<T, W, N, 4>(args, stream);
    default:
      return launch_over<T, W, N, 8>(args, stream);
  }
}

}  // namespace

void add_rms_norm_rows(const AddNormArgs& args, Stream stream) {
  if (args.rows == 0) return;
  bool wide = args.columns % kVector == 0 && aligned(args.residual) && (!args.out.data || aligned(args.out)) &&
              reinterpret_cast<uintptr_t>(args.weight) % 16 == 0 && args.slice_stride % 4 == 0;
  for (int r = 0; r < (args.peers ? args.peers->peers.size : 1); ++r) {
    const float* partials = args.peers ? args.peers->partials[r] : args.partials;
    wide = wide && reinterpret_cast<uintptr_t>(partials) % 16 == 0;
  }
  with_width(wide, [&](auto width) {
    with_f32_bf16(args.residual.dtype, [&]<class T>(T) {
      with_f32_bf16(args.weight_dtype, [&]<class W>(W) { launch<T, W, decltype(width)::value>(args, stream); });
    });
  });
}

void gated_rms_norm_rows(const View& x, const View& z, const void* weight, DType weight_dtype, float eps,
                         const View& out, int64_t rows, int heads, int dim, Stream stream) {
  if (rows == 0) return;
  constexpr int kThreads = 256;
  const auto blocks = static_cast<unsigned>((rows * heads * 32 + kThreads - 1) / kThreads);
  constexpr int kWide = 4;
  const auto at_pack = [](const View& v) {
    return v.stride % kWide == 0 && reinterpret_cast<uintptr_t>(v.data) % (kWide * dtype_bytes(v.dtype)) == 0;
  };
  const bool wide = dim % (32 * kWide) == 0 && at_pack(x) && at_pack(z) && at_pack(out) &&
                    reinterpret_cast<uintptr_t>(weight) % (kWide * dtype_bytes(weight_dtype)) == 0;
  with_f32_bf16(x.dtype, [&]<class T>(T) {
    with_f32_bf16(weight_dtype, [&]<class W>(W) {
      const auto kernel = wide ? gated_rms_norm_kernel<T, W, kWide> : gated_rms_norm_kernel<T, W, 1>;
      launch_following(kernel, blocks, kThreads, 0, stream, "gated_rms_norm", static_cast<const T*>(x.data), x.stride,
                       static_cast<const T*>(z.data), z.stride, static_cast<const W*>(weight), eps,
                       static_cast<T*>(out.data), out.stride, rows, heads, dim);
    });
  });
}

}  // namespace hylas::cuda
