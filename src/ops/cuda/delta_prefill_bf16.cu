// Prefill rows on the tensor cores: bf16 activations, heads of 128 keys. The formulas are delta_prefill.cu's, and so is
// their accuracy: raw queries and keys are exact in bf16 and take their norms afterwards; what is f32 (the state, what
// is written, the weights of reads) goes in as the sum of two bf16. A block has one head of one row and 32 columns,
// each of its four warps 16 tokens of a tile; the state stays in registers as the accumulators of its own update.
#include "ops/cuda/delta_gates.cuh"
#include "ops/cuda/delta_tile.cuh"
#include "tensor/cuda/cuda_error.h"

namespace hylas::cuda {
namespace {

// Accumulators of the warp's 16 tokens: rows g and g + 8 of a lane 4 g + t.
struct TileSums {
  float keys[8][4] = {};     // k_i . k_j, raw; j in steps of 8
  float queries[8][4] = {};  // q_i . k_j
  float old[4][4] = {};      // S^T k_i, by column
  float out[4][4] = {};      // S^T q_i
};

// Products of the warp's tokens with all keys and with the state, and the norms of its rows.
__device__ __forceinline__ void tile_products(DeltaTile& s, TileSums& sums) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4, row = 16 * warp + g;
  float squares[4] = {};  // of k and q in rows g, g + 8
#pragma unroll
  for (int kb = 0; kb < 4; ++kb) {
    const int chunk = 4 * kb + t;
    const uint4 k_low = s.key[tile_place(row, chunk)], k_high = s.key[tile_place(row + 8, chunk)];
    const uint4 q_low = s.query[tile_place(row, chunk)], q_high = s.query[tile_place(row + 8, chunk)];
    squares[0] += square_sum(k_low);
    squares[1] += square_sum(k_high);
    squares[2] += square_sum(q_low);
    squares[3] += square_sum(q_high);
#pragma unroll
    for (int n = 0; n < 8; ++n) {
      if (n > 2 * warp + 1) break;  // only earlier tokens count
      const uint4 b = s.key[tile_place(8 * n + g, chunk)];
      mma_32(sums.keys[n], k_low, k_high, b);
      mma_32(sums.queries[n], q_low, q_high, b);
    }
#pragma unroll
    for (int n = 0; n < 4; ++n) {
      const uint4 high = s.state_high[tile_place(8 * n + g, chunk)], low = s.state_low[tile_place(8 * n + g, chunk)];
      mma_32(sums.old[n], k_low, k_high, high);
      mma_32(sums.old[n], k_low, k_high, low);
      mma_32(sums.out[n], q_low, q_high, high);
      mma_32(sums.out[n], q_low, q_high, low);
    }
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    squares[i] += __shfl_xor_sync(~0u, squares[i], 1);
    squares[i] += __shfl_xor_sync(~0u, squares[i], 2);
  }
  if (t == 0) {
    for (int r = 0; r < 2; ++r) {
      s.key_scale[row + 8 * r] = 1.f / sqrtf(squares[r] + 1e-6f);
      s.query_scale[row + 8 * r] = 1.f / sqrtf(squares[2 + r] + 1e-6f) * 0.08838834764831845f;  // 128^-1/2
    }
  }
}

// What is solved for, and its factors; the weights of reads stay in sums.queries.
template <class T>
__device__ __forceinline__ void weigh_tile(const DeltaArgs& args, int head, int column, int64_t begin, int count,
                                           DeltaTile& s, TileSums& sums) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int i = 16 * warp + g + 8 * r;
    const double from = s.decay_sum[i];
    const float beta = s.beta[i], key_scale = s.key_scale[i], query_scale = s.query_scale[i];
#pragma unroll
    for (int n = 0; n < 8; ++n) {
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        const int j = 8 * n + 2 * t + c;
        const float decay = j <= i ? __expf(static_cast<float>(from - s.decay_sum[j])) * s.key_scale[j] : 0.f;
        s.overwrite[i][j] = j < i ? -beta * key_scale * decay * sums.keys[n][2 * r + c] : 0.f;
        sums.queries[n][2 * r + c] = j <= i ? query_scale * decay * sums.queries[n][2 * r + c] : 0.f;
      }
    }
    const T* v = static_cast<const T*>(args.qkv.data) + (begin + i) * args.qkv.stride + 2 * args.key_heads * kTileKeys +
                 head * args.value_dim + column;
    const float from_start = s.from_start[i];
#pragma unroll
    for (int n = 0; n < 4; ++n) {
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        const float value = i < count ? to_f32(v[8 * n + 2 * t + c]) : 0.f;
        s.written[i][8 * n + 2 * t + c] = beta * (value - from_start * key_scale * sums.old[n][2 * r + c]);
        sums.out[n][2 * r + c] *= from_start * query_scale;
      }
    }
  }
}

