#pragma once
// The state machine behind ToolCallParser.
#include <string>
#include <string_view>
#include <vector>

#include "text/tool_call_parser.h"
#include "text/tool_schema.h"

namespace hylas {

// Every step takes from the held text only what no further text could change, so that the cuts of the input do not
// show.
class ToolCallMachine {
 public:
  ToolCallMachine(const boost::json::array& tools, bool strict) : schemas_(tools), strict_(strict) {}
  void push(std::string_view text, std::vector<ToolEvent>& events);
  void finish(std::vector<ToolEvent>& events);
  int calls() const { return calls_; }

 private:
  enum class State {
    kText,           // ordinary output
    kOpened,         // behind <tool_call>
    kName,           // behind <function=
    kInCall,         // between parameters
    kStray,          // text inside a call that belongs to no parameter, up to the next <
    kKey,            // behind <parameter=
    kValue,          // of a parameter
    kFunctionEnded,  // behind </function>
    kCallEnded,      // behind </tool_call>
  };
  // Each takes one step; false: more text is needed.
  bool step(std::vector<ToolEvent>& events);
  bool step_text(std::vector<ToolEvent>& events);
  bool step_opened(std::vector<ToolEvent>& events);
  bool step_name(std::vector<ToolEvent>& events);
  bool step_in_call(std::vector<ToolEvent>& events);
  bool step_stray(std::vector<ToolEvent>& events);
  bool step_key(std::vector<ToolEvent>& events);
  bool step_value(std::vector<ToolEvent>& events);
  bool step_function_ended();
  bool step_call_ended();

  void take_value(std::string_view text, std::vector<ToolEvent>& events);
  void end_value(std::vector<ToolEvent>& events);
  void begin_call(std::string name, std::vector<ToolEvent>& events);
  void end_call(std::vector<ToolEvent>& events);
  void give_back(std::vector<ToolEvent>& events);
  bool may_become(std::string_view text, std::string_view tag) const;
  void emit_text(std::string_view text, std::vector<ToolEvent>& events) const;
  void emit_arguments(std::string text, std::vector<ToolEvent>& events) const;

  ToolSchemas schemas_;
  bool strict_;
  State state_ = State::kText;
  std::string held_;     // input that no step has taken yet
  std::string opening_;  // what was taken of a call that has not begun yet
  int calls_ = 0;
  std::string function_;
  bool has_parameters_ = false;
  unsigned types_ = 0;          // of the parameter
  bool value_started_ = false;  // its leading newline is dealt with
  bool value_streams_ = false;  // it is a string for certain: its opening quote is out
  std::string value_;           // what is not out yet
};

}  // namespace hylas
