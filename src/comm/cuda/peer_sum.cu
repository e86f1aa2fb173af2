#include "comm/cuda/peer_sum.h"

#include <algorithm>

#include "comm/sum_sizes.h"
#include "tensor/cuda/cuda_error.h"
#include "tensor/cuda/peer_meet.cuh"

namespace hylas::cuda {
namespace {

constexpr int kThreads = 512;
constexpr int kOwnVectors = 4;  // that a thread keeps until all ranks have read

__global__ void peer_barrier_kernel(const __grid_constant__ Peers peers) { meet(peers); }

__device__ __forceinline__ void add(float& to, float more) { to += more; }
__device__ __forceinline__ void add(float4& to, const float4& more) {
  to.x += more.x, to.y += more.y, to.z += more.z, to.w += more.w;
}

// V: float, or four at a time.
template <int kRanks, class V>
__device__ __forceinline__ V tree(const PeerSumArgs& args, int64_t i) {
  V part[kRanks];
#pragma unroll
  for (int r = 0; r < kRanks; ++r) part[r] = reinterpret_cast<const V*>(args.in[r])[i];
#pragma unroll
  for (int step = 1; step < kRanks; step *= 2) {
#pragma unroll
    for (int r = 0; r < kRanks; r += 2 * step) add(part[r], part[r + step]);
  }
  return part[0];
}

// Written when all have read: inputs may lie where outputs go.
template <int kRanks, class V>
__global__ void __launch_bounds__(kThreads, 1) read_all_kernel(const __grid_constant__ PeerSumArgs args) {
  __shared__ SumClock clock;
  clock.begin();
  const int64_t count = args.count / (sizeof(V) / sizeof(float));
  const int64_t first = blockIdx.x * static_cast<int64_t>(kThreads) + threadIdx.x, step = gridDim.x * int64_t{kThreads};
  V sums[kOwnVectors];
  meet(args.peers);
  clock.read(args.peers);
#pragma unroll
  for (int v = 0; v < kOwnVectors; ++v) {
    if (first + v * step < count) sums[v] = tree<kRanks, V>(args, first + v * step);
  }
  meet(args.peers);
  V* out = reinterpret_cast<V*>(args.out[args.peers.rank]);
#pragma unroll
  for (int v = 0; v < kOwnVectors; ++v) {
    if (first + v * step < count) out[first + v * step] = sums[v];
  }
  clock.end(args.peers);
}

// A rank's part is read by that rank alone, which then writes it: inputs may lie where outputs go.
template <int kRanks, class V>
__global__ void __launch_bounds__(kThreads, 1) read_part_kernel(const __grid_constant__ PeerSumArgs args) {
  __shared__ SumClock clock;
  clock.begin();
  const int64_t count = args.count / (sizeof(V) / sizeof(float));
  const int64_t end = count * (args.peers.rank + 1) / kRanks, step = gridDim.x * int64_t{kThreads};
  meet(args.peers);
  clock.read(args.peers);
  for (int64_t i = count * args.peers.rank / kRanks + blockIdx.x * static_cast<int64_t>(kThreads) + threadIdx.x;
       i < end; i += step) {
    const V sum = tree<kRanks, V>(args, i);
#pragma unroll
    for (int r = 0; r < kRanks; ++r) reinterpret_cast<V*>(args.out[r])[i] = sum;
  }
  meet(args.peers);
  clock.end(args.peers);
}

template <int kRanks, class V>
void launch(const PeerSumArgs& args, CUstream_st* stream) {
  const int64_t count = args.count / static_cast<int64_t>(sizeof(V) / sizeof(float));
  const bool read_all =
      count <= int64_t{kSignalBlocks} * kThreads * kOwnVectors && args.count * (kRanks - 1) <= kReadAllMax;
  const int64_t threads_wanted = read_all ? count : count / kRanks + 1;
  const int64_t blocks = std::min<int64_t>((threads_wanted + kThreads - 1) / kThreads, kSignalBlocks);
  const auto grid = static_cast<unsigned>(blocks);
  if (read_all) {
    read_all_kernel<kRanks, V><<<grid, kThreads, 0, stream>>>(args);
  } else {
    read_part_kernel<kRanks, V><<<grid, kThreads, 0, stream>>>(args);
  }
}

bool takes_vectors(const PeerSumArgs& args) {
  bool aligned = args.count % 4 == 0;
  for (int32_t r = 0; r < args.peers.size; ++r) {
    aligned &= reinterpret_cast<uintptr_t>(args.in[r]) % sizeof(float4) == 0 &&
               reinterpret_cast<uintptr_t>(args.out[r]) % sizeof(float4) == 0;
  }
  return aligned;
}

}  // namespace

void peer_barrier(const Peers& peers, CUstream_st* stream) {
  peer_barrier_kernel<<<1, 32, 0, stream>>>(peers);
  check_launch("a meeting of ranks");
}

void peer_sum(const PeerSumArgs& args, CUstream_st* stream) {
  if (args.count == 0) return;
  const auto with_ranks = [&]<int kRanks>() {
    return takes_vectors(args) ? launch<kRanks, float4>(args, stream) : launch<kRanks, float>(args, stream);
  };
  switch (args.peers.size) {
    case 2:
      with_ranks.operator()<2>();
      break;
    case 4:
      with_ranks.operator()<4>();
      break;
    case 8:
      with_ranks.operator()<8>();
      break;
    default:
      with_ranks.operator()<16>();
  }
  check_launch("the sum of ranks");
}

}  // namespace hylas::cuda
