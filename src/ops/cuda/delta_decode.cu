// One token of each row. A block has one head of one row and 32 columns of its state; four warps share the keys. The
// state is read once, kept in registers and written once.
#include "ops/cuda/delta_gates.cuh"
#include "tensor/cuda/cuda_error.h"

namespace hylas::cuda {
namespace {

constexpr int kColumns = 32;
constexpr int kGroups = 4;
constexpr int kKeysHeld = kDeltaDimMax / kGroups;

struct Shared {
  float query[kDeltaDimMax], key[kDeltaDimMax];
  float sums[kGroups][kColumns];
};

// q and k of the head, l2-normalised; q times key_dim^-1/2. Warp 0 takes q, warp 1 k.
template <class T>
__device__ void read_keys(const DeltaArgs& args, const T* qkv, int key_head, Shared& shared) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, dim = args.key_dim;
  if (warp > 1) return;
  const T* x = qkv + (warp * args.key_heads + key_head) * dim;
  float* to = warp == 0 ? shared.query : shared.key;
  float sum = 0.f;
  for (int i = lane; i < dim; i += 32) {
    const float value = to_f32(x[i]);
    to[i] = value;
    sum += value * value;
  }
  const float factor = warp == 0 ? 1.f / sqrtf(static_cast<float>(dim)) : 1.f;
  const float scale = factor / sqrtf(warp_sum(sum) + 1e-6f);
  for (int i = lane; i < dim; i += 32) to[i] *= scale;
}

template <class T, class S>
__global__ void __launch_bounds__(kColumns* kGroups) delta_decode_kernel(DeltaArgs args) {
  __shared__ Shared shared;
  const int head = blockIdx.x, row = blockIdx.y, column = blockIdx.z * kColumns + threadIdx.x % 32;
  const int group = threadIdx.x / 32, dim = args.value_dim;
  const int read = args.batch.state_read[row], write = args.batch.state_write[row];
  if (write < 0) return;
  const int64_t head_offset = static_cast<int64_t>(head) * args.key_dim * dim + column;
  const S* from = static_cast<const S*>(args.pool) + read * args.slot_stride + head_offset;
  S* to = static_cast<S*>(args.pool) + write * args.slot_stride + head_offset;
  const bool column_there = column < dim;
  // Key i of the group is i * kGroups + group.
  float state[kKeysHeld];
#pragma unroll
  for (int i = 0; i < kKeysHeld; ++i) {
    const int key = i * kGroups + group;
    state[i] = read >= 0 && column_there && key < args.key_dim ? to_f32(from[key * dim]) : 0.f;
  }
  const int64_t t = args.batch.row_begin[row];
  const T* qkv = static_cast<const T*>(args.qkv.data) + t * args.qkv.stride;
  read_keys(args, qkv, head / (args.value_heads / args.key_heads), shared);
  const float decay = expf(log_decay(args, t, head)), beta = write_strength(args, t, head);
  const float value = column_there ? to_f32(qkv[2 * args.key_heads * args.key_dim + head * dim + column]) : 0.f;
  __syncthreads();
  const auto sum_groups = [&](float mine) {
    shared.sums[group][threadIdx.x % 32] = mine;
    __syncthreads();
    const int c = threadIdx.x % 32;
    const float sum = (shared.sums[0][c] + shared.sums[1][c]) + (shared.sums[2][c] + shared.sums[3][c]);
    __syncthreads();
    return sum;
  };
  float read_out = 0.f;
#pragma unroll
  for (int i = 0; i < kKeysHeld; ++i) {
    const int key = i * kGroups + group;
    if (key < args.key_dim) read_out = fmaf(shared.key[key], state[i], read_out);
  }
  const float delta = beta * (value - decay * sum_groups(read_out));
  float result = 0.f;
#pragma unroll
  for (int i = 0; i < kKeysHeld; ++i) {
    const int key = i * kGroups + group;
    if (key >= args.key_dim) continue;
    const float updated = fmaf(shared.key[key], delta, decay * state[i]);
    if (column_there) to[key * dim] = from_f32<S>(updated);
    result = fmaf(shared.query[key], updated, result);
  }
  result = sum_groups(result);
  if (group == 0 && column_there) {
    static_cast<T*>(args.out.data)[t * args.out.stride + head * dim + column] = from_f32<T>(result);
  }
}

}  // namespace

void delta_decode(const DeltaArgs& args, Stream stream) {
  if (args.batch.decode_rows == 0) return;
  const dim3 grid(static_cast<unsigned>(args.value_heads), static_cast<unsigned>(args.batch.decode_rows),
                  static_cast<unsigned>((args.value_dim + kColumns - 1) / kColumns));
  with_f32_bf16(args.qkv.dtype, [&]<class T>(T) {
    with_state_type(args.pool_dtype,
                    [&]<class S>(S) { delta_decode_kernel<T, S><<<grid, kColumns * kGroups, 0, stream>>>(args); });
  });
  check_launch("delta_rule (decode)");
}

}  // namespace hylas::cuda
