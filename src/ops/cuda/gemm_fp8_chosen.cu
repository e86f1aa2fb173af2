// The products of gemm_fp8_few.h for so few choices that hardly an expert has a second row. A block has some outputs of
// one expert and lives as long as its weights take to come: it holds them in registers, fetched before the rows are
// there, and many blocks share a multiprocessor. Nothing is sorted: a block belongs to a choice and works if that is
// the first of its expert's. Eight warps share K in blocks of 128 inputs, those of the scales, or where K is short,
// half of them each half of the outputs.
#include "ops/cuda/e4m3.cuh"
#include "ops/cuda/gemm_fp8_few.h"
#include "ops/cuda/quantize.cuh"
#include "tensor/cuda/launch.cuh"

namespace hylas::cuda {
namespace {

constexpr int kWarps = 8, kThreads = 32 * kWarps;
constexpr int kBlocks = 5;  // of a multiprocessor
constexpr int kDepth = 128;
constexpr int kRows = 8;      // of a block: the instruction's columns
constexpr int kColumns = 16;  // of a warp: the instruction's rows, of one matrix or half of them of each of two
constexpr int kPadding = 64;  // behind a row in shared memory, so that reads of neighbouring rows do not meet

// One of the two products. The names are those of FewFp8Args.
struct Args {
  View x;                // rows of tokens, or with by_pair of pairs
  bool by_pair = false;  // then out is f32, else bf16 of two matrices
  View ids;
  int64_t tokens = 0;
  int k = 0;
  int32_t expert_begin = 0;
  int32_t experts = 0;
  bool with_shared = false;
  FewWeights weights, shared;
  int64_t inputs = 0;
  int64_t outputs = 0;
  View out;
  Args(const FewFp8Args& of, const FewProduct& product, const View& x, bool by_pair, const View& out)
      : x(x),
        by_pair(by_pair),
        ids(of.ids),
        tokens(of.tokens),
        k(of.k),
        expert_begin(of.expert_begin),
        experts(of.experts),
        with_shared(of.with_shared),
        weights(product.weights),
        shared(product.shared),
        inputs(product.inputs),
        outputs(product.outputs),
        out(out) {}
};

template <bool paired_, int kSharing_>
struct Shape {
  static constexpr bool kPaired = paired_;
  static constexpr int kSharing = kSharing_;  // warps that share K
  static constexpr int kWarpOutputs = kColumns / (kPaired ? 2 : 1);
  static constexpr int kOutputs = kWarps / kSharing * kWarpOutputs;  // of a block
  static_assert(kDepth % kOutputs == 0);                             // so they have one scale
};

// Past the first-level cache: no other block reads it. Not ld.nc, which the assembler moves behind follow().
__device__ __forceinline__ uint4 fetch(const std::byte* from) {
  uint4 value;
  asm volatile("ld.global.L1::no_allocate.L2::128B.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
               : "l"(from));
  return value;
}

// Which rows a block has: `rows` of them, whose pairs stand in shared memory; 0: none.
struct Run {
  int expert = 0;  // p.experts: the shared one
  int rows = 0;
};

// The run that begins with pair `first`. All lanes of a warp; every warp finds it for itself, and has a `pair` of its
// own.
__device__ __forceinline__ Run run_of(const Args& p, int first, int* pair) {
  static_assert(kChosenPairs <= 32);
  const int lane = threadIdx.x % 32, pairs = static_cast<int>(p.tokens) * p.k;
  const auto* ids = static_cast<const int32_t*>(p.ids.data);
  const int id = lane < pairs ? ids[lane / p.k * p.ids.stride + lane % p.k] : -1;
  const int wanted = __shfl_sync(~0u, id, first), expert = wanted - p.expert_begin;
  if (expert < 0 || expert >= p.experts) return {};
  const unsigned same = __ballot_sync(~0u, id == wanted);
  const int before = __popc(same & ((1u << first) - 1)), mine = __popc(same & ((1u << lane) - 1)) - before;
  if (before % kRows != 0) return {};
  if (id == wanted && mine >= 0 && mine < kRows) pair[mine] = lane;
  __syncwarp();
  return {expert, min(__popc(same) - before, kRows)};
}

// The shared expert's run `index`, of all tokens.
__device__ __forceinline__ Run shared_run(const Args& p, int index, int* pair) {
  const int lane = threadIdx.x % 32, tokens = static_cast<int>(p.tokens);
  if (lane < kRows) pair[lane] = tokens * p.k + index * kRows + lane;
  __syncwarp();
  return {p.experts, min(tokens - index * kRows, kRows)};
}

// A lane's weights of a block of K: for lane 4 g + t rows g and g + 8 of the instruction, chunks t and t + 4 of 16
// inputs each. The sum over K does not ask for an order, so 4 neighbouring inputs serve as the instruction's 2t, 2t +
// 1, 2t + 8, 2t + 9, on both sides alike.
template <class S>
struct Weights {
  uint4 chunk[2][2];  // [row g or g + 8][chunk]
  float scale[2];     // of both matrices, if there are two
};

template <class S>
struct Columns {
  const std::byte* at[2];  // rows g and g + 8
  const float* scale[2];

