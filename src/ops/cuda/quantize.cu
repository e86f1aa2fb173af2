#include "ops/cuda/quantize.h"

#include <algorithm>

#include "ops/cuda/quantize.cuh"
#include "tensor/cuda/launch.cuh"

namespace hylas::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kGroup = 128;
constexpr int kEach = 16;  // values of a thread: what it stores at once
constexpr int kLanes = kGroup / kEach;

// A thread's values: the lanes of a group are all there or none is.
struct Item {
  int64_t row, group;
  int lane;
  __device__ Item(int64_t inputs, int64_t block) {
    const int64_t item = (block * kThreads + threadIdx.x) / kLanes, groups = inputs / kGroup;
    row = item / groups;
    group = item % groups;
    lane = threadIdx.x % kLanes;
  }
  __device__ int64_t column() const { return group * kGroup + lane * kEach; }
  // The group's lanes of the warp.
  __device__ unsigned mask() const { return ((1u << kLanes) - 1) << (threadIdx.x % 32 / kLanes * kLanes); }
};

// Of threads that have one item each.
__host__ __device__ int64_t blocks(int64_t rows, int64_t inputs) {
  return (rows * (inputs / kEach) + kThreads - 1) / kThreads;
}

__device__ __forceinline__ void put(const Fp8Rows& to, const Item& item, int64_t row, const uint4& values,
                                    float scale) {
  *reinterpret_cast<uint4*>(static_cast<F8*>(to.data) + row * to.inputs + item.column()) = values;
  if (item.lane == 0) to.scale[item.group * to.scale_stride + row] = scale;
}

__global__ void __launch_bounds__(kThreads)
    quantize_kernel(const Bf16* x, int64_t stride, RowPlaces places, const Fp8Rows to) {
  follow();
  const Item item(to.inputs, blockIdx.x);
  if (item.row >= places.rows) return;
  const auto* from = reinterpret_cast<const uint4*>(x + item.row * stride + item.column());
  const uint4 low = from[0], high = from[1];
  const __nv_bfloat162 most = most_of(most_of(__floats2bfloat162_rn(0.f, 0.f), low), high);
  const float scale = scale_of<kLanes>(most, item.mask());
  const uint4 values = e4m3_of_16(low, high, scale, __frcp_rn(scale));
  if (!places.place) return put(to, item, item.row, values, scale);
#pragma unroll 4
  for (int j = 0; j < places.k; ++j) {
    const int32_t row = places.place[item.row * places.k + j];
    if (row >= 0) put(to, item, row, values, scale);
  }
}

// So many rows of `to` a block: their scales lie side by side. The product behind this reads the first rows first, so
// they are written last and still lie in the second-level cache.
constexpr int kTakenRows = 32;

__global__ void __launch_bounds__(kThreads)
    take_kernel(const Fp8Rows x, const int32_t* row_expert, const int32_t* row_token, const Fp8Rows to) {
  __shared__ int32_t token[kTakenRows];
  follow();
  const int64_t first = (gridDim.x - 1 - blockIdx.x) * static_cast<int64_t>(kTakenRows);  // the last ones first
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, chunks = static_cast<int>(to.inputs / kEach);
  int32_t mine = -1;
  if (warp == 0) {
    if (first + lane < to.rows && row_expert[first + lane] >= 0) mine = row_token[first + lane];
    token[lane] = mine;
  }
  if (!__syncthreads_or(mine >= 0)) return;
  constexpr int kWarps = kThreads / 32, kRowsAtOnce = 2, kChunksAtOnce = 4;  // loads of a thread under way
  for (int r = warp; r < kTakenRows; r += kRowsAtOnce * kWarps) {
    for (int c = lane; c < chunks; c += 32 * kChunksAtOnce) {
      uint4 values[kRowsAtOnce][kChunksAtOnce];
#pragma unroll
      for (int i = 0; i < kRowsAtOnce; ++i) {
        const int32_t from_row = token[r + i * kWarps];
        const auto* from = reinterpret_cast<const uint4*>(static_cast<const F8*>(x.data) + from_row * x.inputs) + c;
#pragma unroll
        for (int j = 0; j < kChunksAtOnce; ++j) {
          if (from_row >= 0 && c + 32 * j < chunks) values[i][j] = from[32 * j];
        }
      }
#pragma unroll
      for (int i = 0; i < kRowsAtOnce; ++i) {
        const int row = r + i * kWarps;
        auto* put = reinterpret_cast<uint4*>(static_cast<F8*>(to.data) + (first + row) * to.inputs) + c;
#pragma unroll
        for (int j = 0; j < kChunksAtOnce; ++j) {
          if (token[row] >= 0 && c + 32 * j < chunks) put[32 * j] = values[i][j];
        }
      }
    }
  }
  if (token[lane] < 0) return;
#pragma unroll 2
  for (int g = warp; g < static_cast<int>(to.inputs / kGroup); g += kThreads / 32) {
    to.scale[g * to.scale_stride + first + lane] = x.scale[g * x.scale_stride + token[lane]];
  }
}

