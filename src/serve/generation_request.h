#pragma once
// What a client asked for, whatever API it came through. Plain values, checked; no token of the prompt yet.
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/request.h"

namespace hylas {

// The language that the output must be in.
struct OutputConstraint {
  enum class Kind { kNone, kJsonObject, kJsonSchema, kRegex, kEbnf, kToolCalls };
  Kind kind = Kind::kNone;
  std::string text;  // the schema, pattern or grammar; of kToolCalls: the only function, or empty for any
};

struct GenerationRequest {
  SamplingParams sampling;                // max_new_tokens: see below
  std::optional<int32_t> max_new_tokens;  // none: the rest of the context
  int32_t n = 1;                          // copies of each prompt; copy i draws with seed + i
  std::vector<std::string> stop;
  bool include_stop = false;  // the text ends with the stop string or token
  bool skip_special_tokens = true;
  OutputConstraint constraint;
  std::optional<Bootstrap> bootstrap;  // of the request's first sequence; the others have the rooms behind it
};

// What checking a request needs to know of the model and the command line.
struct ApiLimits {
  SamplingParams defaults;  // generation_config.json's
  int32_t vocab_size = 0;   // token ids are below it
};

}  // namespace hylas
