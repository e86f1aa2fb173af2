#include "comm/cuda/peer_add.h"

#include <algorithm>

#include "comm/cuda/values.cuh"
#include "tensor/cuda/cuda_error.h"
#include "tensor/cuda/peer_meet.cuh"

namespace hylas::cuda {
namespace {

constexpr int kThreads = 512;

// Bytes of each other rank's partial sums that a thread asks for before it waits for any. Of one pack the link would be
// idle while a round is written.
constexpr int kBytesAhead = 64;
template <int kRanks, class P, int N>
constexpr int kPacksAhead = kRanks > 2 || N == 1 ? 1 : kBytesAhead / static_cast<int>(sizeof(P) * N);

// N neighbouring values of the sum.
template <int kRanks, class P, int N>
__device__ __forceinline__ void tree(const Values<P, N> (&in)[kRanks], float (&sum)[N]) {
  float part[kRanks][N];
#pragma unroll
  for (int r = 0; r < kRanks; ++r) {
#pragma unroll
    for (int i = 0; i < N; ++i) part[r][i] = to_f32(in[r].value[i]);
  }
#pragma unroll
  for (int step = 1; step < kRanks; step *= 2) {
#pragma unroll
    for (int r = 0; r < kRanks; r += 2 * step) {
#pragma unroll
      for (int i = 0; i < N; ++i) part[r][i] += part[r + step][i];
    }
  }
#pragma unroll
  for (int i = 0; i < N; ++i) sum[i] = part[0][i];
}

// Of partial sums a rank's part is read by that rank alone, of rows too, which then writes it at all ranks: between the
// two meetings nobody reads what another writes.
template <int kRanks, class P, class T, int N>
__global__ void __launch_bounds__(kThreads, 1) peer_add_kernel(const __grid_constant__ PeerAddArgs args) {
  __shared__ SumClock clock;
  clock.begin();
  constexpr int kAhead = kPacksAhead<kRanks, P, N>;
  const int64_t packs = args.count / N, step = gridDim.x * int64_t{kThreads};
  const int64_t end = packs * (args.peers.rank + 1) / kRanks;
  const auto* rows = static_cast<const Values<T, N>*>(args.onto[args.peers.rank]);
  meet(args.peers);
  clock.read(args.peers);
  for (int64_t first = packs * args.peers.rank / kRanks + blockIdx.x * int64_t{kThreads} + threadIdx.x; first < end;
       first += kAhead * step) {
    Values<P, N> in[kAhead][kRanks];
    Values<T, N> x[kAhead];
#pragma unroll
    for (int a = 0; a < kAhead; ++a) {
      const int64_t pack = first + a * step;
      if (pack >= end) continue;
#pragma unroll
      for (int r = 0; r < kRanks; ++r) in[a][r] = static_cast<const Values<P, N>*>(args.in[r])[pack];
      x[a] = rows[pack];
    }
#pragma unroll
    for (int a = 0; a < kAhead; ++a) {
      const int64_t pack = first + a * step;
      if (pack >= end) continue;
      float sum[N];
      tree(in[a], sum);
#pragma unroll
      for (int i = 0; i < N; ++i) x[a].value[i] = from_f32<T>(to_f32(x[a].value[i]) + sum[i]);
#pragma unroll
      for (int r = 0; r < kRanks; ++r) static_cast<Values<T, N>*>(args.onto[r])[pack] = x[a];
    }
  }
  meet(args.peers);
  clock.end(args.peers);
}

template <int kRanks, class P, class T, int N>
void launch(const PeerAddArgs& args, CUstream_st* stream) {
  const int64_t threads_wanted = args.count / N / kRanks + 1;
  const int64_t blocks = std::min<int64_t>((threads_wanted + kThreads - 1) / kThreads, kSignalBlocks);
  peer_add_kernel<kRanks, P, T, N><<<static_cast<unsigned>(blocks), kThreads, 0, stream>>>(args);
}

template <int N>
bool takes_vectors(const PeerAddArgs& args) {
  bool aligned = args.count % N == 0;
  for (int32_t r = 0; r < args.peers.size; ++r) {
    aligned &= reinterpret_cast<uintptr_t>(args.in[r]) % 16 == 0 && reinterpret_cast<uintptr_t>(args.onto[r]) % 16 == 0;
  }
  return aligned;
}

template <int kRanks>
void launch_types(const PeerAddArgs& args, CUstream_st* stream) {
  constexpr int kVector = kRanks == 16 ? 4 : 8;  // more would not stay in registers
  const auto start = [&]<class P, class T>(P, T) {
    return takes_vectors<kVector>(args) ? launch<kRanks, P, T, kVector>(args, stream)
                                        : launch<kRanks, P, T, 1>(args, stream);
  };
  if (args.type == DType::kBF16) return args.onto_type == DType::kBF16 ? start(Bf16{}, Bf16{}) : start(Bf16{}, 0.f);
  return args.onto_type == DType::kBF16 ? start(0.f, Bf16{}) : start(0.f, 0.f);
}

}  // namespace

void peer_add(const PeerAddArgs& args, CUstream_st* stream) {
  if (args.count == 0) return;
  switch (args.peers.size) {
    case 2:
      launch_types<2>(args, stream);
      break;
    case 4:
      launch_types<4>(args, stream);
      break;
    case 8:
      launch_types<8>(args, stream);
      break;
    default:
      launch_types<16>(args, stream);
  }
  check_launch("the sum of ranks onto rows");
}

}  // namespace hylas::cuda