  // `block`: of K.
  __device__ Columns(const FewWeights& w, int expert, int output, int block) {
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    const int64_t offset = expert * w.expert_bytes + (output + g) * w.stride + block * kDepth + t * 16;
    at[0] = w.data + offset;
    at[1] = S::kPaired ? w.other + offset : at[0] + 8 * w.stride;
    const int64_t scales = expert * w.expert_stride + output / kDepth * w.scale_stride + block;
    scale[0] = w.scale + scales;
    scale[1] = w.other_scale + scales;
  }
  // The warp's block so many further on.
  __device__ __forceinline__ void take(int step, Weights<S>& to) const {
#pragma unroll
    for (int high = 0; high < 2; ++high) {
#pragma unroll
      for (int c = 0; c < 2; ++c) to.chunk[high][c] = fetch(at[high] + step * (S::kSharing * kDepth) + c * 64);
    }
#pragma unroll
    for (int i = 0; i < (S::kPaired ? 2 : 1); ++i) to.scale[i] = scale[i][step * S::kSharing];
  }
};

// The run's rows in shared memory.
struct QuantizedRows {
  unsigned char* values;  // [rows, stride] e4m3
  int stride;
  float* scales;  // [rows, groups]
  int groups;
  __host__ __device__ QuantizedRows(const Args& p, unsigned char* memory)
      : values(memory),
        stride(static_cast<int>(p.inputs) + kPadding),
        scales(reinterpret_cast<float*>(memory + rows_max(p) * stride)),
        groups(static_cast<int>(p.inputs) / kDepth) {}
  static __host__ __device__ int rows_max(const Args& p) {
    const int64_t most = p.tokens * (p.k > 1 ? p.k : 1);
    return most < kRows ? static_cast<int>(most) : kRows;
  }
  int bytes(const Args& p) const { return rows_max(p) * (stride + groups * static_cast<int>(sizeof(float))); }
};

// All threads; as quantize.cu does it. Some accesses of a thread are under way at once.
__device__ __forceinline__ void take_rows(const Args& p, int rows, const int* pair, const QuantizedRows& to) {
  constexpr int kEach = 8, kLanes = kDepth / kEach, kAtOnce = 2;
  const int chunks = static_cast<int>(p.inputs) / kEach, items = rows * chunks, lane = threadIdx.x % kLanes;
  const int pairs = static_cast<int>(p.tokens) * p.k;
  const unsigned mask = ((1u << kLanes) - 1) << (threadIdx.x % 32 / kLanes * kLanes);
  for (int first = threadIdx.x; first < items; first += kAtOnce * kThreads) {
    uint4 x[kAtOnce];
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j) {
      const int i = first + j * kThreads;
      if (i >= items) continue;
      const int of = pair[i / chunks], row = p.by_pair ? of : of < pairs ? of / p.k : of - pairs;
      x[j] =
          *reinterpret_cast<const uint4*>(static_cast<const Bf16*>(p.x.data) + row * p.x.stride + i % chunks * kEach);
    }
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j) {
      const int i = first + j * kThreads;
      if (i >= items) continue;
      const int r = i / chunks, chunk = i % chunks;
      const float scale = scale_of<kLanes>(most_of(__floats2bfloat162_rn(0.f, 0.f), x[j]), mask);
      const float reciprocal = __frcp_rn(scale);
      *reinterpret_cast<uint2*>(to.values + r * to.stride + chunk * kEach) = {
          e4m3_of_4({x[j].x, x[j].y}, scale, reciprocal), e4m3_of_4({x[j].z, x[j].w}, scale, reciprocal)};
      if (lane == 0) to.scales[r * to.groups + chunk / kLanes] = scale;
    }
  }
}

__device__ __forceinline__ uint32_t word(const uint4& chunk, int i) {
  return i == 0 ? chunk.x : i == 1 ? chunk.y : i == 2 ? chunk.z : chunk.w;
}

// sum += a block of K. What is behind the last row is computed over that, and not stored.
template <class S>
__device__ __forceinline__ void multiply(const Weights<S>& w, const QuantizedRows& x, int rows, int block,
                                         float (&sum)[4]) {
  const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
  const unsigned char* from = x.values + min(g, rows - 1) * x.stride + block * kDepth + t * 16;
  const uint4 chunk[2] = {*reinterpret_cast<const uint4*>(from), *reinterpret_cast<const uint4*>(from + 64)};
  float part[2][4] = {};  // of each chunk, so that one does not wait for the other
#pragma unroll
  for (int j = 0; j < 4; ++j) {
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      const uint32_t four = word(chunk[c], j), low = word(w.chunk[0][c], j), high = word(w.chunk[1][c], j);
      mma_f16(part[c], e4m3_pair_to_f16(low), e4m3_pair_to_f16(high), e4m3_high_pair_to_f16(low),
              e4m3_high_pair_to_f16(high), e4m3_pair_to_f16(four), e4m3_high_pair_to_f16(four));
    }
  }
