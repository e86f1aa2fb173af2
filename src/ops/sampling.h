#pragma once
// What one row of logits is turned into a token with. Plain values; the order of the steps is fixed here.
#include <cstdint>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

namespace hylas {

// Tokens seen so far by one sequence, for the penalties.
struct TokenHistory {
  std::unordered_map<int32_t, int32_t> generated;  // token -> times generated
  std::unordered_map<int32_t, int32_t> prompt;     // token -> times in the prompt
};

struct LogitBias {
  int32_t token;
  float bias;
};

// Steps, in this order: repetition penalty (prompt and generated; x > 0 ? x / p : x * p), frequency and presence
// penalties (generated only), logit bias, blocked ids and grammar mask, temperature, top-k, top-p, min-p, draw.
// temperature 0 takes the highest logit (lowest id on ties). The draw depends on (seed, step) alone, not on the batch.
// top-p keeps the fewest tokens whose share of what top-k left reaches top_p, min-p those with at least min_p times the
// highest probability; both at least one. A NaN logit counts as -inf.
struct SampleRow {
  float temperature = 1.f;
  int32_t top_k = -1;  // -1 = all
  float top_p = 1.f;
  float min_p = 0.f;
  float repetition_penalty = 1.f;
  float frequency_penalty = 0.f;
  float presence_penalty = 0.f;
  uint64_t seed = 0;
  int64_t step = 0;                      // index of the token within the generated text
  std::span<const LogitBias> bias;       // added to the logits
  std::span<const int32_t> blocked;      // ids that may not come (stop ids below min_tokens)
  std::span<const uint32_t> allowed;     // bit i % 32 of word i / 32: token i may come; empty = all
  const TokenHistory* history = nullptr; // needed when a penalty is set
  int32_t top_logprobs = -1;             // -1: no logprobs; 0: the chosen token's; n: and the n best
};

// Of a SampleRow, or of the parameters that it is made from.
inline bool has_penalties(const auto& sampling) {
  return sampling.repetition_penalty != 1.f || sampling.frequency_penalty != 0.f || sampling.presence_penalty != 0.f;
}
// Whether the token is drawn from other logits than the model's.
inline bool changes_logits(const SampleRow& row) {
  return has_penalties(row) || !row.bias.empty() || !row.blocked.empty() || !row.allowed.empty();
}
// The draw, uniform in [0, 1), of 53 bits: splitmix64 of the seed, then of the step. The same on every device.
inline double uniform_draw(uint64_t seed, int64_t step) {
  const auto mix = [](uint64_t x) {
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
  };
  return static_cast<double>(mix(mix(seed) ^ static_cast<uint64_t>(step)) >> 11) * 0x1p-53;
}

struct TokenLogprob {
  int32_t token;
  float logprob;
};

// Logprobs are of the model's own distribution: log softmax of the raw logits.
struct SampleResult {
  int32_t token = -1;  // stays -1 when no token may come: the engine ends the request
  float logprob = 0.f;
  std::vector<TokenLogprob> top;
};

}  // namespace hylas
