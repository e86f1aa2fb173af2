#pragma once
// tools and tool_choice of a chat request.
#include <boost/json.hpp>
#include <string>

#include "base/result.h"

namespace hylas {

struct ToolChoice {
  enum class Kind { kNone, kAuto, kRequired, kNamed };
  Kind kind = Kind::kNone;
  std::string function;  // of kNamed
};

// Checks `tools`, each {type: "function", function: {name, description, parameters}}; absent gives none. Without names
// twice.
Result<boost::json::array> parse_tools(const boost::json::object& from);
// Absent: auto if there are tools, else none. kInvalid: a choice that `tools` cannot meet.
Result<ToolChoice> parse_tool_choice(const boost::json::object& from, const boost::json::array& tools);

}  // namespace hylas
