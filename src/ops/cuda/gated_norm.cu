#include "ops/cuda/norm.h"
#include "ops/cuda/quantize.cuh"
#include "ops/cuda/silu.cuh"
#include "tensor/cuda/launch.cuh"

namespace hylas::cuda {
namespace {

constexpr int kThreads = 256;

// One warp per head; a lane takes N neighbouring elements at a time. N depends on the shape alone.
template <class T, class W, int N>
__global__ void gated_rms_norm_kernel(GatedNormArgs args) {
  follow();
  const int64_t item = (blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x) / 32;
  if (item >= args.rows * args.heads) return;
  const int64_t row = item / args.heads, offset = item % args.heads * args.dim;
  const int first = threadIdx.x % 32 * N;
  const T* x = static_cast<const T*>(args.x.data) + row * args.x.stride + offset;
  const T* z = static_cast<const T*>(args.z.data) + row * args.z.stride + offset;
  T* out = static_cast<T*>(args.out.data) + row * args.out.stride + offset;
  float sum = 0.f;
  for (int i = first; i < args.dim; i += 32 * N) {
    float value[N];
    load<N>(x + i, value);
    for (int j = 0; j < N; ++j) sum += value[j] * value[j];
  }
  const float scale = 1.f / sqrtf(warp_sum(sum) / static_cast<float>(args.dim) + args.eps);
  for (int i = first; i < args.dim; i += 32 * N) {
    float value[N], gate[N], w[N];
    load<N>(x + i, value);
    load<N>(z + i, gate);
    load<N>(static_cast<const W*>(args.weight) + i, w);
    for (int j = 0; j < N; ++j) value[j] = w[j] * (value[j] * scale) * silu(gate[j]);
    store<N>(out + i, value);
  }
}

// Heads of 128 values in bf16, a half of a warp for each. The sum is that of a warp whose lanes have four values each.
constexpr int kDim = 128, kLanes = 16, kEach = kDim / kLanes;

__device__ __forceinline__ float sum_of_squares(const float (&x)[kEach], unsigned mask) {
  float low = 0.f, high = 0.f;
#pragma unroll
  for (int i = 0; i < kEach / 2; ++i) {
    low += x[i] * x[i];
    high += x[kEach / 2 + i] * x[kEach / 2 + i];
  }
#pragma unroll
  for (int offset = kLanes / 2; offset > 0; offset /= 2) {
    low += __shfl_xor_sync(mask, low, offset);
    high += __shfl_xor_sync(mask, high, offset);
  }
  return low + high;
}

__device__ __forceinline__ void widen(const uint4& raw, float (&to)[kEach]) {
  const auto* pairs = reinterpret_cast<const __nv_bfloat162*>(&raw);
#pragma unroll
  for (int i = 0; i < kEach / 2; ++i) {
    const float2 two = __bfloat1622float2(pairs[i]);
    to[2 * i] = two.x;
    to[2 * i + 1] = two.y;
  }
}

// One access of 16 bytes: store() comes out as four of four here.
__device__ __forceinline__ void put_values(Bf16* to, const float (&x)[kEach]) {
  uint4 raw;
  auto* pairs = reinterpret_cast<__nv_bfloat162*>(&raw);
#pragma unroll
  for (int i = 0; i < kEach / 2; ++i) pairs[i] = __floats2bfloat162_rn(x[2 * i], x[2 * i + 1]);
  asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(to), "r"(raw.x), "r"(raw.y), "r"(raw.z), "r"(raw.w)
               : "memory");
}

// A row's heads in blockIdx.y.
template <class W>
__global__ void __launch_bounds__(kThreads, 6) gated_rms_norm_wide_kernel(const GatedNormArgs args) {
  const int lane = threadIdx.x % kLanes;
  const int head = static_cast<int>(blockIdx.y * blockDim.x + threadIdx.x) / kLanes;
  const int64_t row = blockIdx.x, column = static_cast<int64_t>(head) * kDim + lane * kEach;
  Pack<W, kEach> weight;
  weight = *reinterpret_cast<const Pack<W, kEach>*>(static_cast<const W*>(args.weight) + lane * kEach);
  follow();
  if (head >= args.heads) return;
  const auto at = [&](const View& v) {
    return *reinterpret_cast<const uint4*>(static_cast<const Bf16*>(v.data) + row * v.stride + column);
  };
  const uint4 values = at(args.x), gates = at(args.z);
  float x[kEach], y[kEach], z[kEach];
  widen(values, x);
  widen(gates, z);
  const float sum = sum_of_squares(x, 0xffffu << (threadIdx.x & kLanes));
  const float scale = 1.f / sqrtf(sum / static_cast<float>(kDim) + args.eps);
  RoundingCheck check;
#pragma unroll
  for (int j = 0; j < kEach; ++j) {
    x[j] = to_f32(weight.value[j]) * (x[j] * scale);
    y[j] = x[j] * quick_silu(z[j]);
    check.add(z[j], y[j]);
  }
  if (check.fails()) {
#pragma unroll
    for (int j = 0; j < kEach; ++j) y[j] = x[j] * silu(z[j]);
  }
  if (args.out.data) put_values(static_cast<Bf16*>(args.out.data) + row * args.out.stride + column, y);
  if (args.fp8.data) put_fp8<kLanes>(y, args.fp8, row, column);
}

bool at_packs(const View& view, int values) {
  return view.stride % values == 0 && reinterpret_cast<uintptr_t>(view.data) % (values * dtype_bytes(view.dtype)) == 0;
}

}  // namespace

bool gated_rms_norm_is_wide(const GatedNormArgs& args) {
  return args.x.dtype == DType::kBF16 && args.dim == kDim && at_packs(args.x, kEach) && at_packs(args.z, kEach) &&
         at_packs(args.out, kEach) && reinterpret_cast<uintptr_t>(args.weight) % 16 == 0;
}

void gated_rms_norm_rows(const GatedNormArgs& args, Stream stream) {
  if (args.rows == 0) return;
  if (gated_rms_norm_is_wide(args)) {
    const int lanes = args.heads * kLanes, threads = lanes < kThreads ? (lanes + 31) / 32 * 32 : kThreads;
    const dim3 grid(static_cast<unsigned>(args.rows), static_cast<unsigned>((lanes + threads - 1) / threads));
    return with_f32_bf16(args.weight_dtype, [&]<class W>(W) {
      launch_following(gated_rms_norm_wide_kernel<W>, grid, threads, 0, stream, "gated_rms_norm", args);
    });
  }
  constexpr int kWide = 4;
  const bool wide = args.dim % (32 * kWide) == 0 && at_packs(args.x, kWide) && at_packs(args.z, kWide) &&
                    at_packs(args.out, kWide) &&
                    reinterpret_cast<uintptr_t>(args.weight) % (kWide * dtype_bytes(args.weight_dtype)) == 0;
  const auto blocks = static_cast<unsigned>((args.rows * args.heads * 32 + kThreads - 1) / kThreads);
  with_f32_bf16(args.x.dtype, [&]<class T>(T) {
    with_f32_bf16(args.weight_dtype, [&]<class W>(W) {
      const auto kernel = wide ? gated_rms_norm_kernel<T, W, kWide> : gated_rms_norm_kernel<T, W, 1>;
      launch_following(kernel, blocks, kThreads, 0, stream, "gated_rms_norm", args);
    });
  });
}

}  // namespace hylas::cuda
