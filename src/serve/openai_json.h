#pragma once
// Pieces of OpenAI's JSON that several answers share.
#include <boost/json.hpp>
#include <cstdint>
#include <string>
#include <string_view>

#include "serve/output_text.h"
#include "text/tokenizer.h"

namespace hylas {

struct Usage {
  int64_t prompt_tokens = 0;
  int64_t completion_tokens = 0;
  int64_t reasoning_tokens = 0;
  int64_t cached_tokens = 0;
};
boost::json::object usage_json(const Usage& usage);

// "chatcmpl-" and 24 random hexadecimal digits. Thread-safe.
std::string new_id(std::string_view prefix);

// stop | length | abort; stop becomes tool_calls when calls were made.
const char* finish_reason_name(const Finish& finish, bool made_calls = false);
// The stop token's id or the stop string; null if neither ended the text.
boost::json::value matched_stop(const Finish& finish);

// {token, bytes, logprob, top_logprobs: [...]}: an element of a chat's logprobs.content.
boost::json::object chat_logprob(const Tokenizer& tokenizer, const OutputToken& token);
// The text of one token alone; U+FFFD for a part of a character.
std::string token_text(const Tokenizer& tokenizer, int32_t id);
// A logprob as JSON: it knows no infinity, so -infinity is -9999.
double json_logprob(float logprob);

// The fields that every object of an answer begins with.
boost::json::object answer_head(std::string_view id, std::string_view object, int64_t created_s,
                                std::string_view model);

}  // namespace hylas
