#include "ops/cuda/norm_experts.h"

#include "ops/cuda/quantize.cuh"
#include "tensor/cuda/launch.cuh"

namespace hylas::cuda {
namespace {

constexpr int kThreadsMax = 512;  // one pack of a row for each
constexpr int kRowsAhead = 8;     // loads of a thread under way

__device__ __forceinline__ void add(float weight, const Pack<float, kVector>& part, float (&sum)[kVector]) {
#pragma unroll
  for (int i = 0; i < kVector; ++i) sum[i] = fmaf(weight, part.value[i], sum[i]);
}

// A pack as it comes, one access of 16 bytes or two.
template <class R>
__device__ __forceinline__ Pack<R, kVector> take(const R* from) {
  constexpr int kPiece = 16 / static_cast<int>(sizeof(R));
  Pack<R, kVector> pack;
#pragma unroll
  for (int i = 0; i < kVector; i += kPiece) {
    *reinterpret_cast<Pack<R, kPiece>*>(&pack.value[i]) = *reinterpret_cast<const Pack<R, kPiece>*>(from + i);
  }
  return pack;
}

// The weighed sum of the rows of token t, from column c on.
__device__ __forceinline__ void sum_rows(const AddExpertsArgs& p, int64_t t, int64_t c, float (&sum)[kVector]) {
  const float* rows = p.rows + c;
  const float* weights = static_cast<const float*>(p.weights.data) + t * p.weights.stride;
  const Pack<float, kVector> shared = take(rows + (p.tokens * p.k + t) * p.columns);
  const float logit = static_cast<const float*>(p.shared_logit.data)[t * p.shared_logit.stride];
  for (int from = 0; from < p.k; from += kRowsAhead) {
    Pack<float, kVector> part[kRowsAhead];
    float weight[kRowsAhead];
#pragma unroll
    for (int i = 0; i < kRowsAhead; ++i) {
      if (from + i >= p.k) break;
      part[i] = take(rows + (t * p.k + from + i) * p.columns);
      weight[i] = weights[from + i];
    }
#pragma unroll
    for (int i = 0; i < kRowsAhead; ++i) {
      if (from + i < p.k) add(weight[i], part[i], sum);
    }
  }
  add(sigmoid(logit), shared, sum);
}

template <class W>
__global__ void __launch_bounds__(kThreadsMax) add_experts_rms_norm_kernel(const AddExpertsArgs p) {
  __shared__ float memory[32];
  const int64_t t = blockIdx.x, c = threadIdx.x * kVector;
  const bool inside = c < p.columns, with_norm = p.out.data || p.fp8.data;
  Pack<W, kVector> norm = {};
  if (inside && with_norm) norm = take(static_cast<const W*>(p.norm) + c);
  follow();
  float x[kVector] = {}, squares = 0.f;
  if (inside) {
    Bf16* residual = static_cast<Bf16*>(p.residual.data) + t * p.residual.stride + c;
    const Pack<Bf16, kVector> old = take(residual);
    sum_rows(p, t, c, x);
#pragma unroll
    for (int i = 0; i < kVector; ++i) x[i] += to_f32(old.value[i]);
    store<kVector>(residual, x);
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
      x[i] = to_f32(from_f32<Bf16>(x[i]));  // the norm reads what was stored
      squares += x[i] * x[i];
    }
  }
  if (!with_norm) return;
  const float scale = 1.f / sqrtf(block_sum(squares, memory) / static_cast<float>(p.columns) + p.eps);
  if (!inside) return;
#pragma unroll
  for (int i = 0; i < kVector; ++i) x[i] = x[i] * scale * (1.f + to_f32(norm.value[i]));
  if (p.out.data) store<kVector>(static_cast<Bf16*>(p.out.data) + t * p.out.stride + c, x);
  if (p.fp8.data) put_fp8<128 / kVector>(x, p.fp8, t, c);
}

}  // namespace

bool add_experts_takes(const AddExpertsArgs& args) {
  return args.residual.dtype == DType::kBF16 && args.columns % 128 == 0 && args.columns / kVector <= kThreadsMax &&
         aligned(args.residual) && (!args.out.data || aligned(args.out)) &&
         reinterpret_cast<uintptr_t>(args.norm) % 16 == 0;
}

void add_experts_rms_norm(const AddExpertsArgs& args, Stream stream) {
  if (args.tokens == 0) return;
  const auto threads = static_cast<unsigned>((args.columns / kVector + 31) / 32 * 32);
  with_f32_bf16(args.norm_dtype, [&]<class W>(W) {
    launch_following(add_experts_rms_norm_kernel<W>, static_cast<unsigned>(args.tokens), threads, 0, stream,
                     "moe (sum and norm)", args);
  });
}

}  // namespace hylas::cuda
