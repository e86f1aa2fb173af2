#include "ops/cuda/rope.h"

#include "ops/cuda/element.cuh"
#include "ops/cuda/row_tile.cuh"
#include "tensor/cuda/launch.cuh"

namespace hylas::cuda {
namespace {

// Angles in double: position 262143 times a frequency rounded to float would be off by 1e-2.
__global__ void rope_table_kernel(RopeTableArgs args) {
  follow();
  const int half = args.rotary_dim / 2;
  const int64_t item = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x;
  if (item >= args.tokens * half) return;
  const int64_t t = item / half;
  const int j = static_cast<int>(item % half);
  int axis = j % 3;
  if (args.axes != 3 || (axis != 0 && j >= 3 * args.sections[axis])) axis = 0;
  const double frequency = pow(args.theta, -2.0 * j / args.rotary_dim);
  double sine, cosine;
  sincos(args.positions[axis * args.positions_stride + t] * frequency, &sine, &cosine);
  float* row = static_cast<float*>(args.table.data) + t * args.table.stride;
  row[j] = static_cast<float>(cosine);
  row[half + j] = static_cast<float>(sine);
}

constexpr int kWarps = 4;

// head = rope(norm1p(x)), by one warp.
template <class T, class W>
__device__ void norm_rope(const T* x, const W* weight, const QkRopeArgs& args, const float* table, float* head) {
  const int lane = threadIdx.x % 32, dim = args.head_dim, half = args.rotary_dim / 2;
  float sum = 0.f;
  for (int i = lane; i < dim; i += 32) {
    const float value = to_f32(x[i]);
    head[i] = value;
    sum += value * value;
  }
  const float scale = 1.f / sqrtf(warp_sum(sum) / static_cast<float>(dim) + args.eps);
  for (int i = lane; i < dim; i += 32) head[i] = head[i] * scale * (1.f + to_f32(weight[i]));
  __syncwarp();
  for (int i = lane; i < half; i += 32) {
    const float a = head[i], b = head[half + i], cosine = table[i], sine = table[half + i];
    head[i] = a * cosine - b * sine;
    head[half + i] = b * cosine + a * sine;
  }
  __syncwarp();
}

template <class T, class W, class K>
__global__ void qk_norm_rope_kernel(QkRopeArgs args) {
  __shared__ float heads[kWarps][kHeadDimMax];
  follow();
  const int t = blockIdx.x, warp = threadIdx.x / 32, lane = threadIdx.x % 32, dim = args.head_dim;
  const BatchView& batch = args.batch;
  const int row = row_of_token(batch.row_begin, batch.rows, t);
  if (batch.state_write[row] < 0) return;
  const int position = batch.kv_len[row] - (batch.row_begin[row + 1] - t);
  const int page = batch.page_table[row * batch.page_table_stride + position / batch.page_size];
  const float* table = static_cast<const float*>(args.rope.data) + t * args.rope.stride;
  float* head = heads[warp];
  for (int h = blockIdx.y * kWarps + warp; h < args.heads + args.kv_heads; h += gridDim.y * kWarps) {
    if (h < args.heads) {
      const T* x = static_cast<const T*>(args.qg.data) + t * args.qg.stride + 2 * h * dim;
      norm_rope(x, static_cast<const W*>(args.q_norm), args, table, head);
      T* out = static_cast<T*>(args.q_out.data) + t * args.q_out.stride + h * dim;
      for (int i = lane; i < dim; i += 32) out[i] = from_f32<T>(head[i]);
    } else if (page >= 0 && page < args.pages) {
      const int kv = h - args.heads;
      const int64_t offset =
          page * args.page_stride + (kv * static_cast<int64_t>(batch.page_size) + position % batch.page_size) * dim;
      const T* x = static_cast<const T*>(args.k.data) + t * args.k.stride + kv * dim;
      const T* v = static_cast<const T*>(args.v.data) + t * args.v.stride + kv * dim;
      norm_rope(x, static_cast<const W*>(args.k_norm), args, table, head);
      K* k_to = static_cast<K*>(args.k_pages) + offset;
      K* v_to = static_cast<K*>(args.v_pages) + offset;
      for (int i = lane; i < dim; i += 32) {
        k_to[i] = from_f32<K>(head[i]);
        v_to[i] = from_f32<K>(to_f32(v[i]));
      }
    }
    __syncwarp();
  }
}

// Heads of 256 dimensions of which 64 are rotated, in bf16: a head is a warp's, lane l has dimensions l + 32 i, and
// what is turned together lies in one lane. Each warp has two heads (of queries, keys or values), whose loads are under
// way at once; what the kernel before this one does not write comes before it ends. The sums are those of the kernel
// above.
constexpr int kWideDim = 256, kWideRotary = 64, kPieces = kWideDim / 32, kHeadsAtOnce = 2;

enum class HeadKind { kNone, kQuery, kKey, kValue };

// One head of a token.
template <class W>
struct WideHead {
  HeadKind kind = HeadKind::kNone;
  int head = 0;
  float weight[kPieces];
  Bf16 raw[kPieces];

