#include "text/reasoning_parser.h"

#include <algorithm>
#include <utility>

#include "text/partial_tag.h"

namespace hylas {
namespace {

constexpr std::string_view kOpen = "<think>";
constexpr std::string_view kClose = "</think>";
constexpr std::string_view kToolCall = "<tool_call>";
constexpr std::string_view kSpaces = " \t\r\n";

}  // namespace

bool prompt_opens_thinking(std::string_view prompt) {
  size_t open = prompt.rfind(kOpen);
  if (open == std::string_view::npos) return false;
  return prompt.find_first_not_of(kSpaces, open + kOpen.size()) == std::string_view::npos;
}

ReasoningParser::ReasoningParser(bool starts_in_reasoning)
    : state_(starts_in_reasoning ? State::kOpened : State::kBeforeThink) {}

ReasoningSplit ReasoningParser::push(std::string_view text) {
  ReasoningSplit out;
  held_.append(text);
  step(out, false);
  return out;
}

ReasoningSplit ReasoningParser::finish() {
  ReasoningSplit out;
  step(out, true);
  return out;
}

// Takes from held_ what is certain. Each state either ends the step or hands over to a later state.
void ReasoningParser::step(ReasoningSplit& out, bool at_end) {
  if (state_ == State::kBeforeThink || state_ == State::kOpened) {
    // <think> at the beginning opens the reasoning, or repeats what the prompt opened; no white space before it counts.
    size_t first = std::min(held_.find_first_not_of(kSpaces), held_.size());
    std::string_view rest = std::string_view(held_).substr(first);
    if (!at_end && rest.size() < kOpen.size() && kOpen.starts_with(rest)) return;
    bool opens = rest.starts_with(kOpen);
    if (opens) held_.erase(0, first + kOpen.size());
    state_ = opens || state_ == State::kOpened ? State::kReasoning : State::kContent;
  }
  if (state_ == State::kReasoning) {
    if (!reasoning_started_) held_.erase(0, std::min(held_.find_first_not_of(kSpaces), held_.size()));
    size_t close = held_.find(kClose), tool_call = held_.find(kToolCall);
    size_t end = std::min(close, tool_call);
    if (end == std::string::npos) {
      size_t certain = held_.size() - (at_end ? 0 : partial_tag_length(held_, {kClose, kToolCall}));
      emit_reasoning(std::string_view(held_).substr(0, certain), out);
      held_.erase(0, certain);
      return;
    }
    emit_reasoning(std::string_view(held_).substr(0, end), out);
    held_.erase(0, end + (close < tool_call ? kClose.size() : 0));
    state_ = close < tool_call ? State::kAfterThink : State::kContent;
  }
  if (state_ == State::kAfterThink) {
    held_.erase(0, std::min(held_.find_first_not_of("\r\n"), held_.size()));
    if (held_.empty()) return;
    state_ = State::kContent;
  }
  out.content += std::exchange(held_, {});
}

// White space is held until something follows it.
void ReasoningParser::emit_reasoning(std::string_view text, ReasoningSplit& out) {
  reasoning_started_ |= !text.empty();
  size_t solid = text.find_last_not_of(kSpaces) + 1;
  if (solid > 0) {
    out.reasoning += std::exchange(held_space_, {});
    out.reasoning += text.substr(0, solid);
  }
  held_space_ += text.substr(solid);
}

ReasoningSplit split_reasoning(std::string_view text, bool starts_in_reasoning) {
  ReasoningParser parser(starts_in_reasoning);
  ReasoningSplit out = parser.push(text);
  ReasoningSplit rest = parser.finish();
  return {out.reasoning + rest.reasoning, out.content + rest.content};
}

}  // namespace hylas
