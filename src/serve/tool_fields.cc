#include "serve/tool_fields.h"

#include <algorithm>
#include <set>

#include "base/json.h"

namespace hylas {
namespace {

using json::array;
using json::object;
constexpr size_t kToolsMax = 512;
constexpr size_t kNameBytesMax = 128;

bool good_name(std::string_view name) {
  auto allowed = [](unsigned char c) { return std::isalnum(c) || c == '_' || c == '-' || c == '.' || c == ':'; };
  return !name.empty() && name.size() <= kNameBytesMax && std::ranges::all_of(name, allowed);
}

Result<std::string_view> check_tool(const json::value& tool, const std::string& path) {
  if (!tool.is_object()) return json::wrong_kind(path, "an object", tool);
  const object& fields = tool.as_object();
  HYLAS_ASSIGN(auto type, json::optional_string(fields, "type", path));
  if (type && *type != "function") {
    return error(ErrorCode::kUnsupported, "`{}.type` must be function, not \"{}\"", path, *type);
  }
  HYLAS_ASSIGN(const object* function, json::require_object(fields, "function", path));
  std::string inner = path + ".function";
  HYLAS_ASSIGN(std::string_view name, json::require_string(*function, "name", inner));
  if (!good_name(name)) {
    return error(ErrorCode::kInvalid, "`{}.name` must be 1 to {} letters, digits and any of _-.:", inner,
                 kNameBytesMax);
  }
  HYLAS_TRY(json::optional_string(*function, "description", inner));
  HYLAS_TRY(json::optional_object(*function, "parameters", inner));
  return name;
}

bool has_function(const array& tools, std::string_view name) {
  return std::ranges::any_of(tools, [&](const json::value& tool) {
    const auto& found = tool.at("function").at("name").as_string();
    return std::string_view(found.data(), found.size()) == name;
  });
}

}  // namespace

Result<array> parse_tools(const object& from) {
  HYLAS_ASSIGN(const array* tools, json::optional_array(from, "tools"));
  if (!tools) return array{};
  if (tools->size() > kToolsMax) {
    return error(ErrorCode::kInvalid, "`tools` has {} tools; at most {} are allowed", tools->size(), kToolsMax);
  }
  std::set<std::string_view> names;
  for (size_t i = 0; i < tools->size(); ++i) {
    HYLAS_ASSIGN(std::string_view name, check_tool((*tools)[i], fmt::format("tools[{}]", i)));
    if (!names.insert(name).second) return error(ErrorCode::kInvalid, "`tools[{}]` has the name {} again", i, name);
  }
  return *tools;
}

Result<ToolChoice> parse_tool_choice(const object& from, const array& tools) {
  const json::value* choice = from.if_contains("tool_choice");
  if (!choice || choice->is_null()) {
    return ToolChoice{tools.empty() ? ToolChoice::Kind::kNone : ToolChoice::Kind::kAuto, ""};
  }
  ToolChoice result;
  if (const auto* word = choice->if_string()) {
    if (*word == "none") return result;
    if (*word == "auto") {
      result.kind = tools.empty() ? ToolChoice::Kind::kNone : ToolChoice::Kind::kAuto;
      return result;
    }
    if (*word != "required") {
      return error(ErrorCode::kInvalid, "`tool_choice` must be none, auto, required or name a function, not \"{}\"",
                   std::string_view(word->data(), word->size()));
    }
    result.kind = ToolChoice::Kind::kRequired;
  } else if (choice->is_object()) {
    HYLAS_ASSIGN(const object* function, json::require_object(choice->as_object(), "function", "tool_choice"));
    HYLAS_ASSIGN(std::string_view name, json::require_string(*function, "name", "tool_choice.function"));
    if (!has_function(tools, name)) {
      return error(ErrorCode::kInvalid, "`tool_choice.function.name` is {}, which is none of the tools", name);
    }
    result = {ToolChoice::Kind::kNamed, std::string(name)};
  } else {
    return json::wrong_kind("tool_choice", "a string or an object", *choice);
  }
  if (tools.empty()) return error(ErrorCode::kInvalid, "`tool_choice` asks for a call, but there are no tools");
  return result;
}

}  // namespace hylas