// A unit or two in the last place off: it is rounded to bf16 and then to e4m3.
__device__ __forceinline__ float fast_silu(float x) { return __fdividef(x, 1.f + __expf(-x)); }

__device__ __forceinline__ uint32_t silu_mul(uint32_t gate, uint32_t up) {
  const float low = fast_silu(__uint_as_float(gate << 16)) * __uint_as_float(up << 16);
  const float high = fast_silu(__uint_as_float(gate & 0xffff0000u)) * __uint_as_float(up & 0xffff0000u);
  const __nv_bfloat162 both = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&both);
}

__device__ __forceinline__ uint4 silu_mul(const uint4& gate, const uint4& up) {
  return {silu_mul(gate.x, up.x), silu_mul(gate.y, up.y), silu_mul(gate.z, up.z), silu_mul(gate.w, up.w)};
}

// Of many rows: as many blocks as are on the GPU at once.
constexpr unsigned kSiluBlocks = 132 * 8;

__global__ void __launch_bounds__(kThreads)
    silu_mul_quantize_kernel(const Bf16* gate_up, int64_t stride, const int32_t* index, const Fp8Rows to) {
  follow();
  const int64_t rows = index ? index[to.rows] : to.rows;
  // From the last rows on, which the product before this one has left in the second-level cache.
  for (int64_t block = blocks(rows, to.inputs) - 1 - blockIdx.x; block >= 0; block -= gridDim.x) {
    const Item item(to.inputs, block);
    if (item.row >= rows || (index && index[item.row] < 0)) continue;
    const auto* gate = reinterpret_cast<const uint4*>(gate_up + item.row * stride + item.column());
    const auto* up = reinterpret_cast<const uint4*>(gate_up + item.row * stride + item.column() + to.inputs);
    const uint4 low = silu_mul(gate[0], up[0]), high = silu_mul(gate[1], up[1]);
    const __nv_bfloat162 most = most_of(most_of(__floats2bfloat162_rn(0.f, 0.f), low), high);
    const float scale = scale_of<kLanes>(most, item.mask());
    put(to, item, item.row, e4m3_of_16(low, high, scale, __frcp_rn(scale)), scale);
  }
}

unsigned grid(int64_t rows, int64_t inputs) { return static_cast<unsigned>(blocks(rows, inputs)); }

}  // namespace

void quantize_rows(const View& x, const RowPlaces* places, const Fp8Rows& to, Stream stream) {
  const RowPlaces where = places ? *places : RowPlaces{nullptr, 1, to.rows};
  if (where.rows == 0) return;
  launch_following(quantize_kernel, grid(where.rows, to.inputs), kThreads, 0, stream, "quantize",
                   static_cast<const Bf16*>(x.data), x.stride, where, to);
}

void take_fp8(const Fp8Rows& x, const int32_t* row_expert, const int32_t* row_token, const Fp8Rows& to, Stream stream) {
  if (to.rows == 0) return;
  launch_following(take_kernel, static_cast<unsigned>((to.rows + kTakenRows - 1) / kTakenRows), kThreads, 0, stream,
                   "quantize", x, row_expert, row_token, to);
}

void silu_mul_quantize_rows(const View& gate_up, const int32_t* index, const Fp8Rows& to, Stream stream) {
  if (to.rows == 0) return;
  launch_following(silu_mul_quantize_kernel, std::min(grid(to.rows, to.inputs), kSiluBlocks), kThreads, 0, stream,
                   "quantize", static_cast<const Bf16*>(gate_up.data), gate_up.stride, index, to);
}

}  // namespace hylas::cuda
