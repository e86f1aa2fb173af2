#include "serve/constraint_fields.h"

#include "base/json.h"

namespace hylas {
namespace {

using json::object;
using Kind = OutputConstraint::Kind;

Result<OutputConstraint> parse_response_format(const object& format, const std::string& path) {
  HYLAS_ASSIGN(std::string_view type, json::require_string(format, "type", path));
  if (type == "text") return OutputConstraint{};
  if (type == "json_object") return OutputConstraint{Kind::kJsonObject, ""};
  if (type == "json_schema") {
    HYLAS_ASSIGN(const object* holder, json::require_object(format, "json_schema", path));
    HYLAS_ASSIGN(const object* schema, json::require_object(*holder, "schema", path + ".json_schema"));
    return OutputConstraint{Kind::kJsonSchema, boost::json::serialize(*schema)};
  }
  if (type == "structural_tag") {
    return error(ErrorCode::kUnsupported, "`{}.type` structural_tag is not supported: use json_schema, regex or ebnf",
                 path);
  }
  return error(ErrorCode::kInvalid, "`{}.type` must be text, json_object or json_schema, not \"{}\"", path, type);
}

Result<OutputConstraint> parse_schema(const json::value& schema, const std::string& name) {
  if (const auto* text = schema.if_string()) {
    HYLAS_TRY(json::parse_object({text->data(), text->size()}, fmt::format("`{}`", name)));
    return OutputConstraint{Kind::kJsonSchema, std::string(text->data(), text->size())};
  }
  if (schema.is_object()) return OutputConstraint{Kind::kJsonSchema, boost::json::serialize(schema)};
  return json::wrong_kind(name, "a JSON schema, as an object or as text", schema);
}

// One of the fields; kNone if it is absent.
Result<OutputConstraint> parse_one(const object& from, std::string_view key, std::string_view path) {
  const json::value* found = from.if_contains(key);
  if (!found || found->is_null()) return OutputConstraint{};
  std::string name = json::field_path(path, key);
  if (key == "response_format") {
    if (!found->is_object()) return json::wrong_kind(name, "an object", *found);
    return parse_response_format(found->as_object(), name);
  }
  if (key == "json_schema") return parse_schema(*found, name);
  HYLAS_ASSIGN(std::string_view text, json::require_string(from, key, path));
  if (text.empty()) return error(ErrorCode::kInvalid, "`{}` is empty", name);
  return OutputConstraint{key == "regex" ? Kind::kRegex : Kind::kEbnf, std::string(text)};
}

}  // namespace

Result<OutputConstraint> parse_constraint(const object& from, std::string_view path) {
  OutputConstraint constraint;
  std::string_view chosen;
  for (std::string_view key : {"response_format", "json_schema", "regex", "ebnf"}) {
    HYLAS_ASSIGN(OutputConstraint one, parse_one(from, key, path));
    if (one.kind == Kind::kNone) continue;
    if (constraint.kind != Kind::kNone) {
      return error(ErrorCode::kInvalid, "`{}` and `{}` both say what the output must be; give one of them",
                   json::field_path(path, key), json::field_path(path, chosen));
    }
    constraint = std::move(one);
    chosen = key;
  }
  return constraint;
}

}  // namespace hylas
