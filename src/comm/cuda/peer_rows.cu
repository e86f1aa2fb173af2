#include "comm/cuda/peer_rows.h"

#include <algorithm>

#include "tensor/cuda/launch.cuh"
#include "tensor/cuda/peer_meet.cuh"

namespace hylas::cuda {
namespace {

constexpr int kThreads = 512;
constexpr int kWarps = kThreads / 32;
constexpr int kLoads = 4;      // of a lane, under way at once
constexpr int kRowsAhead = 8;  // the same of a token's rows

// A row is cut into parts that a warp copies in one go: few rows go over all multiprocessors.
template <class V>
constexpr int64_t kPart = int64_t{32} * kLoads;  // elements of type V

template <class V>
__host__ __device__ int64_t parts_of(int64_t row_bytes) {
  return (row_bytes / static_cast<int64_t>(sizeof(V)) + kPart<V> - 1) / kPart<V>;
}

// Past the L1: what another GPU has written since the last kernel must show.
template <class V>
__device__ __forceinline__ void copy_part(std::byte* to, const std::byte* from, int64_t row_bytes, int64_t part) {
  const int64_t count = row_bytes / static_cast<int64_t>(sizeof(V)), first = part * kPart<V> + threadIdx.x % 32;
  V value[kLoads];
#pragma unroll
  for (int i = 0; i < kLoads; ++i) {
    if (first + 32 * i < count) value[i] = __ldcg(reinterpret_cast<const V*>(from) + first + 32 * i);
  }
#pragma unroll
  for (int i = 0; i < kLoads; ++i) {
    if (first + 32 * i < count) reinterpret_cast<V*>(to)[first + 32 * i] = value[i];
  }
}

__device__ __forceinline__ int rank_of(const PeerRows& rows, int64_t row) {
  int rank = 0;
  while (row >= rows.begin[rank + 1]) ++rank;
  return rank;
}

// body(item) for the warp's share of the items of all blocks.
template <class Body>
__device__ __forceinline__ void for_items(int64_t items, const Body& body) {
  for (int64_t i = blockIdx.x * int64_t{kWarps} + threadIdx.x / 32; i < items; i += gridDim.x * int64_t{kWarps}) {
    body(i);
  }
}

template <class V>
__global__ void __launch_bounds__(kThreads, 1) peer_gather_kernel(const __grid_constant__ PeerGatherArgs args) {
  follow();
  meet(args.rows.peers);
  const int64_t parts = parts_of<V>(args.row_bytes);
  for_items(args.rows.begin[args.rows.peers.size] * parts, [&](int64_t item) {
    const int64_t row = item / parts;
    const int rank = rank_of(args.rows, row);
    copy_part<V>(args.out + row * args.row_bytes, args.in[rank] + (row - args.rows.begin[rank]) * args.row_bytes,
                 args.row_bytes, item % parts);
  });
  meet(args.rows.peers);
}

template <class V>
__global__ void __launch_bounds__(kThreads, 1) peer_dispatch_kernel(const __grid_constant__ PeerDispatchArgs args) {
  follow();
  meet(args.rows.peers);
  const int64_t parts = args.all_x ? parts_of<V>(args.row_bytes) : 1;
  const int lane = static_cast<int>(threadIdx.x % 32);
  for_items(args.rows.begin[args.rows.peers.size] * parts, [&](int64_t item) {
    const int64_t row = item / parts, part = item % parts;
    const int rank = rank_of(args.rows, row);
    const int64_t there = row - args.rows.begin[rank];
    const int id = lane < args.k ? __ldcg(args.ids[rank] + there * args.k + lane) : -1;
    if (part == 0 && lane < args.k) args.all_ids[row * args.k + lane] = id;
    const bool held = id >= args.held_begin && id < args.held_end;
    if (!args.all_x || !__any_sync(~0u, held)) return;
    const RowsFrom& x = args.x[rank];
    // Under way with the row: a lane of its parts for every scale.
    static_assert(kPart<V> * sizeof(V) <= 32 * kScaleGroup);
    const int64_t group = part * 32 + lane;
    float scale = 0.f;
    if (group < args.groups) scale = __ldcg(x.scale + group * x.scale_stride + there);
    copy_part<V>(args.all_x + row * args.row_bytes, x.data + there * args.row_bytes, args.row_bytes, part);
    if (group < args.groups) args.all_scale[group * args.all_scale_stride + row] = scale;
  });
}

// What a lane has of a row: V as it lies in memory, Sum in f32.
template <class V>
struct Element;
template <>
struct Element<float> {
  using Type = float;
  using Sum = float;
  static __device__ Sum f32(float value) { return value; }
};
template <>
struct Element<float4> {
  using Type = float;
  using Sum = float4;
  static __device__ Sum f32(const float4& value) { return value; }
};
template <>
struct Element<uint2> {  // four of bf16
  using Type = uint16_t;
  using Sum = float4;
  static __device__ Sum f32(const uint2& value) {
    return {__uint_as_float(value.x << 16), __uint_as_float(value.x & 0xffff0000u), __uint_as_float(value.y << 16),
            __uint_as_float(value.y & 0xffff0000u)};
  }
};
template <>
struct Element<uint16_t> {
  using Type = uint16_t;
  using Sum = float;
  static __device__ Sum f32(uint16_t value) { return __uint_as_float(static_cast<uint32_t>(value) << 16); }
};
template <class V>
constexpr int kColumns = sizeof(V) / sizeof(typename Element<V>::Type);

// Of a row's columns as many as a warp takes at once, for all choices of a token: its rows are under way together.
struct Piece {
  int64_t slice, token, column;  // this lane's first column
};

// body(piece) for this warp's pieces of tokens. The same pieces on every rank's warp of the same index: what one
// writes to another's memory is read there by the block of the same index, which it meets.
template <class V, class Body>
__device__ __forceinline__ void for_pieces(const PeerCombineArgs& args, const Body& body) {
  const int64_t tokens = args.rows.begin[args.rows.peers.size];
  const int64_t pieces = (args.columns / kColumns<V> + 31) / 32;
  for_items(args.slices * tokens * pieces, [&](int64_t item) {
    const int64_t column = (item % pieces * 32 + threadIdx.x % 32) * kColumns<V>;
    if (column < args.columns) body(Piece{item / pieces / tokens, item / pieces % tokens, column});
  });
}

// The row of a choice here; -1: its expert is elsewhere.
__device__ __forceinline__ int row_of(const PeerCombineArgs& args, int64_t token, int j) {
  const int64_t pair = token * args.k + j;
  if (args.index) return args.index[pair];
  const int id = args.all_ids[pair];
  return id >= args.held_begin && id < args.held_end ? static_cast<int>(pair) : -1;
}

template <class V>
__device__ __forceinline__ const V* row_here(const PeerCombineArgs& args, const Piece& piece, int row) {
  const int64_t rows = args.rows.begin[args.rows.peers.size] * int64_t{args.k};
  const auto* in = static_cast<const typename Element<V>::Type*>(args.in);
  return reinterpret_cast<const V*>(in + (piece.slice * rows + row) * args.columns + piece.column);
}

template <class V>
__device__ __forceinline__ V* row_at_home(const PeerCombineArgs& args, const Piece& piece, int home, int j) {
  const int64_t first = args.rows.begin[home], rows = (args.rows.begin[home + 1] - first) * int64_t{args.k};
  auto* there = static_cast<typename Element<V>::Type*>(args.returned[home]);
  return reinterpret_cast<V*>(there + (piece.slice * rows + (piece.token - first) * args.k + j) * args.columns +
                              piece.column);
}

// What this rank holds of another's token goes there.
template <class V>
__device__ __forceinline__ void send_piece(const PeerCombineArgs& args, const Piece& piece, int home) {
  for (int from = 0; from < args.k; from += kRowsAhead) {
    V value[kRowsAhead];
    int row[kRowsAhead];
#pragma unroll
    for (int i = 0; i < kRowsAhead; ++i) {
      row[i] = from + i < args.k ? row_of(args, piece.token, from + i) : -1;
      if (row[i] >= 0) value[i] = __ldcg(row_here<V>(args, piece, row[i]));
    }
#pragma unroll
    for (int i = 0; i < kRowsAhead; ++i) {
      if (row[i] >= 0) *row_at_home<V>(args, piece, home, from + i) = value[i];
    }
  }
}

__device__ __forceinline__ void add(float& to, float weight, const float& more) { to = fmaf(weight, more, to); }
__device__ __forceinline__ void add(float4& to, float weight, const float4& more) {
  to.x = fmaf(weight, more.x, to.x), to.y = fmaf(weight, more.y, to.y);
  to.z = fmaf(weight, more.z, to.z), to.w = fmaf(weight, more.w, to.w);
}

template <class V>
__device__ __forceinline__ void sum_piece(const PeerCombineArgs& args, const Piece& piece) {
  using Sum = typename Element<V>::Sum;
  const int me = args.rows.peers.rank;
  const int64_t own = piece.token - args.rows.begin[me], tokens = args.rows.begin[me + 1] - args.rows.begin[me];
  const int64_t place = (piece.slice * tokens + own) * args.columns + piece.column;
  Sum sum = {}, shared = {};
  if (args.shared) shared = __ldcg(reinterpret_cast<const Sum*>(args.shared + place));
  for (int from = 0; from < args.k; from += kRowsAhead) {
    V value[kRowsAhead];
#pragma unroll
    for (int i = 0; i < kRowsAhead; ++i) {
      if (from + i >= args.k) continue;
      const int row = row_of(args, piece.token, from + i);
      value[i] = __ldcg(row >= 0 ? row_here<V>(args, piece, row) : row_at_home<V>(args, piece, me, from + i));
    }
#pragma unroll
    for (int i = 0; i < kRowsAhead; ++i) {
      if (from + i < args.k) add(sum, args.weights[own * args.k + from + i], Element<V>::f32(value[i]));
    }
  }
  if (args.shared) add(sum, 1.f / (1.f + expf(-args.shared_logit[own])), shared);
  *reinterpret_cast<Sum*>(args.sums + place) = sum;
}

template <class V>
__global__ void __launch_bounds__(kThreads, 1) peer_combine_kernel(const __grid_constant__ PeerCombineArgs args) {
  follow();
  const int me = args.rows.peers.rank;
  for_pieces<V>(args, [&](const Piece& piece) {
    const int home = rank_of(args.rows, piece.token);
    if (home != me) send_piece<V>(args, piece, home);
  });
  meet(args.rows.peers);
  for_pieces<V>(args, [&](const Piece& piece) {
    if (rank_of(args.rows, piece.token) == me) sum_piece<V>(args, piece);
  });
}

// The same at all ranks, whatever type of element each can take: blocks meet by their index.
unsigned blocks_for(int64_t rows, int64_t row_bytes) {
  const int64_t items = rows * std::max<int64_t>(1, parts_of<uint4>(row_bytes));
  return static_cast<unsigned>(std::clamp<int64_t>((items + kWarps - 1) / kWarps, 1, kSignalBlocks));
}

const std::byte* place_of(const std::byte* rows) { return rows; }
const std::byte* place_of(const RowsFrom& rows) { return rows.data; }

// Rows here and at every rank.
template <class From>
bool all_take_16_bytes(const PeerRows& rows, int64_t row_bytes, const std::byte* here, const From* there) {
  const auto takes = [&](const std::byte* one) { return reinterpret_cast<uintptr_t>(one) % 16 == 0; };
  return row_bytes % 16 == 0 && takes(here) &&
         std::all_of(there, there + rows.peers.size, [&](const From& from) { return takes(place_of(from)); });
}

}  // namespace

void peer_gather(const PeerGatherArgs& args, CUstream_st* stream) {
  const int64_t rows = args.rows.begin[args.rows.peers.size];
  if (rows == 0) return;
  const bool wide = all_take_16_bytes(args.rows, args.row_bytes, args.out, args.in);
  const auto kernel = wide ? peer_gather_kernel<uint4> : peer_gather_kernel<uint16_t>;
  launch_following(kernel, blocks_for(rows, args.row_bytes), kThreads, 0, stream, "rows of other ranks", args);
}

void peer_dispatch(const PeerDispatchArgs& args, CUstream_st* stream) {
  const int64_t rows = args.rows.begin[args.rows.peers.size];
  if (rows == 0) return;
  const bool wide = all_take_16_bytes(args.rows, args.row_bytes, args.all_x, args.x);
  const auto kernel = wide ? peer_dispatch_kernel<uint4> : peer_dispatch_kernel<uint16_t>;
  launch_following(kernel, blocks_for(rows, args.row_bytes), kThreads, 0, stream, "tokens to experts", args);
}

void peer_combine(const PeerCombineArgs& args, CUstream_st* stream) {
  const int64_t rows = args.rows.begin[args.rows.peers.size] * int64_t{args.slices};
  if (rows == 0) return;
  // Pieces and blocks must be the same at all ranks: what only this one knows does not choose.
  const bool wide = peer_combine_is_wide(args.columns);
  const int64_t warps = rows * ((args.columns / (wide ? 4 : 1) + 31) / 32);
  const auto blocks = static_cast<unsigned>(std::clamp<int64_t>((warps + kWarps - 1) / kWarps, 1, kSignalBlocks));
  const auto kernel = args.rows_are_bf16 ? wide ? peer_combine_kernel<uint2> : peer_combine_kernel<uint16_t>
                      : wide ? peer_combine_kernel<float4>
                                         : peer_combine_kernel<float>;
  launch_following(kernel, blocks, kThreads, 0, stream, "rows of experts to their tokens", args);
}

}  // namespace hylas::cuda
