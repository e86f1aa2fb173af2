#pragma once
// The flags of an instance that only prefills or only decodes.
#include "engine/engine.h"

namespace CLI {
class App;
}

namespace hylas {

void add_disaggregation_options(CLI::App& command, EngineOptions& engine);

}  // namespace hylas
