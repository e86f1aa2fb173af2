#include "text/tool_call_parser.h"

#include "text/tool_call_machine.h"

namespace hylas {

ToolCallParser::ToolCallParser(const boost::json::array& tools, bool strict)
    : machine_(std::make_unique<ToolCallMachine>(tools, strict)) {}
ToolCallParser::~ToolCallParser() = default;

std::vector<ToolEvent> ToolCallParser::push(std::string_view text) {
  std::vector<ToolEvent> events;
  machine_->push(text, events);
  return events;
}

std::vector<ToolEvent> ToolCallParser::finish() {
  std::vector<ToolEvent> events;
  machine_->finish(events);
  return events;
}

int ToolCallParser::calls() const { return machine_->calls(); }

ToolCallOutput parse_tool_calls(const boost::json::array& tools, std::string_view text, bool strict) {
  ToolCallParser parser(tools, strict);
  ToolCallOutput output;
  auto take = [&](const std::vector<ToolEvent>& events) {
    for (const ToolEvent& event : events) {
      if (event.kind == ToolEvent::Kind::kText) output.text += event.text;
      if (event.kind == ToolEvent::Kind::kCallBegin) output.calls.push_back({event.text, {}});
      if (event.kind == ToolEvent::Kind::kArgumentsDelta) output.calls[event.index].arguments += event.text;
    }
  };
  take(parser.push(text));
  take(parser.finish());
  return output;
}

}  // namespace hylas
