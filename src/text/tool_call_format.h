#pragma once
// The form in which the family writes tool calls, as xgrammar's structural tags describe it.
#include <boost/json.hpp>
#include <string_view>

namespace hylas {

// The format of one or more calls, separated by one line break: of any of the functions, or of `only_function` if that
// is not empty; with `parallel` false of exactly one. Its "tags" are empty if no function is left. A call is what the
// chat template renders: no white space is free, but for single characters between the parts of a JSON value.
boost::json::object tool_call_format(const boost::json::array& tools, std::string_view only_function, bool parallel);

}  // namespace hylas
