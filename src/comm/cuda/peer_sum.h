#pragma once
// Sums and meetings of ranks that each have a GPU of their own, over peer memory (NVLink): one kernel each, no host.
#include <cstdint>

#include "tensor/cuda/peers.h"

struct CUstream_st;

namespace hylas::cuda {

// What follows in the stream comes after all that every rank has launched before its own call. Asynchronous.
void peer_barrier(const Peers& peers, CUstream_st* stream);

struct PeerSumArgs {
  Peers peers;
  const float* in[kPeersMax] = {};  // by rank; in[r] may be out[r]
  float* out[kPeersMax] = {};
  int64_t count = 0;
};
// out[r][i] = the balanced binary tree over in[..][i] in rank order, at every rank r; 2, 4, 8 or 16 ranks. Every rank
// calls it with the same arguments but its rank. Inputs may be overwritten by what follows in the stream. Asynchronous.
// Few elements: each rank reads and sums all. Many: each sums its part and writes it to all, 2 / size of the traffic.
void peer_sum(const PeerSumArgs& args, CUstream_st* stream);

}  // namespace hylas::cuda
