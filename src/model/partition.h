#pragma once
// Partition: which layers each stage of the pipeline holds. Pure functions.
#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "model/config.h"

namespace hylas {

// What a stage's parts cost, in any one unit (microseconds of a step, or operations).
struct PartitionCosts {
  std::vector<double> layers;  // [num_layers]
  double first = 0;            // embedding, on the first stage
  double last = 0;             // final norm, head and MTP, on the last one
};

// Multiply-adds per token of each part, from the shapes alone: a prompt of `context` tokens, one row of logits in
// `tokens_per_logits` tokens.
PartitionCosts estimate_costs(const ModelConfig& config, int32_t context = 4096, int32_t tokens_per_logits = 64);

// First layers of the stages and num_layers at the end, [stages + 1]: the contiguous partition whose most expensive
// stage costs least; among equals the one with the fewest layers on the late stages. kUnsupported: more stages than
// layers.
Result<std::vector<int32_t>> balance(const PartitionCosts& costs, int32_t stages);

// The same from "15,15,15,15" (--pp-layer-partition): layers of each stage. kUnsupported with the numbers when there
// are not `stages` of them, one is below 1, or they do not add up to `num_layers`.
Result<std::vector<int32_t>> parse_partition(const std::string& text, int32_t num_layers, int32_t stages);

}  // namespace hylas
