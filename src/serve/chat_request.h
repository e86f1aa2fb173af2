#pragma once
// The body of /v1/chat/completions, and what /tokenize shares with it.
#include <boost/json.hpp>
#include <string>
#include <string_view>

#include "base/result.h"
#include "serve/generation_request.h"
#include "serve/tool_fields.h"
#include "text/chat.h"

namespace hylas {

struct StreamFields {
  bool stream = false;
  bool include_usage = false;           // one last chunk with the usage
  bool continuous_usage_stats = false;  // every chunk carries the usage so far
};

struct ChatRequest {
  GenerationRequest generation;
  ChatPrompt prompt;
  ToolChoice tool_choice;
  bool parallel_tool_calls = true;
  StreamFields stream;
  std::string request_id;  // rid; empty: one is made
  bool separate_reasoning = true;
  bool stream_reasoning = true;
};

// kInvalid / kUnsupported: names the field.
Result<ChatRequest> parse_chat(std::string_view body, const ApiLimits& limits);

// messages, tools, chat_template_kwargs, reasoning_effort, add_generation_prompt.
Result<ChatPrompt> parse_chat_prompt(const boost::json::object& from);
// stream and stream_options.
Result<StreamFields> parse_stream_fields(const boost::json::object& from);

}  // namespace hylas
