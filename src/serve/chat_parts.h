#pragma once
// The text of a chat reply, split into reasoning, content and tool calls.
#include <boost/json.hpp>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/reasoning_parser.h"
#include "text/tool_call_parser.h"

namespace hylas {

struct ChatPart {
  enum class Kind { kReasoning, kContent, kCallBegin, kCallArguments };
  Kind kind;
  std::string text;  // of kCallBegin: the function's name
  int call = -1;     // index of the call
};

struct ChatPartsOptions {
  bool split_reasoning = false;
  bool starts_in_reasoning = false;           // the prompt ends inside <think>
  bool stream_reasoning = true;               // false: the reasoning comes in one part, when it has ended
  const boost::json::array* tools = nullptr;  // null: calls stay text
};

// One per output sequence; not thread-safe.
class ChatParts {
 public:
  explicit ChatParts(const ChatPartsOptions& options);
  std::vector<ChatPart> push(std::string_view text);
  // The end of the output.
  std::vector<ChatPart> finish();
  int calls() const { return tools_ ? tools_->calls() : 0; }
  bool in_reasoning() const { return reasoning_ && reasoning_->in_reasoning(); }

 private:
  void take(const ReasoningSplit& split, std::vector<ChatPart>& parts);
  void take_content(std::string_view text, std::vector<ChatPart>& parts);
  static void add_events(std::vector<ToolEvent> events, std::vector<ChatPart>& parts);

  std::optional<ReasoningParser> reasoning_;
  std::unique_ptr<ToolCallParser> tools_;
  bool stream_reasoning_;
  std::string held_reasoning_;
};

}  // namespace hylas
