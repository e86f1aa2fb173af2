#pragma once
// The messages of a chat request: checked, and brought into the form that chat templates read.
#include <boost/json.hpp>

#include "base/result.h"

namespace hylas {

// `messages` of the request. Roles: system, developer (as system), user, assistant, tool. Content: a string, an array
// of text parts, or, for an assistant, null. kUnsupported: images, video and audio.
Result<boost::json::array> parse_messages(const boost::json::object& from);

}  // namespace hylas