// Forward substitution in blocks of 16 rows, in f32: a lane has one column.
__device__ __forceinline__ void solve_tile(DeltaTile& s) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
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
    for (int i = first + kBlock + warp; i < kTile; i += kTileWarps) {
      float sum = s.written[i][lane];
#pragma unroll
      for (int j = 0; j < kBlock; ++j) sum = fmaf(s.overwrite[i][first + j], s.written[first + j][lane], sum);
      s.written[i][lane] = sum;
    }
    __syncthreads();
  }
}

// X by column, as it is and times e^{G_n - G_j}, each as two bf16.
__device__ __forceinline__ void transpose_written(DeltaTile& s) {
  const int column = threadIdx.x % 32;
  for (int j = threadIdx.x / 32; j < kTile; j += kTileWarps) {
    const float x = s.written[j][column];
    // The raw key that carries it is missing its norm.
    const float carried = x * s.key_scale[j] * __expf(static_cast<float>(s.decay_sum[kTile - 1] - s.decay_sum[j]));
    split(x, s.x_high[column][j], s.x_low[column][j]);
    split(carried, s.carried_high[column][j], s.carried_low[column][j]);
  }
}

// out = what the old state gives + weights of reads times X.
template <class T>
__device__ __forceinline__ void write_out(const DeltaArgs& args, int head, int column, int64_t begin, int count,
                                          const DeltaTile& s, TileSums& sums) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
#pragma unroll
  for (int kk = 0; kk < 4; ++kk) {
    if (kk > warp) break;
    uint32_t high[4], low[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float* pair = &sums.queries[2 * kk + i / 2][i % 2 * 2];
      split_pair(pair[0], pair[1], high[i], low[i]);
    }
#pragma unroll
    for (int n = 0; n < 4; ++n) {
      const uint32_t* x_high = reinterpret_cast<const uint32_t*>(&s.x_high[8 * n + g][16 * kk + 2 * t]);
      const uint32_t* x_low = reinterpret_cast<const uint32_t*>(&s.x_low[8 * n + g][16 * kk + 2 * t]);
      mma_bf16(sums.out[n], high[0], high[1], high[2], high[3], x_high[0], x_high[4]);
      mma_bf16(sums.out[n], high[0], high[1], high[2], high[3], x_low[0], x_low[4]);
      mma_bf16(sums.out[n], low[0], low[1], low[2], low[3], x_high[0], x_high[4]);
    }
  }
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int i = 16 * warp + g + 8 * r;
    if (i >= count) continue;
    T* out = static_cast<T*>(args.out.data) + (begin + i) * args.out.stride + head * args.value_dim + column;
#pragma unroll
    for (int n = 0; n < 4; ++n) {
      *reinterpret_cast<__nv_bfloat162*>(out + 8 * n + 2 * t) =
          __floats2bfloat162_rn(sums.out[n][2 * r], sums.out[n][2 * r + 1]);
    }
  }
}

// S^T of 16 columns and 64 keys per warp: element [e][2 r + i] is column 16 (warp % 2) + g + 8 r, key
// 64 (warp / 2) + 8 (2 t + i) + e.
using State = float[8][4];

template <class S>
__device__ __forceinline__ void update_state(const DeltaTile& s, State& state) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
  const int row = 16 * (warp % 2) + g, half = warp / 2;
  const float keep = s.from_start[kTile - 1];
#pragma unroll
  for (int e = 0; e < 8; ++e) {
#pragma unroll
    for (int i = 0; i < 4; ++i) state[e][i] *= keep;
  }
#pragma unroll
  for (int kk = 0; kk < 4; ++kk) {
    uint32_t high[4], low[4], key[4][4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int at = 16 * kk + 2 * t + i / 2 * 8, column = row + i % 2 * 8;
      high[i] = *reinterpret_cast<const uint32_t*>(&s.carried_high[column][at]);
      low[i] = *reinterpret_cast<const uint32_t*>(&s.carried_low[column][at]);
      const int token = 16 * kk + 2 * t + (i & 1) + 8 * (i >> 1);
      const uint4 chunk = s.key[tile_place(token, 8 * half + g)];
      key[i][0] = chunk.x;
      key[i][1] = chunk.y;
      key[i][2] = chunk.z;
      key[i][3] = chunk.w;
    }
#pragma unroll
    for (int e = 0; e < 8; ++e) {
      const uint32_t halves = e % 2 ? 0x7632 : 0x5410;
      const uint32_t b0 = __byte_perm(key[0][e / 2], key[1][e / 2], halves);
      const uint32_t b1 = __byte_perm(key[2][e / 2], key[3][e / 2], halves);
      mma_bf16(state[e], high[0], high[1], high[2], high[3], b0, b1);
      mma_bf16(state[e], low[0], low[1], low[2], low[3], b0, b1);
    }
  }
