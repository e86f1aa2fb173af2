#include "tensor/cuda/hashed_fill.h"

#include <cstring>

#include "tensor/cuda/cuda_error.h"

namespace hylas::cuda {
namespace {

struct Table {
  uint16_t values[HashedFill::kTable];
};

__device__ __forceinline__ uint32_t hash32(uint32_t x) {
  x ^= x >> 16;
  x *= 0x21f0aaadu;
  x ^= x >> 15;
  x *= 0x735a2d97u;
  x ^= x >> 15;
  return x;
}

template <class T>
__global__ void hashed_fill_kernel(const HashedFill fill, const __grid_constant__ Table table) {
  __shared__ uint16_t values[HashedFill::kTable];
  for (int i = threadIdx.x; i < HashedFill::kTable; i += blockDim.x) values[i] = table.values[i];
  __syncthreads();
  T* out = static_cast<T*>(fill.out);
  const int64_t count = fill.rows * fill.columns;
  const bool whole = fill.pitch == fill.columns;
  const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += stride) {
    const int64_t index = whole ? i : i / fill.columns * fill.pitch + i % fill.columns;
    const uint32_t hash = hash32(fill.seed + (fill.first + static_cast<uint32_t>(index)) * 0x9e3779b1u);
    const uint32_t pairs = (hash & 0x00ff00ffu) + ((hash >> 8) & 0x00ff00ffu);
    out[i] = static_cast<T>(values[(pairs & 0xffffu) + (pairs >> 16)]);
  }
}

}  // namespace

void hashed_fill(const HashedFill& fill, CUstream_st* stream) {
  const int64_t count = fill.rows * fill.columns;
  if (count == 0) return;
  constexpr int kThreads = 256;
  const int64_t wanted = (count + 8 * kThreads - 1) / (8 * kThreads);
  const auto blocks = static_cast<unsigned>(wanted < 4096 ? wanted : 4096);
  Table table;
  std::memcpy(table.values, fill.table, sizeof(table.values));
  if (fill.element_bytes == 1) {
    hashed_fill_kernel<uint8_t><<<blocks, kThreads, 0, stream>>>(fill, table);
  } else {
    hashed_fill_kernel<uint16_t><<<blocks, kThreads, 0, stream>>>(fill, table);
  }
  check_launch("made-up weights");
}

}  // namespace hylas::cuda
