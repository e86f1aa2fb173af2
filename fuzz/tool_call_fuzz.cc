// Any bytes as model output, cut anywhere: the cuts do not show, and arguments are JSON whenever the text is UTF-8.
#include <boost/json.hpp>
#include <cstdlib>

#include "text/reasoning_parser.h"
#include "text/tool_call_parser.h"
#include "text/unicode.h"

namespace {

const boost::json::array& tools() {
  static const boost::json::array parsed =
      boost::json::parse(R"([{"function": {"name": "f", "parameters": {"properties": {
    "s": {"type": "string"}, "i": {"type": "integer"}, "o": {"type": "object"},
    "n": {"type": ["string", "null"]}}}}}])")
          .as_array();
  return parsed;
}

void check_tool_calls(std::string_view text, size_t piece) {
  hylas::ToolCallOutput whole = hylas::parse_tool_calls(tools(), text), streamed;
  hylas::ToolCallParser parser(tools());
  auto take = [&](const std::vector<hylas::ToolEvent>& events) {
    for (const hylas::ToolEvent& event : events) {
      if (event.kind == hylas::ToolEvent::Kind::kText) streamed.text += event.text;
      if (event.kind == hylas::ToolEvent::Kind::kCallBegin) streamed.calls.push_back({event.text, {}});
      if (event.kind == hylas::ToolEvent::Kind::kArgumentsDelta) streamed.calls.at(event.index).arguments += event.text;
    }
  };
  for (size_t i = 0; i < text.size(); i += piece) take(parser.push(text.substr(i, piece)));
  take(parser.finish());
  if (streamed.text != whole.text || streamed.calls.size() != whole.calls.size()) std::abort();
  for (size_t i = 0; i < whole.calls.size(); ++i) {
    if (streamed.calls[i].arguments != whole.calls[i].arguments) std::abort();
    boost::json::error_code code;
    boost::json::value arguments = boost::json::parse(whole.calls[i].arguments, code);
    if (hylas::is_valid_utf8(text) && !arguments.is_object()) std::abort();
  }
}

void check_reasoning(std::string_view text, size_t piece, bool starts) {
  hylas::ReasoningSplit whole = hylas::split_reasoning(text, starts), streamed;
  hylas::ReasoningParser parser(starts);
  auto take = [&](const hylas::ReasoningSplit& split) {
    streamed.reasoning += split.reasoning, streamed.content += split.content;
  };
  for (size_t i = 0; i < text.size(); i += piece) take(parser.push(text.substr(i, piece)));
  take(parser.finish());
  if (streamed.reasoning != whole.reasoning || streamed.content != whole.content) std::abort();
}

}  // namespace

// The first byte says how the rest is cut.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  size_t piece = 1 + data[0] % 16;
  check_tool_calls(text, piece);
  check_reasoning(text, piece, data[0] & 16);
  return 0;
}
