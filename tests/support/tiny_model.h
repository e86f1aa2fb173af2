#pragma once
// A tiny hybrid model with dummy weights: three delta layers and one attention layer, 256 tokens of vocabulary, no
// checkpoint. The same weights in every process.
#include <string>

#include "engine/engine.h"

namespace hylas::test {

constexpr int32_t kTinyVocab = 256;
constexpr int32_t kTinyEos = 7;

// Its config.json, written below the temporary directory when first asked for: the file's path.
std::string tiny_model_path();

// Options that load it with two threads; memory and steps are the test's to set.
EngineOptions tiny_engine_options();

}  // namespace hylas::test
