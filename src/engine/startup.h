#pragma once
// From options to ranks with weights and memory: everything before the first request.
#include <memory>
#include <vector>

#include "base/result.h"
#include "engine/cluster.h"
#include "engine/configuration.h"
#include "engine/engine.h"
#include "engine/rank.h"
#include "engine/scheduler.h"

namespace hylas {

struct Startup {
  EngineInfo info;
  SchedulerOptions scheduler;
  std::unique_ptr<Cluster> cluster;          // null with one node; outlives the ranks
  std::vector<std::unique_ptr<Rank>> ranks;  // of this node
  std::string fingerprint;                   // of the model, with a role: see model_fingerprint
};

// Reads the configuration, meets the other nodes, loads the weights of this one's stages, divides the memory and logs
// what was chosen.
Result<Startup> start_up(const EngineOptions& options);

}  // namespace hylas
