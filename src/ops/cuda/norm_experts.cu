#include "ops/cuda/norm_experts.h"

#include "ops/cuda/quantize.cuh"
#include "tensor/cuda/launch.cuh"

namespace hylas::cuda {
namespace {

constexpr int kThreadsMax = 512;  // one pack of a row for each
constexpr int kRowsAhead = 8;     // loads of a thread under way

template <class R>
__device__ __forceinline__ void add(float weight, const Pack<R, kVector>& part, float (&sum)[kVector]) {
#pragma unroll
  for (int i = 0; i < kVector; ++i) sum[i] = fmaf(weight, to_f32(part.value[i]), sum[i]);
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
  const int64_t columns = p.behind.columns;
  const float* rows = p.rows + c;
  const float* weights = static_cast<const float*>(p.weights.data) + t * p.weights.stride;
  const Pack<float, kVector> shared = take(rows + (p.behind.rows * p.k + t) * columns);
  const float logit = static_cast<const float*>(p.shared_logit.data)[t * p.shared_logit.stride];
  for (int from = 0; from < p.k; from += kRowsAhead) {
    Pack<float, kVector> part[kRowsAhead];
    float weight[kRowsAhead];
#pragma unroll
    for (int i = 0; i < kRowsAhead; ++i) {
      if (from + i >= p.k) break;
      part[i] = take(rows + (t * p.k + from + i) * columns);
      weight[i] = weights[from + i];
    }
#pragma unroll
    for (int i = 0; i < kRowsAhead; ++i) {
      if (from + i < p.k) add(weight[i], part[i], sum);
    }
  }
  add(sigmoid(logit), shared, sum);
}

// Eight neighbouring values of bf16 as they come: to take them apart at once would be to wait for them.
__device__ __forceinline__ uint4 fetch(const Bf16* from) { return *reinterpret_cast<const uint4*>(from); }
__device__ __forceinline__ void add(float weight, const uint4& raw, float (&sum)[kVector]) {
  const uint32_t pairs[] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
  for (int i = 0; i < kVector; ++i) {
    sum[i] = fmaf(weight, __uint_as_float(i % 2 == 0 ? pairs[i / 2] << 16 : pairs[i / 2] & 0xffff0000u), sum[i]);
  }
}

// The same of rows in bf16 that lie by expert; what no expert here has made adds nothing. Where the rows lie is asked
// for first: everything else is there by the time that is known.
__device__ __forceinline__ void sum_rows(const CombineArgs& p, int64_t t, int64_t c, float (&sum)[kVector]) {
  const Bf16* rows = static_cast<const Bf16*>(p.rows.data) + c;
  const int32_t* index = p.index + t * p.index_stride;
  const float* weights = static_cast<const float*>(p.weights.data) + t * p.weights.stride;
  int32_t row[kRowsAhead];
  const auto find_rows = [&](int from) {
#pragma unroll
    for (int i = 0; i < kRowsAhead; ++i) row[i] = from + i < p.k ? index[from + i] : -1;
  };
  find_rows(0);
  const uint4 shared = fetch(static_cast<const Bf16*>(p.shared.data) + t * p.columns + c);
  const float logit = static_cast<const float*>(p.shared_logit.data)[t * p.shared_logit.stride];
  for (int from = 0; from < p.k; from += kRowsAhead) {
    uint4 part[kRowsAhead];
#pragma unroll
    for (int i = 0; i < kRowsAhead; ++i) {
      if (row[i] >= 0) part[i] = fetch(rows + row[i] * p.columns);
    }
#pragma unroll
    for (int i = 0; i < kRowsAhead; ++i) {
      if (row[i] >= 0) add(weights[from + i], part[i], sum);
    }
    find_rows(from + kRowsAhead);
  }
  add(sigmoid(logit), shared, sum);
}

// A block has a token, a thread a pack of its columns.
template <class W, class Sum>
__device__ __forceinline__ void sum_and_norm(const Sum& sum, const AddNormArgs& p) {
  __shared__ float memory[32];
  const int64_t t = blockIdx.x, c = threadIdx.x * kVector;
  const bool inside = c < p.columns, with_norm = p.out.data || p.fp8.data;
  Pack<W, kVector> norm = {};
  if (inside && with_norm) norm = take(static_cast<const W*>(p.weight) + c);
  follow();
  float x[kVector] = {}, squares = 0.f;
  if (inside) {
    Bf16* residual = static_cast<Bf16*>(p.residual.data) + t * p.residual.stride + c;
    const uint4 old = fetch(residual);
    sum_rows(sum, t, c, x);
    add(1.f, old, x);
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

template <class W>
__global__ void __launch_bounds__(kThreadsMax) add_experts_rms_norm_kernel(const __grid_constant__ AddExpertsArgs p) {
  sum_and_norm<W>(p, p.behind);
}

// As many registers as let three blocks of 2048 columns share a multiprocessor.
template <class W>
__global__ void __maxnreg__(80)
    sum_experts_rms_norm_kernel(const __grid_constant__ CombineArgs p, const __grid_constant__ AddNormArgs behind) {
  sum_and_norm<W>(p, behind);
}

unsigned threads_for(int64_t columns) { return static_cast<unsigned>((columns / kVector + 31) / 32 * 32); }

bool takes_rows(const AddNormArgs& behind) {
  return behind.residual.dtype == DType::kBF16 && behind.columns % 128 == 0 &&
         behind.columns / kVector <= kThreadsMax && aligned(behind.residual) &&
         (!behind.out.data || aligned(behind.out)) && reinterpret_cast<uintptr_t>(behind.weight) % 16 == 0;
}

// Rows [begin, begin + rows).
AddNormArgs part_of(AddNormArgs args, int64_t begin, int64_t rows) {
  const auto move = [&](View& view) {
    if (view.data) view.data = static_cast<std::byte*>(view.data) + begin * view.stride * dtype_bytes(view.dtype);
  };
  move(args.residual);
  move(args.out);
  if (args.fp8.data) {
    args.fp8.data = static_cast<std::byte*>(args.fp8.data) + begin * args.fp8.inputs;
    args.fp8.scale += begin;
    args.fp8.rows = rows;
  }
  args.partials = static_cast<const std::byte*>(args.partials) + begin * args.columns * dtype_bytes(args.partial_dtype);
  args.rows = rows;
  return args;
}

}  // namespace

bool add_experts_takes(const AddExpertsArgs& args) { return takes_rows(args.behind); }

void add_experts_rms_norm(const AddExpertsArgs& args, Stream stream) {
  if (args.behind.rows == 0) return;
  with_f32_bf16(args.behind.weight_dtype, [&]<class W>(W) {
    launch_following(add_experts_rms_norm_kernel<W>, static_cast<unsigned>(args.behind.rows),
                     threads_for(args.behind.columns), 0, stream, "moe (sum and norm)", args);
  });
}

bool sum_experts_takes(const CombineArgs& sum, const AddNormArgs& behind) {
  return takes_rows(behind) && sum.slices == 1 && sum.index && sum.rows.dtype == DType::kBF16 && sum.shared.data &&
         sum.shared.dtype == DType::kBF16 && sum.columns == behind.columns;
}

void sum_experts(const CombineArgs& sum, const AddNormArgs* behind, int64_t begin, Stream stream) {
  if (!behind || sum.tokens == 0) return moe_sum(sum, stream);
  const AddNormArgs rows = part_of(*behind, begin, sum.tokens);
  if (!sum_experts_takes(sum, rows)) {
    moe_sum(sum, stream);
    return add_rms_norm_rows(rows, stream);
  }
  with_f32_bf16(rows.weight_dtype, [&]<class W>(W) {
    launch_following(sum_experts_rms_norm_kernel<W>, static_cast<unsigned>(rows.rows), threads_for(rows.columns), 0,
                     stream, "moe (sum and norm)", sum, rows);
  });
}

}  // namespace hylas::cuda