#pragma unroll
  for (int j = 0; j < 4; ++j) {  // outputs g, g, g + 8, g + 8 of rows 2t, 2t + 1, 2t, 2t + 1
    const float of_row = x.scales[min(2 * t + j % 2, rows - 1) * x.groups + block];
    sum[j] = fmaf(w.scale[S::kPaired ? j / 2 : 0] * of_row, part[0][j] + part[1][j], sum[j]);
  }
}

using Sums = float[kWarps][kRows][kColumns + 1];

// The warps' sums, added in their order.
template <class S>
__device__ void put(const Args& p, const Run& run, const int* pair, int output, const float (&sum)[4], Sums& sums) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
#pragma unroll
  for (int j = 0; j < 4; ++j) sums[warp][2 * t + j % 2][j / 2 * 8 + g] = sum[j];
  __syncthreads();
  const bool in_order = (run.expert == p.experts ? p.shared : p.weights).other_is_gated;
  for (int i = threadIdx.x; i < run.rows * S::kOutputs; i += kThreads) {
    const int row = i / S::kOutputs, at = i % S::kOutputs, within = at % S::kWarpOutputs;
    const int first = at / S::kWarpOutputs * S::kSharing;  // warp
    const auto total = [&](int column) {
      float all = sums[first][row][column];
#pragma unroll
      for (int w = 1; w < S::kSharing; ++w) all += sums[first + w][row][column];
      return all;
    };
    const int64_t to = pair[row] * p.out.stride + output + at;
    if constexpr (S::kPaired) {
      const float low = to_f32(from_f32<Bf16>(total(within))), high = to_f32(from_f32<Bf16>(total(within + 8)));
      static_cast<Bf16*>(p.out.data)[to] = from_f32<Bf16>(in_order ? silu(low) * high : silu(high) * low);
    } else {
      static_cast<float*>(p.out.data)[to] = total(within);
    }
  }
}

// Blocks (tile, run): the shared expert's runs first, then one for each pair.
template <class S>
__global__ void __launch_bounds__(kThreads, kBlocks)
    chosen_fp8_kernel(const __grid_constant__ Args p, int shared_runs) {
  extern __shared__ __align__(16) unsigned char memory[];
  __shared__ int pairs_of_warps[kWarps][kRows];
  __shared__ Sums sums;
  int* const pair = pairs_of_warps[threadIdx.x / 32];
  const int index = static_cast<int>(blockIdx.y) - shared_runs;
  const bool known = index < 0 || !S::kPaired;  // the kernel before this one does not decide which weights it takes
  if (!known) follow();
  const Run run = index < 0 ? shared_run(p, static_cast<int>(blockIdx.y), pair) : run_of(p, index, pair);
  if (run.rows == 0) {
    if (known) follow();
    return;
  }
  // The warp's number as a value that the compiler knows to be one for all lanes; its blocks of K: every so many.
  const int warp = __shfl_sync(~0u, static_cast<int>(threadIdx.x) / 32, 0), begin = warp % S::kSharing;
  const int output = static_cast<int>(blockIdx.x) * S::kOutputs;
  const int steps = (static_cast<int>(p.inputs / kDepth) - begin + S::kSharing - 1) / S::kSharing;
  const bool shared = run.expert == p.experts;
  const Columns<S> columns(shared ? p.shared : p.weights, shared ? 0 : run.expert,
                           output + warp / S::kSharing * S::kWarpOutputs, begin);
  Weights<S> weights;
  if (steps > 0) columns.take(0, weights);
  if (known) follow();
  const QuantizedRows rows(p, memory);
  take_rows(p, run.rows, pair, rows);
  __syncthreads();
  float sum[4] = {};
  for (int step = 0; step < steps; ++step) {
    multiply<S>(weights, rows, run.rows, begin + step * S::kSharing, sum);
    if (step + 1 < steps) columns.take(step + 1, weights);
  }
  put<S>(p, run, pair, output, sum, sums);
}

template <class S>
void launch(const Args& p, Stream stream) {
  const int shared_runs = p.with_shared ? static_cast<int>((p.tokens + kRows - 1) / kRows) : 0;
  const dim3 grid(static_cast<unsigned>(p.outputs / S::kOutputs), static_cast<unsigned>(shared_runs + p.tokens * p.k));
  const int bytes = QuantizedRows(p, nullptr).bytes(p);
  launch_following(chosen_fp8_kernel<S>, grid, kThreads, static_cast<size_t>(bytes), stream, "moe (fp8, few choices)",
                   p, shared_runs);
}

}  // namespace

void chosen_fp8(const FewFp8Args& args, const View& x, Stream stream) {
  constexpr int64_t kShort = 4 * kDepth;  // fewer inputs than eight warps have blocks of
  if (args.tokens == 0) return;
  launch<Shape<true, 8>>(Args(args, args.up, x, false, args.halves), stream);
  const Args down(args, args.down, args.halves, true, args.out);
  down.inputs <= kShort ? launch<Shape<false, 4>>(down, stream) : launch<Shape<false, 8>>(down, stream);
}

}  // namespace hylas::cuda
