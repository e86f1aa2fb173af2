#pragma once
// Ranks that are threads of one process over the memory of one GPU. What they exchange on the host (counts, tokens)
// goes on through the handles that they had.
#include "comm/rank_comms.h"
#include "tensor/device.h"

namespace hylas {

// The same groups and pipes for tensors of `device`, which is this rank's own and a GPU's: it outlives them. The sums
// are those of comm.h in its order. Nothing waits for the GPU: a call returns once its copies and sums are launched
// behind what the other ranks had launched before. In a build without CUDA there is no such device.
RankComms on_device(RankComms comms, Device& device);

}  // namespace hylas
