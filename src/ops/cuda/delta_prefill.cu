// Prefill rows in tiles of 64 tokens at absolute multiples of 64 positions, all in f32. With G the running sum of log
// decays within a tile, S the state before it and every row i:
//   X_i = beta_i (v_i - e^{G_i} S^T k_i) - sum over j < i of beta_i e^{G_i - G_j} (k_i . k_j) X_j     what row i writes
//   o_i = e^{G_i} S^T q_i + sum over j <= i of e^{G_i - G_j} (q_i . k_j) X_j
//   S  <- e^{G_n} S + sum over j of e^{G_n - G_j} k_j X_j^T
// Columns of values are independent: a block has one head of one row and 32 of them.
#include "ops/cuda/delta_gates.cuh"
#include "tensor/cuda/cuda_error.h"

namespace hylas::cuda {
namespace {

constexpr int kTile = 64;
constexpr int kColumns = 32;
constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr int kKeyStride = kDeltaDimMax + 4;  // no two rows on the same banks
constexpr int kPairStride = kTile + 4;
constexpr int kStateHeld = kDeltaDimMax / kWarps;  // keys of the state that a thread keeps: those from warp * 16 on

struct Shared {
  float query[kTile][kKeyStride];
  float key[kTile][kKeyStride];
  float overwrite[kTile][kPairStride];  // -beta_i e^{G_i - G_j} (k_i . k_j), 0 unless j < i
  float read[kTile][kPairStride];       // e^{G_i - G_j} (q_i . k_j), 0 unless j <= i
  float state[kDeltaDimMax][kColumns];
  float written[kTile][kColumns];  // X
  double decay_sum[kTile];         // G
  float log_decay[kTile];
  float beta[kTile];
  float from_start[kTile];  // e^{G_i}
  float to_end[kTile];      // e^{G_n - G_i}
};

// The tile's queries, keys (l2-normalised), values (as X) and gates; rows from `count` on are zero.
template <class T>
__device__ void load_tile(const DeltaArgs& args, int head, int column, int64_t begin, int count, Shared& s) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, dim = args.key_dim;
  const int key_head = head / (args.value_heads / args.key_heads);
  for (int i = warp; i < 2 * kTile; i += kWarps) {
    const int token = i / 2, which = i % 2;  // query, key
    float* to = which == 0 ? s.query[token] : s.key[token];
    const T* x = static_cast<const T*>(args.qkv.data) + (begin + token) * args.qkv.stride +
                 (which * args.key_heads + key_head) * dim;
    float value[kDeltaDimMax / 32], sum = 0.f;
    for (int j = 0; j < kDeltaDimMax / 32; ++j) {
      const int d = lane + 32 * j;
      value[j] = token < count && d < dim ? to_f32(x[d]) : 0.f;
      sum += value[j] * value[j];
    }
    const float factor = which == 0 ? 1.f / sqrtf(static_cast<float>(dim)) : 1.f;
    const float scale = factor / sqrtf(warp_sum(sum) + 1e-6f);
    for (int j = 0; j < kDeltaDimMax / 32; ++j) to[lane + 32 * j] = value[j] * scale;
  }
  for (int i = warp; i < kTile; i += kWarps) {
    const bool there = i < count && column + lane < args.value_dim;
    const T* v = static_cast<const T*>(args.qkv.data) + (begin + i) * args.qkv.stride + 2 * args.key_heads * dim +
                 head * args.value_dim + column;
    s.written[i][lane] = there ? to_f32(v[lane]) : 0.f;
  }
  if (threadIdx.x < kTile) {
    const bool there = static_cast<int>(threadIdx.x) < count;
    s.log_decay[threadIdx.x] = there ? log_decay(args, begin + threadIdx.x, head) : 0.f;
    s.beta[threadIdx.x] = there ? write_strength(args, begin + threadIdx.x, head) : 0.f;
  }
  __syncthreads();
  if (threadIdx.x < kTile) {  // in double: sums of log decays may be large, and their differences matter
    double sum = 0;
    for (int j = 0; j <= static_cast<int>(threadIdx.x); ++j) sum += s.log_decay[j];
    s.decay_sum[threadIdx.x] = sum;
    s.from_start[threadIdx.x] = expf(static_cast<float>(sum));
  }
  __syncthreads();
  if (threadIdx.x < kTile) {
    s.to_end[threadIdx.x] = expf(static_cast<float>(s.decay_sum[kTile - 1] - s.decay_sum[threadIdx.x]));
  }
}

// Products of all pairs of tokens with their decays. A thread has rows y + 16 a and columns x + 16 b.
__device__ void pair_products(Shared& s, int key_dim) {
  const int x = threadIdx.x % 16, y = threadIdx.x / 16;
  float keys[4][4] = {}, queries[4][4] = {};
  for (int d = 0; d < key_dim; d += 4) {
    float4 column[4];
    for (int b = 0; b < 4; ++b) column[b] = *reinterpret_cast<const float4*>(&s.key[x + 16 * b][d]);
    for (int a = 0; a < 4; ++a) {
      const float4 k = *reinterpret_cast<const float4*>(&s.key[y + 16 * a][d]);
      const float4 q = *reinterpret_cast<const float4*>(&s.query[y + 16 * a][d]);
      for (int b = 0; b < 4; ++b) {
        const float4 c = column[b];
        keys[a][b] = fmaf(k.x, c.x, fmaf(k.y, c.y, fmaf(k.z, c.z, fmaf(k.w, c.w, keys[a][b]))));
        queries[a][b] = fmaf(q.x, c.x, fmaf(q.y, c.y, fmaf(q.z, c.z, fmaf(q.w, c.w, queries[a][b]))));
      }
    }
  }
  for (int a = 0; a < 4; ++a) {
    for (int b = 0; b < 4; ++b) {
      const int i = y + 16 * a, j = x + 16 * b;
      const float decay = j <= i ? expf(static_cast<float>(s.decay_sum[i] - s.decay_sum[j])) : 0.f;
      s.overwrite[i][j] = j < i ? -s.beta[i] * decay * keys[a][b] : 0.f;
      s.read[i][j] = decay * queries[a][b];
    }
  }
}

// out[r] += rows[warp + 8 r] . matrix over `depth` of the shared dimension; a lane has one column.
template <int stride>
__device__ void add_products(const float (*rows)[stride], const float (*matrix)[kColumns], int depth,
                             float (&out)[kTile / kWarps]) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  for (int d = 0; d < depth; d += 4) {
    float column[4];
    for (int i = 0; i < 4; ++i) column[i] = matrix[d + i][lane];
    for (int r = 0; r < kTile / kWarps; ++r) {
      const float4 x = *reinterpret_cast<const float4*>(&rows[warp + kWarps * r][d]);
      out[r] = fmaf(x.x, column[0], fmaf(x.y, column[1], fmaf(x.z, column[2], fmaf(x.w, column[3], out[r]))));
    }
  }
}

