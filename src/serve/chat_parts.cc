#include "serve/chat_parts.h"

namespace hylas {

ChatParts::ChatParts(const ChatPartsOptions& options) : stream_reasoning_(options.stream_reasoning) {
  if (options.split_reasoning) reasoning_.emplace(options.starts_in_reasoning);
  if (options.tools) tools_ = std::make_unique<ToolCallParser>(*options.tools);
}

std::vector<ChatPart> ChatParts::push(std::string_view text) {
  std::vector<ChatPart> parts;
  if (reasoning_) {
    take(reasoning_->push(text), parts);
  } else {
    take_content(text, parts);
  }
  return parts;
}

std::vector<ChatPart> ChatParts::finish() {
  std::vector<ChatPart> parts;
  if (reasoning_) take(reasoning_->finish(), parts);
  if (!held_reasoning_.empty()) parts.push_back({ChatPart::Kind::kReasoning, std::move(held_reasoning_)});
  held_reasoning_.clear();
  if (tools_) add_events(tools_->finish(), parts);
  return parts;
}

void ChatParts::take(const ReasoningSplit& split, std::vector<ChatPart>& parts) {
  held_reasoning_ += split.reasoning;
  if (!held_reasoning_.empty() && (stream_reasoning_ || !reasoning_->in_reasoning())) {
    parts.push_back({ChatPart::Kind::kReasoning, std::move(held_reasoning_)});
    held_reasoning_.clear();
  }
  take_content(split.content, parts);
}

void ChatParts::take_content(std::string_view text, std::vector<ChatPart>& parts) {
  if (text.empty()) return;
  if (tools_) {
    add_events(tools_->push(text), parts);
  } else {
    parts.push_back({ChatPart::Kind::kContent, std::string(text)});
  }
}

void ChatParts::add_events(std::vector<ToolEvent> events, std::vector<ChatPart>& parts) {
  for (ToolEvent& event : events) {
    switch (event.kind) {
      case ToolEvent::Kind::kText:
        if (!event.text.empty()) parts.push_back({ChatPart::Kind::kContent, std::move(event.text)});
        break;
      case ToolEvent::Kind::kCallBegin:
        parts.push_back({ChatPart::Kind::kCallBegin, std::move(event.text), event.index});
        break;
      case ToolEvent::Kind::kArgumentsDelta:
        parts.push_back({ChatPart::Kind::kCallArguments, std::move(event.text), event.index});
        break;
      case ToolEvent::Kind::kCallEnd:
        break;
    }
  }
}

}  // namespace hylas
