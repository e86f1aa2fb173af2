#pragma once
// What a node other than the first does: its ranks' part of the plans that node 0 sends.
#include "base/result.h"
#include "engine/engine.h"

namespace hylas {

// Loads the weights of this node's stages, and returns when node 0 has ended the instance. SIGTERM and SIGINT, where
// they are blocked (base/signals.h), wait for that; a second one ends this node, and so the instance, at once.
Status run_node(const EngineOptions& options);

}  // namespace hylas
