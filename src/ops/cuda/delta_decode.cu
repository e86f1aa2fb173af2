// One token of each row. A block has one head of one row and 32 lanes of V columns of its state each; four warps share
// the keys. The state is read once, kept in registers and written once. V does not change a column's arithmetic.
#include "ops/cuda/delta_gates.cuh"
#include "ops/cuda/vector.cuh"
#include "tensor/cuda/launch.cuh"

namespace hylas::cuda {
namespace {

constexpr int kGroups = 4;
constexpr int kKeysHeld = kDeltaDimMax / kGroups;

template <int V>
struct Shared {
  float query[kDeltaDimMax], key[kDeltaDimMax];
  float sums[kGroups][32 * V];
};

// q and k of the head, l2-normalised; q times key_dim^-1/2. Warp 0 takes q, warp 1 k.
template <class T, int V>
__device__ void read_keys(const DeltaArgs& args, const T* qkv, int key_head, Shared<V>& shared) {
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

// kWhole: keys and columns fill the block, and nothing needs to be asked.
template <class T, class S, int V, bool kWhole>
__global__ void __launch_bounds__(32 * kGroups) delta_decode_kernel(DeltaArgs args) {
  __shared__ Shared<V> shared;
  const int head = blockIdx.x, row = blockIdx.y, lane = threadIdx.x % 32, group = threadIdx.x / 32;
  const int column = (blockIdx.z * 32 + lane) * V, dim = args.value_dim;
  // Neither the batch nor the states are written by the kernel before this one: it makes q, k and v.
  const int read = args.batch.state_read[row], write = args.batch.state_write[row];
  if (write < 0) return follow();
  const int64_t head_offset = static_cast<int64_t>(head) * args.key_dim * dim + column;
  const S* from = static_cast<const S*>(args.pool) + read * args.slot_stride + head_offset;
  S* to = static_cast<S*>(args.pool) + write * args.slot_stride + head_offset;
  const bool there = kWhole || column < dim;  // V divides dim
  // Key i of the group is i * kGroups + group.
  float state[kKeysHeld][V];
#pragma unroll
  for (int i = 0; i < kKeysHeld; ++i) {
    const int key = i * kGroups + group;
    for (float& value : state[i]) value = 0.f;
    if (read >= 0 && there && (kWhole || key < args.key_dim)) load<V>(from + key * dim, state[i]);
  }
  follow();
  const int64_t t = args.batch.row_begin[row];
  const T* qkv = static_cast<const T*>(args.qkv.data) + t * args.qkv.stride;
  read_keys(args, qkv, head / (args.value_heads / args.key_heads), shared);
  const float decay = expf(log_decay(args, t, head)), beta = write_strength(args, t, head);
  float value[V] = {};
  for (int c = 0; c < V; ++c) {
    if (there) value[c] = to_f32(qkv[2 * args.key_heads * args.key_dim + head * dim + column + c]);
  }
  __syncthreads();
  const auto sum_groups = [&](float(&mine)[V]) {
    for (int c = 0; c < V; ++c) shared.sums[group][c * 32 + lane] = mine[c];
    __syncthreads();
    for (int c = 0; c < V; ++c) {
      const int at = c * 32 + lane;
      mine[c] = (shared.sums[0][at] + shared.sums[1][at]) + (shared.sums[2][at] + shared.sums[3][at]);
    }
    __syncthreads();
  };
  float old[V] = {}, result[V] = {};
#pragma unroll
  for (int i = 0; i < kKeysHeld; ++i) {
    const int key = i * kGroups + group;
    if (!kWhole && key >= args.key_dim) continue;
    for (int c = 0; c < V; ++c) old[c] = fmaf(shared.key[key], state[i][c], old[c]);
  }
  sum_groups(old);
  for (int c = 0; c < V; ++c) old[c] = beta * (value[c] - decay * old[c]);  // what is written
#pragma unroll
  for (int i = 0; i < kKeysHeld; ++i) {
    const int key = i * kGroups + group;
    if (!kWhole && key >= args.key_dim) continue;
    for (int c = 0; c < V; ++c) {
      state[i][c] = fmaf(shared.key[key], old[c], decay * state[i][c]);
      result[c] = fmaf(shared.query[key], state[i][c], result[c]);
    }
    if (there) store<V>(to + key * dim, state[i]);
  }
  sum_groups(result);
  T* out = static_cast<T*>(args.out.data) + t * args.out.stride + head * dim + column;
  for (int c = 0; c < V && group == 0 && there; ++c) out[c] = from_f32<T>(result[c]);
}

template <int V, bool kWhole>
void launch(const DeltaArgs& args, Stream stream) {
  const dim3 grid(static_cast<unsigned>(args.value_heads), static_cast<unsigned>(args.batch.decode_rows),
                  static_cast<unsigned>((args.value_dim + 32 * V - 1) / (32 * V)));
  with_f32_bf16(args.qkv.dtype, [&]<class T>(T) {
    with_state_type(args.pool_dtype, [&]<class S>(S) {
      launch_following(delta_decode_kernel<T, S, V, kWhole>, grid, 32 * kGroups, 0, stream, "delta_rule (decode)",
                       args);
    });
  });
}

}  // namespace

void delta_decode(const DeltaArgs& args, Stream stream) {
  if (args.batch.decode_rows == 0) return;
  // Wide accesses once there are blocks for every multiprocessor; before that, many small blocks.
  constexpr int kWide = 4, kBlocksWanted = 264;
  const bool whole =
      args.value_dim % kWide == 0 && args.slot_stride % kWide == 0 && reinterpret_cast<uintptr_t>(args.pool) % 16 == 0;
  const bool full = args.key_dim == kDeltaDimMax && args.value_dim == kDeltaDimMax;
  if (whole && full && args.value_heads * args.batch.decode_rows >= kBlocksWanted) {
    launch<kWide, true>(args, stream);
  } else if (full) {
    launch<1, true>(args, stream);
  } else {
    launch<1, false>(args, stream);
  }
}

}  // namespace hylas::cuda
