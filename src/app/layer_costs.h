#pragma once
// What the parts of a model cost on this machine, by running them: for `hylas plan --measure`.
#include "base/result.h"
#include "engine/engine.h"
#include "model/partition.h"

namespace hylas {

// Microseconds of a prefill step of `tokens` tokens in each part, on one rank of `options.device` with made-up weights.
// Three models of one or two layers are run, cut from that of `model`, of which there need be no more than the
// config.json; the cost of everything else but layers is counted to the last stage. The shortest of several steps
// counts. Errors are those of starting an engine.
Result<PartitionCosts> measure_costs(const EngineOptions& options, const ModelConfig& model, int32_t tokens);

}  // namespace hylas
