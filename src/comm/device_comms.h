#pragma once
// Ranks that are threads of one process, each over the memory of a GPU. What they exchange on the host (counts, tokens)
// goes on through the handles that they had.
#include <span>

#include "base/result.h"
#include "comm/rank_comms.h"
#include "tensor/device.h"

namespace hylas {

// Makes the groups and pipes of `comms` those of tensors in `devices`, by rank: each rank's own, a GPU's, which
// outlives them. The sums are those of comm.h in its order. Nothing waits for a GPU on the host: a call returns once
// its copies and sums are launched behind what the other ranks launched before. Where every rank has a GPU of its own,
// calls can be recorded in a graph; where some share one (tests), they cannot. kUnsupported: two GPUs that cannot reach
// each other's memory. In a build without CUDA there are no such devices.
Status on_devices(std::span<RankComms> comms, std::span<Device* const> devices);

}  // namespace hylas
