#pragma once
// OpenAI-style messages and tools to the prompt text of a checkpoint's chat template.
#include <boost/json.hpp>
#include <string>

#include "base/result.h"
#include "text/chat_template.h"

namespace hylas {

struct ChatPrompt {
  boost::json::array messages;  // as in the request: role, content (string, parts or null), tool_calls, ...
  boost::json::array tools;     // as in the request; empty: none
  bool add_generation_prompt = true;
  boost::json::object template_kwargs;  // enable_thinking, preserve_thinking, reasoning_effort, ...
};

// The rendered prompt. Arguments of tool calls that came as JSON text are parsed into mappings first; missing content
// is null. kInvalid: the template's own complaint, or arguments that are no JSON object. Thread-safe.
Result<std::string> render_chat(const ChatTemplate& chat_template, const ChatPrompt& prompt);

}  // namespace hylas
