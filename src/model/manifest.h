#pragma once
// Manifest: every text and MTP tensor that a checkpoint of a config has, with its exact shape (model.md section 2).
#include <cstdint>
#include <vector>

#include "model/config.h"
#include "weights/checkpoint.h"
#include "weights/tensor_spec.h"

namespace hylas {

// How routed experts are stored: one tensor [experts, ..] per projection (bf16 files) or one matrix per expert (FP8
// files).
enum class ExpertStyle : uint8_t { kFused, kPerExpert };

struct ManifestStyle {
  ExpertStyle experts = ExpertStyle::kFused;
  ExpertStyle mtp_experts = ExpertStyle::kFused;
};

// As the released files of this config are.
ManifestStyle released_style(const ModelConfig& config);
// As `checkpoint` is.
ManifestStyle found_style(const Checkpoint& checkpoint, const ModelConfig& config);

// In the order: embedding, layers, final norm, head (unless tied), MTP.
std::vector<TensorSpec> manifest(const ModelConfig& config, const ManifestStyle& style);
inline std::vector<TensorSpec> manifest(const ModelConfig& config) { return manifest(config, released_style(config)); }

// kNotFound or kInvalid: tensors are missing or mis-shaped (the first five, and how many). Warns in the log about
// tensors that nothing reads. A checkpoint without any MTP tensor passes.
Status check_complete(const Checkpoint& checkpoint, const ModelConfig& config);

}  // namespace hylas
