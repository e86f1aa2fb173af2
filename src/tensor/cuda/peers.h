#pragma once
// Ranks that each have a GPU of their own and reach each other's memory: what their kernels meet by, and what one of
// them may read of the others'.
#include <cstdint>

namespace hylas::cuda {

constexpr int kPeersMax = 16;
// Of a kernel: fewer than multiprocessors, so that all run at once and none waits for another to end.
constexpr int kSignalBlocks = 96;

struct alignas(16) SumTime {
  uint64_t sums_ns;     // that kernels which sum over ranks took here, waiting included
  uint64_t told_at_ns;  // when the host was told
};

// In the memory of each rank, zero at first; the others write `arrived`. A block of a kernel meets the block of the
// same index of the other ranks; the count goes on from kernel to kernel, so that a recorded kernel can be replayed.
struct Signals {
  uint32_t meetings[kSignalBlocks];
  uint32_t arrived[kSignalBlocks][kPeersMax];
  SumTime sum_time;
};

struct Peers {
  Signals* signals[kPeersMax] = {};
  int32_t rank = 0;
  int32_t size = 0;
  uint64_t* sums_ns = nullptr;  // this rank's SumTime::sums_ns as the host was told, in page-locked memory
};

}  // namespace hylas::cuda

namespace hylas {

// Partial sums that lie with the ranks of a group, each [slices, tokens, hidden] f32, for an operator that adds them by
// itself (Comm::show_partials, Ops::add_rms_norm_over).
struct PeerPartials {
  cuda::Peers peers;
  const float* partials[cuda::kPeersMax] = {};  // by rank
  int64_t slice_stride = 0;                     // elements
  int32_t slices = 0;                           // of a rank
};

}  // namespace hylas
