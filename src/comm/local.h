#pragma once
// Comm between threads of one process over shared memory: short spin, then sleep (futex).
#include <memory>
#include <vector>

#include "comm/comm.h"

namespace hylas {

// The handles of a group of `size` ranks, by rank. They share one state, which lives as long as any of them.
std::vector<std::unique_ptr<Comm>> make_local_comms(int32_t size);

}  // namespace hylas
