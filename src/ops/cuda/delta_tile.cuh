#pragma once
// A tile of 64 tokens of one head in shared memory, for delta_prefill_bf16.cu.
#include "ops/cuda/delta_gates.cuh"
#include "ops/cuda/mma.cuh"

namespace hylas::cuda {

constexpr int kTile = 64;
constexpr int kTileKeys = 128;
constexpr int kTileColumns = 32;
constexpr int kTileThreads = 128;
constexpr int kTileWarps = kTileThreads / 32;
constexpr int kTransposed = kTile + 8;  // no two columns on the same banks

struct DeltaTile {
  uint4 query[kTile * 16];  // raw bf16, 16-byte chunks at tile_place
  uint4 key[kTile * 16];
  uint4 state_high[kTileColumns * 16];  // S^T, the two halves of a value
  uint4 state_low[kTileColumns * 16];
  float overwrite[kTile][kTile + 4];  // -beta_i e^{G_i - G_j} (k_i . k_j), 0 unless j < i
  float written[kTile][kTileColumns + 4];
  Bf16 x_high[kTileColumns][kTransposed], x_low[kTileColumns][kTransposed];
  Bf16 carried_high[kTileColumns][kTransposed], carried_low[kTileColumns][kTransposed];
  double decay_sum[kTile];
  float log_decay[kTile], beta[kTile], from_start[kTile], key_scale[kTile], query_scale[kTile];
};

// Place of chunk `chunk` (of 16) of a row: neighbouring rows and every second row on banks of their own.
__device__ __forceinline__ int tile_place(int row, int chunk) {
  return row * 16 + (chunk ^ (((row & 1) << 2) ^ (((row >> 1) & 3) << 1)));
}

__device__ __forceinline__ void split(float x, Bf16& high, Bf16& low) {
  high = __float2bfloat16_rn(x);
  low = __float2bfloat16_rn(x - __bfloat162float(high));
}
__device__ __forceinline__ void split_pair(float first, float second, uint32_t& high, uint32_t& low) {
  const __nv_bfloat162 top = __floats2bfloat162_rn(first, second);
  const float2 there = __bfloat1622float2(top);
  const __nv_bfloat162 rest = __floats2bfloat162_rn(first - there.x, second - there.y);
  high = *reinterpret_cast<const uint32_t*>(&top);
  low = *reinterpret_cast<const uint32_t*>(&rest);
}

__device__ __forceinline__ float square_sum(const uint4& chunk) {
  float sum = 0.f;
  for (uint32_t pair : {chunk.x, chunk.y, chunk.z, chunk.w}) {
    const float2 values = __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(&pair));
    sum = fmaf(values.x, values.x, fmaf(values.y, values.y, sum));
  }
  return sum;
}

// Starts to copy the tile's queries and keys and takes its gates; tokens from `count` on are zero.
__device__ __forceinline__ void load_tile(const DeltaArgs& args, int head, int64_t begin, int count, DeltaTile& s) {
  const int key_head = head / (args.value_heads / args.key_heads), chunk = threadIdx.x % 16;
  for (int token = threadIdx.x / 16; token < kTile; token += kTileThreads / 16) {
    const Bf16* row = static_cast<const Bf16*>(args.qkv.data) + (begin + min(token, count - 1)) * args.qkv.stride +
                      key_head * kTileKeys + 8 * chunk;
    copy_async(&s.query[tile_place(token, chunk)], row, token < count);
    copy_async(&s.key[tile_place(token, chunk)], row + args.key_heads * kTileKeys, token < count);
  }
  commit_copies();
  if (threadIdx.x < kTile) {
    const bool there = static_cast<int>(threadIdx.x) < count;
    s.log_decay[threadIdx.x] = there ? log_decay(args, begin + threadIdx.x, head) : 0.f;
    s.beta[threadIdx.x] = there ? write_strength(args, begin + threadIdx.x, head) : 0.f;
  }
}

// Waits for the copies; sums of log decays in double, for they may be large and their differences matter.
__device__ __forceinline__ void finish_loading(DeltaTile& s) {
  wait_copies<0>();
  __syncthreads();
  if (threadIdx.x < 32) {
    const int lane = threadIdx.x;
    const double first = s.log_decay[2 * lane];
    double sum = first + s.log_decay[2 * lane + 1];
    for (int offset = 1; offset < 32; offset *= 2) {
      const double other = __shfl_up_sync(~0u, sum, offset);
      if (lane >= offset) sum += other;
    }
    const double before = sum - s.log_decay[2 * lane + 1];
    s.decay_sum[2 * lane] = before;
    s.decay_sum[2 * lane + 1] = sum;
    s.from_start[2 * lane] = expf(static_cast<float>(before));
    s.from_start[2 * lane + 1] = expf(static_cast<float>(sum));
  }
}

}  // namespace hylas::cuda
