#pragma once
// Reasoning parser "qwen3": splits generated text into what stands inside <think>..</think> and the answer.
#include <string>
#include <string_view>

namespace hylas {

struct ReasoningSplit {
  std::string reasoning;
  std::string content;
};

// True if the rendered prompt ends inside an open <think>: the output then starts as reasoning.
bool prompt_opens_thinking(std::string_view prompt);

// One per output sequence; not thread-safe. Partial tags are held back. <tool_call> inside reasoning closes it
// implicitly. White space around the reasoning and the newlines between </think> and the answer are dropped.
class ReasoningParser {
 public:
  explicit ReasoningParser(bool starts_in_reasoning);
  ReasoningSplit push(std::string_view text);
  ReasoningSplit finish();
  bool in_reasoning() const { return state_ == State::kOpened || state_ == State::kReasoning; }

 private:
  enum class State { kBeforeThink, kOpened, kReasoning, kAfterThink, kContent };
  void step(ReasoningSplit& out, bool at_end);
  void emit_reasoning(std::string_view text, ReasoningSplit& out);

  State state_;
  std::string held_;        // text not yet given out
  std::string held_space_;  // white space that belongs to the reasoning only if more reasoning follows
  bool reasoning_started_ = false;
};

// The same for a whole output; equals the concatenation of the streamed parts.
ReasoningSplit split_reasoning(std::string_view text, bool starts_in_reasoning);

}  // namespace hylas
