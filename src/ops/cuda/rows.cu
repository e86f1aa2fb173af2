#include "ops/cuda/rows.h"

#include <type_traits>

#include "ops/cuda/quantize.cuh"
#include "tensor/cuda/launch.cuh"

namespace hylas::cuda {
namespace {

constexpr int kThreads = 256;

template <class From, class To, int N>
__global__ void take_rows_kernel(const From* x, int64_t x_stride, int64_t x_rows, const int32_t* index, int32_t first,
                                 int64_t columns, To* out, int64_t out_stride, bool only_there) {
  follow();
  const int64_t row = blockIdx.x;
  const int64_t source = index ? static_cast<int64_t>(index[row]) - first : row;
  const bool there = source >= 0 && source < x_rows;
  if (only_there && !there) return;
  for (int64_t c = threadIdx.x * N; c < columns; c += kThreads * N) {
    float value[N] = {};
    if (there) load<N>(x + source * x_stride + c, value);
    store<N>(out + row * out_stride + c, value);
  }
}

template <class T, int N>
__global__ void __launch_bounds__(kThreads) silu_mul_kernel(const SiluMulArgs args) {
  follow();
  const int64_t row = blockIdx.x;
  const int64_t c = (blockIdx.y * static_cast<int64_t>(kThreads) + threadIdx.x) * N;
  if (c >= args.columns) return;
  float a[N], b[N];
  load<N>(static_cast<const T*>(args.gate.data) + row * args.gate.stride + c, a);
  load<N>(static_cast<const T*>(args.up.data) + row * args.up.stride + c, b);
  for (int i = 0; i < N; ++i) a[i] = silu(a[i]) * b[i];
  if (args.out.data) store<N>(static_cast<T*>(args.out.data) + row * args.out.stride + c, a);
  if constexpr (N == kVector && std::is_same_v<T, Bf16>) {
    if (args.fp8.data) put_fp8<128 / N>(a, args.fp8, row, c);
  }
}

}  // namespace

namespace {

void take(const View& x, int64_t x_rows, const int32_t* index, int32_t first, int64_t count, int64_t columns,
          const View& out, bool only_there, Stream stream) {
  if (count == 0) return;
  with_width(columns % kVector == 0 && aligned(x) && aligned(out), [&](auto width) {
    constexpr int N = decltype(width)::value;
    with_f32_bf16(x.dtype, [&]<class From>(From) {
      with_f32_bf16(out.dtype, [&]<class To>(To) {
        launch_following(take_rows_kernel<From, To, N>, static_cast<unsigned>(count), kThreads, 0, stream, "take_rows",
                         static_cast<const From*>(x.data), x.stride, x_rows, index, first, columns,
                         static_cast<To*>(out.data), out.stride, only_there);
      });
    });
  });
}

}  // namespace

void take_rows(const View& x, int64_t x_rows, const int32_t* index, int32_t first, int64_t count, int64_t columns,
               const View& out, Stream stream) {
  take(x, x_rows, index, first, count, columns, out, false, stream);
}

void take_rows_there(const View& x, int64_t x_rows, const int32_t* index, int64_t count, int64_t columns,
                     const View& out, Stream stream) {
  take(x, x_rows, index, 0, count, columns, out, true, stream);
}

void copy_columns(const View& x, int64_t rows, int64_t columns, const View& out, Stream stream) {
  take_rows(x, rows, nullptr, 0, rows, columns, out, stream);
}

bool silu_mul_is_wide(const SiluMulArgs& args) {
  return args.columns % kVector == 0 && aligned(args.gate) && aligned(args.up) && aligned(args.out);
}

void silu_mul_rows(const SiluMulArgs& args, Stream stream) {
  if (args.rows == 0) return;
  with_width(silu_mul_is_wide(args), [&](auto width) {
    constexpr int N = decltype(width)::value;
    with_f32_bf16(args.gate.dtype, [&]<class T>(T) {
      const dim3 grid(static_cast<unsigned>(args.rows),
                      static_cast<unsigned>((args.columns + kThreads * N - 1) / (kThreads * N)));
      launch_following(silu_mul_kernel<T, N>, grid, kThreads, 0, stream, "silu_mul", args);
    });
  });
}

}  // namespace hylas::cuda
