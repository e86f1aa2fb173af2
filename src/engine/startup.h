#pragma once
// From options to ranks with weights and memory: everything before the first request.
#include <memory>
#include <vector>

#include "base/result.h"
#include "engine/configuration.h"
#include "engine/engine.h"
#include "engine/rank.h"
#include "engine/scheduler.h"

namespace hylas {

struct Startup {
  EngineInfo info;
  SchedulerOptions scheduler;
  std::vector<std::unique_ptr<Rank>> ranks;
};

// Reads the configuration, loads the weights, divides the memory and logs what was chosen.
Result<Startup> start_up(const EngineOptions& options);

}  // namespace hylas
