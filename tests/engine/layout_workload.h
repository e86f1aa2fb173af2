#pragma once
// The workload that every layout must answer alike: prompts longer and shorter than a chunk, prefill beside decode,
// retraction, and two requests cancelled in the middle.
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "engine/engine.h"

namespace hylas::test {

// For a model of support/layout_models.h.
EngineOptions layout_options(const std::string& path, const std::string& dtype, const ParallelSizes& sizes);

// What one request said, in every bit.
struct Said {
  std::vector<int32_t> tokens;
  std::vector<uint32_t> logprob_bits;
  bool operator==(const Said&) const = default;
};

struct LayoutOutcome {
  std::map<int, Said> said;  // by request; the cancelled ones are missing
  uint64_t retractions = 0;
};

// With disaggregation request i has the room `first.room + i`.
LayoutOutcome run_layout_workload(Engine& engine, const std::optional<Bootstrap>& first = std::nullopt);
// The same requests at the instance that prefills them; none of them may fail.
void prefill_layout_workload(Engine& engine, const Bootstrap& first);

// The same, where the link is cut in the middle: some requests fail and say that another try may do better. Then both
// sides are asked once more, in the rooms behind those, and all are answered.
void prefill_again_after_a_cut(Engine& engine, const Bootstrap& first);
void decode_again_after_a_cut(Engine& engine, const Bootstrap& first);

}  // namespace hylas::test