// X: the right-hand side, then forward substitution in blocks of 16 rows.
__device__ void solve(Shared& s, int key_dim) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  float old[kTile / kWarps] = {};
  add_products(s.key, s.state, key_dim, old);
  for (int r = 0; r < kTile / kWarps; ++r) {
    const int i = warp + kWarps * r;
    s.written[i][lane] = s.beta[i] * (s.written[i][lane] - s.from_start[i] * old[r]);
  }
  __syncthreads();
  constexpr int kBlock = 16;
  for (int first = 0; first < kTile; first += kBlock) {
    if (warp == 0) {
      float x[kBlock];
#pragma unroll
      for (int i = 0; i < kBlock; ++i) {
        x[i] = s.written[first + i][lane];
#pragma unroll
        for (int j = 0; j < i; ++j) x[i] = fmaf(s.overwrite[first + i][first + j], x[j], x[i]);
        s.written[first + i][lane] = x[i];
      }
    }
    __syncthreads();
    for (int i = first + kBlock + warp; i < kTile; i += kWarps) {
      float sum = s.written[i][lane];
      for (int j = first; j < first + kBlock; ++j) sum = fmaf(s.overwrite[i][j], s.written[j][lane], sum);
      s.written[i][lane] = sum;
    }
    __syncthreads();
  }
}

