// Any bytes as a chat template: an error at load, an error of rendering, or a text.
#include <boost/json.hpp>

#include "text/chat_template.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const boost::json::object context = boost::json::parse(R"({
    "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi \u6f22"},
                 {"role": "assistant", "content": null, "tool_calls":
                  [{"function": {"name": "f", "arguments": {"x": 1.5}}}]},
                 {"role": "tool", "content": [{"type": "text", "text": "ok"}]}],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
    "add_generation_prompt": true, "l": [3, 1, 2], "d": {"a": 1, "b": null}, "n": -7, "s": "Hello"})")
                                                 .as_object();
  auto parsed = hylas::ChatTemplate::parse(std::string(reinterpret_cast<const char*>(data), size));
  if (parsed.ok()) static_cast<void>((*parsed)->render(context));
  return 0;
}
