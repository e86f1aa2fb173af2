#pragma once
// The body of /generate, SGLang's native form.
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "serve/generation_request.h"
#include "serve/prompts.h"

namespace hylas {

struct NativeItem {
  PromptInput prompt;
  GenerationRequest generation;  // max_new_tokens is set
  std::string request_id;        // rid; empty: one is made
  bool return_logprob = false;
  int32_t logprob_start = -1;  // -1: of the generated tokens only
};

struct NativeRequest {
  std::vector<NativeItem> items;  // one for each prompt
  bool is_list = false;           // the answer is a list
  bool stream = false;
};

// kInvalid / kUnsupported: names the field.
Result<NativeRequest> parse_native(std::string_view body, const ApiLimits& limits);

}  // namespace hylas
