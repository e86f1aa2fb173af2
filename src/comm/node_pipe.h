#pragma once
// Pipes of an instance that is spread over nodes: stages of this process are reached through memory, the others
// through UCX.
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "base/result.h"
#include "comm/pipe.h"
#include "comm/topology.h"
#include "comm/ucx_fabric.h"

namespace hylas {

// Ends the instance, since `node` is gone: does not return.
using NodeGone = std::function<void(int32_t node, const Error& why)>;

// The handles of the ranks with `tp_rank` in the stages of `node`, by stage. A fabric's ids are the nodes; it is
// connected to those with which the stages talk, and outlives the handles.
std::vector<std::unique_ptr<Pipe>> make_node_pipes(const ParallelSizes& sizes, int32_t node, int32_t tp_rank,
                                                   UcxFabric& fabric, const NodeGone& on_gone);

}  // namespace hylas
