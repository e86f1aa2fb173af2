#pragma once
// The flags of an instance that is spread over several nodes, and their defaults from what starts processes on many
// nodes: Slurm, OpenMPI, Kubernetes' LeaderWorkerSet.
#include <functional>
#include <string>
#include <vector>

#include "engine/engine.h"

namespace CLI {
class App;
}

namespace hylas {

void add_node_options(CLI::App& command, EngineOptions& engine);

struct NodeDefault {
  std::string flag;    // "nnodes"
  std::string value;   // "2"
  std::string source;  // "SLURM_STEP_NUM_NODES"
};

// Empty unless something started one process on each of several nodes. `get` answers an environment variable's value,
// or null.
std::vector<NodeDefault> node_defaults(const std::function<const char*(const char*)>& get);

}  // namespace hylas
