#include "ops/cuda/delta_pack.h"

#include "ops/cuda/delta_gates.cuh"
#include "ops/cuda/l2_norm.cuh"
#include "ops/cuda/vector.cuh"
#include "tensor/cuda/launch.cuh"

namespace hylas::cuda {
namespace {

constexpr int kDim = 128;
constexpr int kThreads = 256;

// One token: its queries and keys in units of one head.
__global__ void __launch_bounds__(kThreads) pack_tokens_kernel(DeltaArgs args, DeltaHeads heads, DeltaTokens out) {
  follow();
  const int64_t token = blockIdx.x, from = token + args.batch.decode_rows;
  const int lane = threadIdx.x % 32;
  for (int unit = threadIdx.x / 32; unit < 2 * heads.keys; unit += kThreads / 32) {
    const bool is_key = unit >= heads.keys;
    const int head = is_key ? unit - heads.keys : unit;
    const int column = (heads.first_key + head + (is_key ? args.key_heads : 0)) * kDim + kL2Each * lane;
    float x[kL2Each];
    load<kL2Each>(static_cast<const Bf16*>(args.qkv.data) + from * args.qkv.stride + column, x);
    l2_normalise(x);
    store<kL2Each>(static_cast<Bf16*>(is_key ? out.k : out.q) + (token * heads.keys + head) * kDim + kL2Each * lane, x);
  }
}

__global__ void __launch_bounds__(kThreads) pack_gates_kernel(DeltaArgs args, DeltaHeads heads, DeltaTokens out) {
  follow();
  const int64_t item = blockIdx.x * static_cast<int64_t>(kThreads) + threadIdx.x, token = item / heads.values;
  const int64_t from = token + args.batch.decode_rows;
  if (out.bounds && item <= out.parts) {
    const int32_t* row = args.batch.row_begin + args.batch.decode_rows;
    out.bounds[item] = item == out.parts ? row[1] : row[0] + out.cut[item];
  }
  if (from >= args.batch.tokens) return;
  const int head = heads.first_value + static_cast<int>(item % heads.values);
  out.alpha[item] = expf(log_decay(args, from, head));
  out.beta[item] = write_strength(args, from, head);
}

constexpr int kSquare = 32;
constexpr int kSquareRows = 8;  // threads of a column of it

// A 32 x 32 piece of one state [keys, values] to or from [values, keys].
struct Piece {
  int32_t row, head, key, value;
};
__device__ __forceinline__ Piece piece_of_block(int first_row) {
  constexpr int kAcross = kDim / kSquare;
  return {static_cast<int32_t>(first_row + blockIdx.y), static_cast<int32_t>(blockIdx.x / (kAcross * kAcross)),
          static_cast<int32_t>(blockIdx.x / kAcross % kAcross * kSquare),
          static_cast<int32_t>(blockIdx.x % kAcross * kSquare)};
}
__device__ __forceinline__ int64_t pool_at(const DeltaArgs& args, int slot, int head, int key, int value) {
  return slot * args.slot_stride + (static_cast<int64_t>(head) * kDim + key) * kDim + value;
}
__device__ __forceinline__ int64_t state_at(const DeltaHeads& heads, const Piece& piece, int value, int key) {
  return ((static_cast<int64_t>(blockIdx.y) * heads.values + piece.head) * kDim + value) * kDim + key;
}

template <class S>
__global__ void take_states_kernel(DeltaArgs args, DeltaHeads heads, int first_row, float* states) {
  __shared__ float square[kSquare][kSquare + 1];
  follow();
  const Piece piece = piece_of_block(first_row);
  if (args.batch.state_write[piece.row] < 0) return;
  const int read = args.batch.state_read[piece.row];
  for (int i = threadIdx.y; i < kSquare; i += kSquareRows) {
    const int64_t at = pool_at(args, read, heads.first_value + piece.head, piece.key + i, piece.value + threadIdx.x);
    square[i][threadIdx.x] = read >= 0 ? to_f32(static_cast<const S*>(args.pool)[at]) : 0.f;
  }
  __syncthreads();
  for (int i = threadIdx.y; i < kSquare; i += kSquareRows) {
    states[state_at(heads, piece, piece.value + i, piece.key + threadIdx.x)] = square[threadIdx.x][i];
  }
}

template <class S>
__global__ void put_states_kernel(DeltaArgs args, DeltaHeads heads, int first_row, const float* states) {
  __shared__ float square[kSquare][kSquare + 1];
  follow();
  const Piece piece = piece_of_block(first_row);
  const int write = args.batch.state_write[piece.row];
  if (write < 0) return;
  for (int i = threadIdx.y; i < kSquare; i += kSquareRows) {
    square[i][threadIdx.x] = states[state_at(heads, piece, piece.value + i, piece.key + threadIdx.x)];
  }
  __syncthreads();
  for (int i = threadIdx.y; i < kSquare; i += kSquareRows) {
    const int64_t at = pool_at(args, write, heads.first_value + piece.head, piece.key + i, piece.value + threadIdx.x);
    static_cast<S*>(args.pool)[at] = from_f32<S>(square[threadIdx.x][i]);
  }
}

dim3 state_grid(const DeltaHeads& heads, int32_t rows) {
  constexpr int kPieces = (kDim / kSquare) * (kDim / kSquare);
  return dim3(static_cast<unsigned>(heads.values * kPieces), static_cast<unsigned>(rows));
}

}  // namespace

void delta_pack_tokens(const DeltaArgs& args, const DeltaHeads& heads, const DeltaTokens& out, Stream stream) {
  const int tokens = args.batch.tokens - args.batch.decode_rows;
  if (out.q) {
    launch_following(pack_tokens_kernel, static_cast<unsigned>(tokens), kThreads, 0, stream,
                     "delta_rule (tokens for flashinfer)", args, heads, out);
  }
  const int64_t gates = int64_t{tokens} * heads.values;
  launch_following(pack_gates_kernel, static_cast<unsigned>((gates + kThreads - 1) / kThreads), kThreads, 0, stream,
                   "delta_rule (gates for flashinfer)", args, heads, out);
}

void delta_take_states(const DeltaArgs& args, const DeltaHeads& heads, int32_t first_row, int32_t rows, float* states,
                       Stream stream) {
  with_state_type(args.pool_dtype, [&]<class S>(S) {
    launch_following(take_states_kernel<S>, state_grid(heads, rows), dim3(kSquare, kSquareRows), 0, stream,
                     "delta_rule (states for flashinfer)", args, heads, first_row, states);
  });
}

void delta_put_states(const DeltaArgs& args, const DeltaHeads& heads, int32_t first_row, int32_t rows,
                      const float* states, Stream stream) {
  with_state_type(args.pool_dtype, [&]<class S>(S) {
    launch_following(put_states_kernel<S>, state_grid(heads, rows), dim3(kSquare, kSquareRows), 0, stream,
                     "delta_rule (states of flashinfer)", args, heads, first_row, states);
  });
}

}  // namespace hylas::cuda
