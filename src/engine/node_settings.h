#pragma once
// What the nodes of an instance must have in common, and how they meet: from the options.
#include "base/result.h"
#include "engine/cluster.h"
#include "engine/engine.h"

namespace hylas {

// Tells models apart without reading their weights: the checksum of config.json, and the files of the checkpoint in
// `directory`.
Result<std::string> model_fingerprint(const EngineOptions& options, const std::string& directory);

// `directory` holds the checkpoint. kInvalid: flags for several nodes that are missing or contradict each other.
// Threads, memory share and instruction set may differ between nodes.
Result<ClusterOptions> cluster_options(const EngineOptions& options, const std::string& directory);

}  // namespace hylas
