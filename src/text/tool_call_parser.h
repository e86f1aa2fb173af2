#pragma once
// Tool-call parser "qwen3_coder": <tool_call>\n<function=NAME>\n<parameter=KEY>\nVALUE\n</parameter>...</function>\n
// </tool_call> in generated text becomes calls with JSON arguments, streamed.
#include <boost/json.hpp>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace hylas {

struct ToolEvent {
  enum class Kind {
    kText,            // text: ordinary output
    kCallBegin,       // text: the function's name; index: 0, 1, ... in order of appearance
    kArgumentsDelta,  // text: the next piece of the arguments' JSON
    kCallEnd,         // the concatenated pieces are one valid JSON object now
  };
  Kind kind;
  int index = -1;  // of the call; -1 for text
  std::string text;
};

class ToolCallMachine;

// One per output sequence; not thread-safe. Types come from the tool's JSON schema: string values stream as they grow,
// other values follow when complete. No split of the input changes the concatenated result.
class ToolCallParser {
 public:
  // `tools`: the request's array of {type: "function", function: {name, parameters}}. strict: a call of a function that
  // is not among them is given back as text; otherwise it passes with all values as strings.
  explicit ToolCallParser(const boost::json::array& tools, bool strict = false);
  ~ToolCallParser();
  std::vector<ToolEvent> push(std::string_view text);
  // The end of the output: held text is given back, an open call is closed so that its arguments are valid JSON.
  std::vector<ToolEvent> finish();
  int calls() const;  // begun so far

 private:
  std::unique_ptr<ToolCallMachine> machine_;
};

struct ToolCall {
  std::string name;
  std::string arguments;  // JSON object
};
struct ToolCallOutput {
  std::string text;
  std::vector<ToolCall> calls;
};
// The same for a whole output; equals the concatenation of the streamed events.
ToolCallOutput parse_tool_calls(const boost::json::array& tools, std::string_view text, bool strict = false);

}  // namespace hylas