#pragma unroll
  for (int e = 0; e < 8; ++e) {
#pragma unroll
    for (int i = 0; i < 4; ++i) state[e][i] = to_f32(from_f32<S>(state[e][i]));  // a 16-bit state is rounded here
  }
}

// The state as the products of a tile read it.
__device__ __forceinline__ void publish_state(const State& state, DeltaTile& s) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    uint32_t high[4], low[4];
#pragma unroll
    for (int e = 0; e < 8; e += 2) split_pair(state[e][i], state[e + 1][i], high[e / 2], low[e / 2]);
    const int place = tile_place(16 * (warp % 2) + g + i / 2 * 8, 8 * (warp / 2) + 2 * t + i % 2);
    s.state_high[place] = {high[0], high[1], high[2], high[3]};
    s.state_low[place] = {low[0], low[1], low[2], low[3]};
  }
}

// body(value, element offset in a head's [128, value_dim] state) of everything this lane holds.
template <class Body>
__device__ __forceinline__ void for_state(State& state, int column, int value_dim, Body body) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
#pragma unroll
  for (int e = 0; e < 8; ++e) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int key = 64 * (warp / 2) + 8 * (2 * t + i % 2) + e;
      body(state[e][i], key * value_dim + column + 16 * (warp % 2) + g + i / 2 * 8);
    }
  }
}

template <class S>
__global__ void __launch_bounds__(kTileThreads, 2) delta_prefill_bf16_kernel(DeltaArgs args) {
  extern __shared__ __align__(16) unsigned char memory[];
  DeltaTile& s = *reinterpret_cast<DeltaTile*>(memory);
  const BatchView& batch = args.batch;
  const int head = blockIdx.x, column = blockIdx.y * kTileColumns, row = batch.decode_rows + blockIdx.z;
  const int read = batch.state_read[row], write = batch.state_write[row];
  if (write < 0) return;
  const int64_t head_offset = static_cast<int64_t>(head) * kTileKeys * args.value_dim;
  const S* from = static_cast<const S*>(args.pool) + read * args.slot_stride + head_offset;
  S* to = static_cast<S*>(args.pool) + write * args.slot_stride + head_offset;
  State state;
  for_state(state, column, args.value_dim, [&](float& value, int at) { value = read >= 0 ? to_f32(from[at]) : 0.f; });
  const int row_begin = batch.row_begin[row], row_end = batch.row_begin[row + 1];
  int position = batch.kv_len[row] - (row_end - row_begin);
  for (int begin = row_begin; begin < row_end;) {
    const int count = min(kTile - position % kTile, row_end - begin);
    load_tile(args, head, begin, count, s);
    publish_state(state, s);
    finish_loading(s);
    TileSums sums;
    tile_products(s, sums);
    __syncthreads();
    weigh_tile<Bf16>(args, head, column, begin, count, s, sums);
    __syncthreads();
    solve_tile(s);
    transpose_written(s);
    __syncthreads();
    write_out<Bf16>(args, head, column, begin, count, s, sums);
    update_state<S>(s, state);
    __syncthreads();
    begin += count;
    position += count;
  }
  for_state(state, column, args.value_dim, [&](float& value, int at) { to[at] = from_f32<S>(value); });
}

}  // namespace

bool delta_prefill_bf16_takes(const DeltaArgs& args) {
  return args.qkv.dtype == DType::kBF16 && args.key_dim == kTileKeys && args.value_dim % kTileColumns == 0 &&
         args.qkv.stride % 8 == 0 && args.out.stride % 2 == 0 && reinterpret_cast<uintptr_t>(args.qkv.data) % 16 == 0 &&
         reinterpret_cast<uintptr_t>(args.out.data) % 4 == 0;
}

void delta_prefill_bf16(const DeltaArgs& args, Stream stream) {
  const int rows = args.batch.rows - args.batch.decode_rows;
  if (rows == 0) return;
  const dim3 grid(static_cast<unsigned>(args.value_heads), static_cast<unsigned>(args.value_dim / kTileColumns),
                  static_cast<unsigned>(rows));
  with_state_type(args.pool_dtype, [&]<class S>(S) {
    check(cudaFuncSetAttribute(delta_prefill_bf16_kernel<S>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               sizeof(DeltaTile)),
          "delta_rule (shared memory)");
    delta_prefill_bf16_kernel<S><<<grid, kTileThreads, sizeof(DeltaTile), stream>>>(args);
  });
  check_launch("delta_rule (prefill, bf16)");
}

}  // namespace hylas::cuda
