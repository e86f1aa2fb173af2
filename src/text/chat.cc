#include "text/chat.h"

#include "base/json.h"

namespace hylas {
namespace {

// OpenAI sends a call's arguments as JSON text; templates want the mapping.
Status parse_arguments(json::value& call, const std::string& path) {
  json::object* object = call.if_object();
  if (!object) return {};
  json::value* function = object->if_contains("function");
  json::object* callee = function ? function->if_object() : object;
  json::value* arguments = callee ? callee->if_contains("arguments") : nullptr;
  if (!arguments || !arguments->is_string()) return {};
  std::string_view text = arguments->get_string();
  if (text.find_first_not_of(" \t\r\n") == std::string_view::npos) {
    *arguments = json::object();
    return {};
  }
  HYLAS_ASSIGN(json::object parsed, json::parse_object(text, path + ".function.arguments"));
  *arguments = std::move(parsed);
  return {};
}

Status prepare_message(json::value& message, size_t index) {
  json::object* object = message.if_object();
  if (!object) return {};
  if (!object->contains("content")) (*object)["content"] = nullptr;
  json::value* calls = object->if_contains("tool_calls");
  if (!calls || !calls->is_array()) return {};
  for (size_t i = 0; i < calls->get_array().size(); ++i) {
    HYLAS_TRY(parse_arguments(calls->get_array()[i], fmt::format("messages[{}].tool_calls[{}]", index, i)));
  }
  return {};
}

}  // namespace

Result<std::string> render_chat(const ChatTemplate& chat_template, const ChatPrompt& prompt) {
  json::object context = chat_template.special_tokens();
  json::array messages = prompt.messages;
  for (size_t i = 0; i < messages.size(); ++i) HYLAS_TRY(prepare_message(messages[i], i));
  context["messages"] = std::move(messages);
  if (prompt.tools.empty()) {
    context["tools"] = nullptr;
  } else {
    context["tools"] = prompt.tools;
  }
  context["add_generation_prompt"] = prompt.add_generation_prompt;
  for (const auto& [key, value] : prompt.template_kwargs) context[key] = value;
  return chat_template.render(context);
}

}  // namespace hylas
