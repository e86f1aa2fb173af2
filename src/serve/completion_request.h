#pragma once
// The body of /v1/completions.
#include <string>
#include <string_view>

#include "base/result.h"
#include "serve/chat_request.h"
#include "serve/generation_request.h"
#include "serve/prompts.h"

namespace hylas {

struct CompletionRequest {
  GenerationRequest generation;  // of each prompt; max_new_tokens is set
  std::vector<PromptInput> prompts;
  bool echo = false;  // the text begins with the prompt
  StreamFields stream;
  std::string request_id;
};

// kInvalid / kUnsupported: names the field.
Result<CompletionRequest> parse_completion(std::string_view body, const ApiLimits& limits);

}  // namespace hylas
