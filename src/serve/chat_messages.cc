#include "serve/chat_messages.h"

#include "base/json.h"

namespace hylas {
namespace {

using json::array;
using json::object;
using json::value;

Status check_part(const value& part, const std::string& path) {
  if (!part.is_object()) return json::wrong_kind(path, "an object", part);
  HYLAS_ASSIGN(std::string_view type, json::require_string(part.as_object(), "type", path));
  if (type == "text") {
    HYLAS_TRY(json::require_string(part.as_object(), "text", path));
    return {};
  }
  bool media = type.starts_with("image") || type.starts_with("video") || type.starts_with("audio") ||
               type.starts_with("input_") || type == "file";
  return error(media ? ErrorCode::kUnsupported : ErrorCode::kInvalid,
               "`{}.type` is {}: this server takes text parts only", path, type);
}

Status check_content(const object& message, bool may_be_absent, const std::string& path) {
  const value* content = message.if_contains("content");
  if (!content || content->is_null()) {
    if (may_be_absent) return {};
    return error(ErrorCode::kInvalid, "`{}.content` is required: a string or an array of parts", path);
  }
  if (content->is_string()) return {};
  if (!content->is_array()) return json::wrong_kind(path + ".content", "a string or an array of parts", *content);
  const array& parts = content->as_array();
  for (size_t i = 0; i < parts.size(); ++i) HYLAS_TRY(check_part(parts[i], fmt::format("{}.content[{}]", path, i)));
  return {};
}

Status check_calls(const object& message, const std::string& path) {
  HYLAS_ASSIGN(const array* calls, json::optional_array(message, "tool_calls", path));
  if (!calls) return {};
  for (size_t i = 0; i < calls->size(); ++i) {
    std::string call_path = fmt::format("{}.tool_calls[{}]", path, i);
    if (!(*calls)[i].is_object()) return json::wrong_kind(call_path, "an object", (*calls)[i]);
    HYLAS_ASSIGN(const object* function, json::require_object((*calls)[i].as_object(), "function", call_path));
    call_path += ".function";
    HYLAS_TRY(json::require_string(*function, "name", call_path));
    const value* arguments = function->if_contains("arguments");
    if (!arguments) return error(ErrorCode::kInvalid, "`{}.arguments` is required: JSON text", call_path);
    if (!arguments->is_string() && !arguments->is_object()) {
      return json::wrong_kind(call_path + ".arguments", "JSON text", *arguments);
    }
  }
  return {};
}

Result<object> parse_message(const value& from, const std::string& path) {
  if (!from.is_object()) return json::wrong_kind(path, "an object", from);
  object message = from.as_object();
  HYLAS_ASSIGN(std::string_view role, json::require_string(message, "role", path));
  bool assistant = role == "assistant";
  if (!assistant && role != "system" && role != "developer" && role != "user" && role != "tool") {
    return error(ErrorCode::kInvalid, "`{}.role` must be system, developer, user, assistant or tool, not \"{}\"", path,
                 role);
  }
  HYLAS_TRY(check_content(message, assistant, path));
  if (assistant) {
    HYLAS_TRY(check_calls(message, path));
    HYLAS_TRY(json::optional_string(message, "reasoning_content", path));
  }
  if (role == "developer") message["role"] = "system";
  return message;
}

}  // namespace

Result<array> parse_messages(const object& from) {
  HYLAS_ASSIGN(const array* messages, json::require_array(from, "messages"));
  if (messages->empty()) return error(ErrorCode::kInvalid, "`messages` is empty: at least one message is needed");
  array checked;
  for (size_t i = 0; i < messages->size(); ++i) {
    HYLAS_ASSIGN(object message, parse_message((*messages)[i], fmt::format("messages[{}]", i)));
    checked.emplace_back(std::move(message));
  }
  return checked;
}

}  // namespace hylas
