#pragma once
// Sums of many partial products over ranks that each have a GPU of their own, added onto the rows that all of them
// keep.
#include <cstdint>

#include "tensor/cuda/peers.h"
#include "tensor/dtype.h"

struct CUstream_st;

namespace hylas::cuda {

struct PeerAddArgs {
  Peers peers;
  const void* in[kPeersMax] = {};  // by rank
  void* onto[kPeersMax] = {};      // the same values at every rank
  DType type = DType::kF32;        // of `in`: f32 or bf16
  DType onto_type = DType::kBF16;  // or f32
  int64_t count = 0;
};
// onto[r][i] += the balanced binary tree in f32 over in[..][i] in rank order, at every rank r; 2, 4, 8 or 16 ranks.
// Every rank calls it with the same arguments but its rank. Inputs may be overwritten by what follows in the stream.
// Asynchronous. A rank sums its part, adds it to what it has there, and writes it to all as it is kept: over the link
// go (size - 1) / size of the values twice in each direction, once as `in` has them, once as `onto`.
void peer_add(const PeerAddArgs& args, CUstream_st* stream);

}  // namespace hylas::cuda
