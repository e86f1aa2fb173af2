#include "ops/cuda/norm.h"

#include <algorithm>
#include <type_traits>

#include "ops/cuda/quantize.cuh"
#include "tensor/cuda/launch.cuh"
#include "tensor/cuda/peer_meet.cuh"

namespace hylas::cuda {
namespace {

// The row that a block works on stays in registers where it has at most this many elements per thread.
constexpr int kHeld = 2;  // packs of N elements
constexpr int kThreadsMax = 768;

// kRanks: 1, or the ranks of a group whose partial sums are added.
template <class T, class W, class P, int N, int kRanks>
struct NormPointers {
  const P* partials[kRanks];  // by rank; the first null: nothing is added
  int slices;
  int64_t slice_stride;
  T* residual;
  int64_t residual_stride;
  const W* weight;
  float eps;
  T* out;  // null: not as values
  int64_t out_stride;
  Fp8Rows fp8;  // data null: not quantized
  int64_t rows, columns;

  __device__ bool has_norm() const { return out || fp8.data; }

  // A rank's sum of its slices.
  __device__ void take_slices(const P* p, float (&sum)[N]) const {
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
    put_normed(row, c, x, scale, [&](int i) { return to_f32(w.value[i]); });
  }
  template <class WeightOf>
  __device__ void put_normed(int64_t row, int64_t c, float (&x)[N], float scale, const WeightOf& weight_of) const {
    for (int i = 0; i < N; ++i) x[i] = x[i] * scale * (1.f + weight_of(i));
    if (out) store<N>(out + row * out_stride + c, x);
    if constexpr (N == kVector && std::is_same_v<T, Bf16>) {
      if (fp8.data) put_fp8<128 / N>(x, fp8, row, c);
    }
  }
};

template <class T, class W, class P, int N, int kRanks>
__device__ __forceinline__ void add_rms_norm_row(const NormPointers<T, W, P, N, kRanks>& p, int64_t row,
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
  if (!p.has_norm()) return;
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
template <class T, class W, class P, int N, int kRanks>
__device__ __forceinline__ void take_weights(const NormPointers<T, W, P, N, kRanks>& p, Pack<W, N> (&weights)[kHeld]) {
#pragma unroll
  for (int j = 0; j < kHeld; ++j) {
    const int64_t c = threadIdx.x * N + j * (blockDim.x * N);
    if (p.has_norm() && c < p.columns) weights[j] = p.weights(c);
  }
}

template <class T, class W, class P, int N>
__global__ void __launch_bounds__(kThreadsMax) add_rms_norm_kernel(const NormPointers<T, W, P, N, 1> p) {
  __shared__ float memory[32];
  Pack<W, N> weights[kHeld];
  take_weights(p, weights);
  follow();
  add_rms_norm_row(p, blockIdx.x, weights, memory);
}

// kVector elements of f32 or bf16 as they lie in memory: 16-bit elements on their own are taken apart where they are
// loaded, so that what is loaded behind them would wait for them.
template <class T>
struct RawPack {
  static constexpr int kPieces = static_cast<int>(sizeof(T)) * kVector / 16;
  uint4 piece[kPieces] = {};
  __device__ __forceinline__ void read(const T* from) {
#pragma unroll
    for (int i = 0; i < kPieces; ++i) piece[i] = reinterpret_cast<const uint4*>(from)[i];
  }
  __device__ __forceinline__ float operator[](int i) const {
    const int at = i * static_cast<int>(sizeof(T)) / 4;
    const uint4& four = piece[at / 4];
    const uint32_t word = at % 4 == 0 ? four.x : at % 4 == 1 ? four.y : at % 4 == 2 ? four.z : four.w;
    if constexpr (sizeof(T) == 4) return __uint_as_float(word);
    return __uint_as_float(i % 2 == 0 ? word << 16 : word & 0xffff0000u);
  }
};

// The same for rows of bf16 with one pack a thread and partial sums in so many slices, if any: no loop, so that all
// loads are under way at once, and fewer registers.
template <class W, class P, int kSlices>
__global__ void __launch_bounds__(kThreadsMax) add_rms_norm_pack_kernel(const NormPointers<Bf16, W, P, kVector, 1> p) {
  __shared__ float memory[32];
  const int64_t c = threadIdx.x * kVector, row = blockIdx.x;
  const bool inside = c < p.columns;
  RawPack<W> weights;
  if (inside && p.has_norm()) weights.read(p.weight + c);
  follow();
  RawPack<Bf16> residual;
  RawPack<P> partial[kSlices];
  Bf16* at = p.residual + row * p.residual_stride + c;
  if (inside) {
    residual.read(at);
    if (p.partials[0]) {
#pragma unroll
      for (int s = 0; s < kSlices; ++s) partial[s].read(p.partials[0] + s * p.slice_stride + row * p.columns + c);
    }
  }
  float sum = 0.f, x[kVector];
#pragma unroll
  for (int i = 0; i < kVector; ++i) {
    x[i] = residual[i];
    if (p.partials[0]) {
      float added = partial[0][i];  // as take_slices() has it
      if constexpr (kSlices >= 2) added += partial[1][i];
      if constexpr (kSlices == 4) added += partial[2][i] + partial[3][i];
      x[i] = to_f32(from_f32<Bf16>(x[i] + added));
    }
    sum += x[i] * x[i];
  }
  if (inside && p.partials[0]) store<kVector>(at, x);
  if (!p.has_norm()) return;
  const float scale = 1.f / sqrtf(block_sum(sum, memory) / static_cast<float>(p.columns) + p.eps);
  if (inside) p.put_normed(row, c, x, scale, [&](int i) { return weights[i]; });
}

// Few rows of partial sums that lie with several GPUs: every one of them reads and adds all. Its blocks meet those of
// the others before, when all have made their sums, and behind, when all have read them.
template <class T, class W, int N, int kRanks>
__global__ void __launch_bounds__(kThreadsMax)
    add_rms_norm_over_kernel(const NormPointers<T, W, float, N, kRanks> p, const __grid_constant__ Peers peers) {
  __shared__ float memory[32];
  __shared__ SumClock clock;
  Pack<W, N> weights[kHeld];
  take_weights(p, weights);
  follow();
  clock.begin();
  meet(peers);
  clock.read(peers);
  for (int64_t row = blockIdx.x; row < p.rows; row += gridDim.x) {
    add_rms_norm_row(p, row, weights, memory);
    __syncthreads();  // before the next row's sum takes the shared memory
  }
  meet(peers);
  clock.end(peers);
}

// Threads of a block: by the columns alone, so that a row's sum has one order. One pack for each where that is
// possible: a second one would be fetched after the first has come.
int threads_for(int64_t columns, int width) {
  const int64_t packs = (columns + width - 1) / width;
  return packs > kThreadsMax ? 512 : static_cast<int>((packs + 31) / 32 * 32);
}

template <class T, class W, class P, int N, int kRanks>
NormPointers<T, W, P, N, kRanks> pointers(const AddNormArgs& args) {
  NormPointers<T, W, P, N, kRanks> p = {.slices = args.slices,
                                        .slice_stride = args.slice_stride,
                                        .residual = static_cast<T*>(args.residual.data),
                                        .residual_stride = args.residual.stride,
                                        .weight = static_cast<const W*>(args.weight),
                                        .eps = args.eps,
                                        .out = static_cast<T*>(args.out.data),
                                        .out_stride = args.out.stride,
                                        .fp8 = args.fp8,
                                        .rows = args.rows,
                                        .columns = args.columns};
  for (int r = 0; r < kRanks; ++r) {
    p.partials[r] = static_cast<const P*>(kRanks == 1 ? args.partials : args.peers->partials[r]);
  }
  return p;
}

template <class T, class W, int N, int kRanks>
void launch_over(const AddNormArgs& args, Stream stream) {
  const auto blocks = static_cast<unsigned>(std::min<int64_t>(args.rows, kSignalBlocks));
  launch_following(add_rms_norm_over_kernel<T, W, N, kRanks>, blocks, threads_for(args.columns, N), 0, stream,
                   "add_rms_norm of several ranks", pointers<T, W, float, N, kRanks>(args), args.peers->peers);
}

template <class T, class W, class P, int N>
void launch_alone(const AddNormArgs& args, Stream stream) {
  const auto start = [&](auto* kernel) {
    launch_following(kernel, static_cast<unsigned>(args.rows), threads_for(args.columns, N), 0, stream, "add_rms_norm",
                     pointers<T, W, P, N, 1>(args));
  };
  if constexpr (N == kVector && std::is_same_v<T, Bf16>) {
    if (args.columns <= kThreadsMax * N) {
      if (args.slices <= 1) return start(add_rms_norm_pack_kernel<W, P, 1>);
      if constexpr (std::is_same_v<P, float>) {
        if (args.slices == 2) return start(add_rms_norm_pack_kernel<W, P, 2>);
        if (args.slices == 4) return start(add_rms_norm_pack_kernel<W, P, 4>);
      }
    }
  }
  start(add_rms_norm_kernel<T, W, P, N>);
}

template <class T, class W, int N>
void launch(const AddNormArgs& args, Stream stream) {
  switch (args.peers ? args.peers->peers.size : 1) {
    case 1:
      if (args.partial_dtype == DType::kBF16) return launch_alone<T, W, Bf16, N>(args, stream);
      return launch_alone<T, W, float, N>(args, stream);
    case 2:
      return launch_over<T, W, N, 2>(args, stream);
    case 4:
      return launch_over<T, W, N, 4>(args, stream);
    default:
      return launch_over<T, W, N, 8>(args, stream);
  }
}

}  // namespace

bool add_rms_norm_is_wide(const AddNormArgs& args) {
  const int64_t unit = 16 / dtype_bytes(args.partial_dtype);
  bool wide = args.columns % kVector == 0 && aligned(args.residual) && (!args.out.data || aligned(args.out)) &&
              reinterpret_cast<uintptr_t>(args.weight) % 16 == 0 && args.slice_stride % unit == 0;
  for (int r = 0; r < (args.peers ? args.peers->peers.size : 1); ++r) {
    const void* partials = args.peers ? args.peers->partials[r] : args.partials;
    wide = wide && reinterpret_cast<uintptr_t>(partials) % 16 == 0;
  }
  return wide;
}

void add_rms_norm_rows(const AddNormArgs& args, Stream stream) {
  if (args.rows == 0) return;
  with_width(add_rms_norm_is_wide(args), [&](auto width) {
    with_f32_bf16(args.residual.dtype, [&]<class T>(T) {
      with_f32_bf16(args.weight_dtype, [&]<class W>(W) { launch<T, W, decltype(width)::value>(args, stream); });
    });
  });
}

}  // namespace hylas::cuda
