#pragma once
// What the benchmarks of an engine on GPUs have in common: the seed's settings, and requests of random ids.
#include <random>
#include <string>

#include "engine/engine.h"

namespace hylas {

// Made-up weights, FP8 KV, float16 state; sequences and chunks are the caller's.
inline EngineOptions gpu_engine_options(const std::string& config_dir) {
  EngineOptions options;
  options.model_path = config_dir;
  options.load_format = "dummy";
  options.device = "cuda";
  options.kv_cache_dtype = "fp8_e4m3";
  options.state_dtype = "float16";
  options.max_running_requests = 256;
  return options;
}

// Greedy, and exactly `new_tokens` long.
inline Request random_request(std::mt19937& random, const EngineInfo& model, int32_t prompt_tokens,
                              int32_t new_tokens) {
  Request request;
  for (int32_t i = 0; i < prompt_tokens; ++i) {
    request.prompt.push_back(static_cast<int32_t>(random() % static_cast<uint32_t>(model.vocab_size)));
  }
  request.sampling.temperature = 0;
  request.sampling.max_new_tokens = new_tokens;
  request.sampling.ignore_eos = true;
  return request;
}

}  // namespace hylas
