#pragma once
// What a rank loads, in bytes, from the manifest and the sharding alone: for planning without weights, and the measure
// of a rank that reads a layer or a head that is not its own.
#include <cstdint>

#include "model/decoder.h"

namespace hylas {

// Of the tensors that Decoder::make reads with these options, stored as released: FP8 blocks with a scale in f32 each.
// It is what WeightSource::bytes_used() says afterwards. `options.layer_end` is set.
int64_t shard_bytes(const ModelConfig& config, const DecoderOptions& options);

}  // namespace hylas