  __device__ __forceinline__ WideHead(const QkRopeArgs& args, int index) {
    if (index < args.heads) {
      kind = HeadKind::kQuery;
      head = index;
    } else if (index < args.heads + 2 * args.kv_heads) {
      kind = index < args.heads + args.kv_heads ? HeadKind::kKey : HeadKind::kValue;
      head = (index - args.heads) % args.kv_heads;
    }
    if (kind != HeadKind::kQuery && kind != HeadKind::kKey) return;
    const W* from = static_cast<const W*>(kind == HeadKind::kQuery ? args.q_norm : args.k_norm) + threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < kPieces; ++i) weight[i] = to_f32(from[32 * i]);
  }
  __device__ __forceinline__ void read(const QkRopeArgs& args, int64_t t) {
    if (kind == HeadKind::kNone) return;
    const View& view = kind == HeadKind::kQuery ? args.qg : kind == HeadKind::kKey ? args.k : args.v;
    const int64_t column = static_cast<int64_t>(kind == HeadKind::kQuery ? 2 * head : head) * kWideDim;
    const Bf16* from = static_cast<const Bf16*>(view.data) + t * view.stride + column + threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < kPieces; ++i) raw[i] = from[32 * i];
  }
  // x = rope(norm1p(raw)); values as they are.
  __device__ __forceinline__ void turn(float eps, float cosine, float sine, float (&x)[kPieces]) const {
    float sum = 0.f;
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
      x[i] = to_f32(raw[i]);
      sum += x[i] * x[i];
    }
    if (kind == HeadKind::kValue) return;
    const float scale = 1.f / sqrtf(warp_sum(sum) / static_cast<float>(kWideDim) + eps);
#pragma unroll
    for (int i = 0; i < kPieces; ++i) x[i] = x[i] * scale * (1.f + weight[i]);
    const float a = x[0], b = x[1];
    x[0] = a * cosine - b * sine;
    x[1] = b * cosine + a * sine;
  }
};

template <class W, class K>
__global__ void __launch_bounds__(32 * kWarps) qk_norm_rope_wide_kernel(const QkRopeArgs args) {
  const int t = blockIdx.x, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int first = (blockIdx.y * kWarps + warp) * kHeadsAtOnce;
  WideHead<W> heads[kHeadsAtOnce] = {WideHead<W>(args, first), WideHead<W>(args, first + 1)};
  const BatchView& batch = args.batch;
  const int row = t < batch.decode_rows ? t : row_of_token(batch.row_begin, batch.rows, t);
  const int position = batch.kv_len[row] - (batch.row_begin[row + 1] - t);
  const bool padded = batch.state_write[row] < 0;
  const int page = padded ? -1 : batch.page_table[row * batch.page_table_stride + position / batch.page_size];
  follow();
  if (padded) return;
#pragma unroll
  for (WideHead<W>& head : heads) head.read(args, t);
  const float* table = static_cast<const float*>(args.rope.data) + t * args.rope.stride + lane;
  const float cosine = table[0], sine = table[kWideRotary / 2];
#pragma unroll
  for (const WideHead<W>& head : heads) {
    if (head.kind == HeadKind::kNone) break;
    float x[kPieces];
    head.turn(args.eps, cosine, sine, x);
    if (head.kind == HeadKind::kQuery) {
      Bf16* to = static_cast<Bf16*>(args.q_out.data) + t * args.q_out.stride + head.head * kWideDim + lane;
#pragma unroll
      for (int i = 0; i < kPieces; ++i) to[32 * i] = from_f32<Bf16>(x[i]);
    } else if (page >= 0 && page < args.pages) {
      void* pages = head.kind == HeadKind::kKey ? args.k_pages : args.v_pages;
      const int64_t slot = head.head * static_cast<int64_t>(batch.page_size) + position % batch.page_size;
      K* to = static_cast<K*>(pages) + page * args.page_stride + slot * kWideDim + lane;
#pragma unroll
      for (int i = 0; i < kPieces; ++i) to[32 * i] = from_f32<K>(x[i]);
    }
  }
}

}  // namespace

void rope_rows(const RopeTableArgs& args, Stream stream) {
  if (args.tokens == 0) return;
  constexpr int kThreads = 128;
  const int64_t items = args.tokens * (args.rotary_dim / 2);
  launch_following(rope_table_kernel, static_cast<unsigned>((items + kThreads - 1) / kThreads), kThreads, 0, stream,
                   "rope_table", args);
}

void qk_rope_rows(const QkRopeArgs& args, Stream stream) {
  if (args.batch.tokens == 0) return;
  if (args.qg.dtype == DType::kBF16 && args.head_dim == kWideDim && args.rotary_dim == kWideRotary) {
    constexpr int kOfBlock = kWarps * kHeadsAtOnce;
    const dim3 grid(static_cast<unsigned>(args.batch.tokens),
                    static_cast<unsigned>((args.heads + 2 * args.kv_heads + kOfBlock - 1) / kOfBlock));
    return with_f32_bf16(args.norm_dtype, [&]<class W>(W) {
      with_kv_type(args.kv_dtype, [&]<class K>(K) {
        launch_following(qk_norm_rope_wide_kernel<W, K>, grid, 32 * kWarps, 0, stream, "qk_norm_rope_kv_write", args);
      });
    });
  }
  const dim3 grid(static_cast<unsigned>(args.batch.tokens),
                  static_cast<unsigned>((args.heads + args.kv_heads + 2 * kWarps - 1) / (2 * kWarps)));
  with_f32_bf16(args.qg.dtype, [&]<class T>(T) {
    with_f32_bf16(args.norm_dtype, [&]<class W>(W) {
      with_kv_type(args.kv_dtype, [&]<class K>(K) {
        launch_following(qk_norm_rope_kernel<T, W, K>, grid, 32 * kWarps, 0, stream, "qk_norm_rope_kv_write", args);
      });
    });
  });
}

}  // namespace hylas::cuda
