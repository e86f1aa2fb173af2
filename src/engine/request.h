#pragma once
// What the serving floor asks of the engine and what it gets back. Plain values; token ids only, no text.
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/net.h"
#include "ops/sampling.h"

namespace hylas {

class GrammarMatcher;  // text/grammar.h

using RequestId = uint64_t;

// Defaults are the API's (sglang.md section 6); the serving floor fills in generation_config.json's first.
struct SamplingParams {
  int32_t max_new_tokens = 128;
  int32_t min_new_tokens = 0;
  float temperature = 1.f;
  int32_t top_k = -1;
  float top_p = 1.f;
  float min_p = 0.f;
  float frequency_penalty = 0.f;
  float presence_penalty = 0.f;
  float repetition_penalty = 1.f;
  std::optional<uint64_t> seed;         // none: drawn at random by the engine
  bool ignore_eos = false;              // stop_token_ids still stop
  std::vector<int32_t> stop_token_ids;  // besides the model's end-of-sequence ids
  std::vector<LogitBias> logit_bias;
  int32_t top_logprobs = -1;          // of generated tokens: -1 none, 0 the chosen one's, n and the n best
  int32_t prompt_logprobs_from = -1;  // logprobs of prompt tokens from this position on; -1 none. Nothing predicts the
                                      // token at position 0: its logprob is NaN
};

// Where the prompt of a request is computed, with disaggregation: the router sends the same request to both instances.
struct Bootstrap {
  HostPort prefill;   // the bootstrap port of the prefilling instance
  uint64_t room = 0;  // drawn by the router; names the request between the two instances
};

struct Request {
  std::vector<int32_t> prompt;  // at least one token
  SamplingParams sampling;
  std::shared_ptr<GrammarMatcher> grammar;  // null: unconstrained. Used by the scheduler thread only once submitted.
  std::optional<Bootstrap> bootstrap;       // what an instance that only prefills or only decodes needs
};

enum class FinishReason : uint8_t {
  kStop,    // an end-of-sequence or stop token
  kLength,  // max_new_tokens or the context length
  kAbort,   // abort(), or the engine is stopping
  kError,   // see Output::error
};

struct OutputToken {
  int32_t id;
  float logprob = 0.f;
  std::vector<TokenLogprob> top;
};

// Delivered in order, one or more per request; the last one carries `finish`.
struct Output {
  RequestId id = 0;
  std::vector<OutputToken> tokens;  // new ones since the last Output; includes the stop token, if any
  std::optional<FinishReason> finish;
  int32_t stop_token = -1;                   // which id stopped it (kStop)
  int32_t cached_tokens = 0;                 // prompt tokens that came from a prefix cache
  std::vector<OutputToken> prompt_logprobs;  // with the first Output, if asked for; position `from` first
  std::string error;                         // kError: one line
  bool may_retry = false;                    // kError: another instance may be able to do it
};

// Called on the scheduler thread: must only hand the value on (a queue), never block.
using OutputCallback = std::function<void(Output)>;

}  // namespace hylas
