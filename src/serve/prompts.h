#pragma once
// A prompt as a client gives it outside of a chat: text or token ids.
#include <boost/json.hpp>
#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/result.h"

namespace hylas {

using PromptInput = std::variant<std::string, std::vector<int32_t>>;

constexpr size_t kPromptsMax = 4096;  // of one request

struct PromptList {
  std::vector<PromptInput> prompts;  // at least one
  bool is_list = false;              // the client gave a list, so it gets one
};

// A string, strings, token ids, or lists of token ids.
Result<PromptList> parse_prompts(const boost::json::value& from, std::string_view field, int32_t vocab_size);

}  // namespace hylas
