#pragma once
// Errors as HTTP shows them: a status, and OpenAI's {"error": {"message", "type", "param", "code"}}. Thread-safe.
#include <string>
#include <string_view>

#include "base/result.h"

namespace hylas {

int http_status(ErrorCode code);

// `param` is the field that the message begins with, in backquotes ("`top_p` must be ..."), else null.
std::string error_json(int status, std::string_view message);
std::string error_json(const Error& error);

}  // namespace hylas
