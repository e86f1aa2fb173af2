#include "text/tool_schema.h"

#include <algorithm>

namespace hylas {
namespace {

namespace json = boost::json;

constexpr int kFollowMax = 16;  // nested references and alternatives

unsigned type_of_name(std::string_view name) {
  if (name == "string") return kStringType;
  if (name == "integer") return kIntegerType;
  if (name == "number") return kNumberType;
  if (name == "boolean") return kBooleanType;
  if (name == "object") return kObjectType;
  if (name == "array") return kArrayType;
  if (name == "null") return kNullType;
  return 0;
}

unsigned type_of_value(const json::value& value) {
  switch (value.kind()) {
    case json::kind::null:
      return kNullType;
    case json::kind::bool_:
      return kBooleanType;
    case json::kind::int64:
    case json::kind::uint64:
      return kIntegerType;
    case json::kind::double_:
      return kNumberType;
    case json::kind::string:
      return kStringType;
    case json::kind::array:
      return kArrayType;
    case json::kind::object:
      return kObjectType;
  }
  return 0;
}

// The schema that "#/$defs/Name" points to inside `root`; null for any other reference.
const json::object* resolve(const json::object& root, std::string_view reference) {
  if (!reference.starts_with("#")) return nullptr;
  const json::object* at = &root;
  for (std::string_view rest = reference.substr(1); !rest.empty();) {
    if (rest[0] != '/') return nullptr;
    size_t end = std::min(rest.find('/', 1), rest.size());
    const json::value* next = at->if_contains(rest.substr(1, end - 1));
    if (!next || !next->is_object()) return nullptr;
    at = &next->get_object();
    rest.remove_prefix(end);
  }
  return at;
}

// The types a schema allows; 0 if it does not say.
unsigned types_of_schema(const json::object& schema, const json::object& root, int depth) {
  if (depth > kFollowMax) return 0;
  if (const json::value* type = schema.if_contains("type")) {
    unsigned types = 0;
    if (type->is_string()) types = type_of_name(type->get_string());
    if (type->is_array()) {
      for (const json::value& name : type->get_array()) {
        if (name.is_string()) types |= type_of_name(name.get_string());
      }
    }
    if (types) return types;
  }
  if (const json::value* value = schema.if_contains("const")) return type_of_value(*value);
  if (const json::value* values = schema.if_contains("enum"); values && values->is_array()) {
    unsigned types = 0;
    for (const json::value& value : values->get_array()) types |= type_of_value(value);
    return types;
  }
  if (const json::value* reference = schema.if_contains("$ref"); reference && reference->is_string()) {
    const json::object* target = resolve(root, reference->get_string());
    return target ? types_of_schema(*target, root, depth + 1) : 0;
  }
  for (const char* key : {"anyOf", "oneOf", "allOf"}) {
    const json::value* choices = schema.if_contains(key);
    if (!choices || !choices->is_array()) continue;
    unsigned types = 0;
    for (const json::value& choice : choices->get_array()) {
      if (choice.is_object()) types |= types_of_schema(choice.get_object(), root, depth + 1);
    }
    if (types) return types;
  }
  if (schema.contains("properties")) return kObjectType;
  return schema.contains("items") ? kArrayType : 0u;
}

}  // namespace

ToolSchemas::ToolSchemas(const json::array& tools) {
  for (const json::value& tool : tools) {
    const json::object* function = tool.if_object();
    if (!function) continue;
    if (const json::value* inner = function->if_contains("function"); inner && inner->is_object()) {
      function = &inner->get_object();
    }
    const json::value* name = function->if_contains("name");
    if (!name || !name->is_string()) continue;
    const json::value* parameters = function->if_contains("parameters");
    bool has_schema = parameters && parameters->is_object();
    std::string known(name->get_string());
    if (!schemas_.contains(known)) names_.push_back(known);
    schemas_[known] = has_schema ? parameters->get_object() : json::object();
  }
}

const json::object* ToolSchemas::parameters(std::string_view function) const {
  auto found = schemas_.find(function);
  return found == schemas_.end() || found->second.empty() ? nullptr : &found->second;
}

unsigned ToolSchemas::types(std::string_view function, std::string_view parameter) const {
  const json::object* root = parameters(function);
  if (!root) return kStringType;
  const json::value* schema = nullptr;
  const json::value* properties = root->if_contains("properties");
  if (properties && properties->is_object()) schema = properties->get_object().if_contains(parameter);
  if (!schema) schema = root->if_contains("additionalProperties");
  unsigned types = schema && schema->is_object() ? types_of_schema(schema->get_object(), *root, 0) : 0;
  return types ? types : static_cast<unsigned>(kStringType);
}

}  // namespace hylas