template <class S>
__device__ void update_state(Shared& s, float (&state)[kStateHeld]) {
  const int first = threadIdx.x / 32 * kStateHeld, lane = threadIdx.x % 32;
  const float keep = s.from_start[kTile - 1];
  for (float& value : state) value *= keep;
  for (int j = 0; j < kTile; ++j) {
    const float carried = s.to_end[j] * s.written[j][lane];
#pragma unroll
    for (int d = 0; d < kStateHeld; d += 4) {
      const float4 k = *reinterpret_cast<const float4*>(&s.key[j][first + d]);
      state[d] = fmaf(k.x, carried, state[d]);
      state[d + 1] = fmaf(k.y, carried, state[d + 1]);
      state[d + 2] = fmaf(k.z, carried, state[d + 2]);
      state[d + 3] = fmaf(k.w, carried, state[d + 3]);
    }
  }
  for (float& value : state) value = to_f32(from_f32<S>(value));  // a 16-bit state is rounded here
}

template <class T, class S>
__global__ void __launch_bounds__(kThreads) delta_prefill_kernel(DeltaArgs args) {
  extern __shared__ __align__(16) unsigned char memory[];
  Shared& s = *reinterpret_cast<Shared*>(memory);
  const BatchView& batch = args.batch;
  const int head = blockIdx.x, column = blockIdx.y * kColumns, row = batch.decode_rows + blockIdx.z;
  const int read = batch.state_read[row], write = batch.state_write[row];
  if (write < 0) return;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, first = warp * kStateHeld;
  const bool column_there = column + lane < args.value_dim;
  const int64_t offset = static_cast<int64_t>(head) * args.key_dim * args.value_dim + column + lane;
  const S* from = static_cast<const S*>(args.pool) + read * args.slot_stride + offset;
  S* to = static_cast<S*>(args.pool) + write * args.slot_stride + offset;
  float state[kStateHeld];
#pragma unroll
  for (int d = 0; d < kStateHeld; ++d) {
    const bool there = read >= 0 && column_there && first + d < args.key_dim;
    state[d] = there ? to_f32(from[(first + d) * args.value_dim]) : 0.f;
  }
  const int row_begin = batch.row_begin[row], row_end = batch.row_begin[row + 1];
  int position = batch.kv_len[row] - (row_end - row_begin);
  for (int begin = row_begin; begin < row_end;) {
    const int count = min(kTile - position % kTile, row_end - begin);
    for (int d = 0; d < kStateHeld; ++d) s.state[first + d][lane] = state[d];
    load_tile<T>(args, head, column, begin, count, s);
    __syncthreads();
    pair_products(s, args.key_dim);
    __syncthreads();
    solve(s, args.key_dim);
    float old[kTile / kWarps] = {}, out[kTile / kWarps] = {};
    add_products(s.query, s.state, args.key_dim, old);
    add_products(s.read, s.written, kTile, out);
    for (int r = 0; r < kTile / kWarps; ++r) {
      const int i = warp + kWarps * r;
      if (i >= count || !column_there) continue;
      T* at = static_cast<T*>(args.out.data) + (begin + i) * args.out.stride + head * args.value_dim + column + lane;
      *at = from_f32<T>(fmaf(s.from_start[i], old[r], out[r]));
    }
    update_state<S>(s, state);
    __syncthreads();
    begin += count;
    position += count;
  }
#pragma unroll
  for (int d = 0; d < kStateHeld; ++d) {
    if (column_there && first + d < args.key_dim) to[(first + d) * args.value_dim] = from_f32<S>(state[d]);
  }
}

}  // namespace

void delta_prefill(const DeltaArgs& args, Stream stream) {
  const int rows = args.batch.rows - args.batch.decode_rows;
  if (rows == 0) return;
  const dim3 grid(static_cast<unsigned>(args.value_heads),
                  static_cast<unsigned>((args.value_dim + kColumns - 1) / kColumns), static_cast<unsigned>(rows));
  with_f32_bf16(args.qkv.dtype, [&]<class T>(T) {
    with_state_type(args.pool_dtype, [&]<class S>(S) {
      check(
          cudaFuncSetAttribute(delta_prefill_kernel<T, S>, cudaFuncAttributeMaxDynamicSharedMemorySize, sizeof(Shared)),
          "delta_rule (shared memory)");
      delta_prefill_kernel<T, S><<<grid, kThreads, sizeof(Shared), stream>>>(args);
    });
  });
  check_launch("delta_rule (prefill)");
}

}  // namespace hylas::cuda
