#pragma once
// Rows between ranks that each have a GPU of their own, over peer memory: one kernel each, no host.
#include <cstdint>

#include "comm/cuda/peer_sum.h"

namespace hylas::cuda {

constexpr int kChoicesMax = 32;
constexpr int64_t kScaleGroup = 128;  // values of a row in e4m3 over one scale

// Rows of all ranks one after another: rank r has rows [begin[r], begin[r + 1]).
struct PeerRows {
  Peers peers;
  int32_t begin[kPeersMax + 1] = {};
};

// out = the rows of in[0], in[1], ... by rank. What the others showed may be overwritten by what follows in the stream.
// Asynchronous.
struct PeerGatherArgs {
  PeerRows rows;
  const std::byte* in[kPeersMax] = {};
  std::byte* out = nullptr;
  int64_t row_bytes = 0;
};
void peer_gather(const PeerGatherArgs& args, CUstream_st* stream);

// A rank's rows on their way to experts.
struct RowsFrom {
  const std::byte* data = nullptr;  // [own, row_bytes]
  const float* scale = nullptr;     // [groups, scale_stride]: column i is row i's
  int64_t scale_stride = 0;
};

// all_ids = the rows of ids[0], ids[1], ...; all_x the same of x, but only rows of tokens that have one of the experts
// [held_begin, held_end), and the columns of all_scale that are theirs. What the others showed must stay until the next
// meeting. Asynchronous.
struct PeerDispatchArgs {
  PeerRows rows;
  const int32_t* ids[kPeersMax] = {};  // [own of the rank, k]
  RowsFrom x[kPeersMax];
  int32_t k = 0;  // at most kChoicesMax
  int32_t held_begin = 0, held_end = 0;
  int32_t* all_ids = nullptr;
  std::byte* all_x = nullptr;  // null: no rows
  int64_t row_bytes = 0;
  float* all_scale = nullptr;  // [groups, all_scale_stride]
  int64_t all_scale_stride = 0;
  int64_t groups = 0;  // scales of a row: none, or one for each kScaleGroup bytes
};
void peer_dispatch(const PeerDispatchArgs& args, CUstream_st* stream);

// Row (t, j) of every token whose expert all_ids[t][j] is held here goes to its home, and the home adds what came:
// sums[s][t] = sum over j in order of weights[t][j] * row (t, j), then + sigmoid(shared_logit[t]) * shared[s][t].
// `returned` must be free since a meeting that this rank has seen; `in` may be overwritten by what follows.
// Asynchronous.
struct PeerCombineArgs {
  PeerRows rows;
  const int32_t* all_ids = nullptr;  // [all, k]
  int32_t k = 0;
  int32_t held_begin = 0, held_end = 0;
  bool rows_are_bf16 = false;           // or f32
  const void* in = nullptr;             // [slices, all * k, columns]
  const int32_t* index = nullptr;       // [all, k]: of one slice, row (t, j) is in[index[t][j]], if that is not -1
  void* returned[kPeersMax] = {};       // [slices, own of the rank * k, columns]
  const float* weights = nullptr;       // [own, k]
  const float* shared = nullptr;        // [slices, own, columns]; null: none
  const float* shared_logit = nullptr;  // [own]
  float* sums = nullptr;                // [slices, own, columns]
  int32_t slices = 0;
  int64_t columns = 0;
};
void peer_combine(const PeerCombineArgs& args, CUstream_st* stream);
// Four columns at a time: then rows and sums lie at multiples of 16 bytes.
constexpr bool peer_combine_is_wide(int64_t columns) { return columns % 4 == 0; }

}  // namespace hylas::cuda
