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
