#include "text/tool_call_format.h"

#include <algorithm>
#include <string>

#include "text/tool_schema.h"

namespace hylas {
namespace {

namespace json = boost::json;

json::object const_string(std::string text) { return {{"type", "const_string"}, {"value", std::move(text)}}; }

json::object sequence(json::array elements) { return {{"type", "sequence"}, {"elements", std::move(elements)}}; }

// xgrammar's own form of a schema; at most one character of white space wherever it allows any.
json::object schema_format(const char* style, json::object schema) {
  return {{"type", "json_schema"}, {"style", style}, {"max_whitespace_cnt", 1}, {"json_schema", std::move(schema)}};
}

// True if the parameters are a list of named ones and nothing else, so that each can be written by itself.
bool only_lists_parameters(const json::object& parameters) {
  static constexpr std::string_view kPlain[] = {"type",        "properties",          "required", "$defs",
                                                "definitions", "description",         "title",    "$schema",
                                                "strict",      "additionalProperties"};
  const json::value* properties = parameters.if_contains("properties");
  if (!properties || !properties->is_object()) return false;
  for (const auto& [key, value] : parameters) {
    if (std::find(std::begin(kPlain), std::end(kPlain), std::string_view(key)) == std::end(kPlain)) return false;
  }
  const json::value* others = parameters.if_contains("additionalProperties");
  const json::value* required = parameters.if_contains("required");
  if ((others && *others != false) || (required && !required->is_array())) return false;
  for (const json::value& name : required ? required->get_array() : json::array()) {
    if (!name.is_string() || !properties->get_object().contains(name.get_string())) return false;
  }
  for (const auto& [key, value] : properties->get_object()) {
    if (!value.is_object()) return false;
  }
  return serialize(parameters).find("\"#/properties") == std::string::npos;  // a reference to another parameter
}

// The values that an enum or const allows, strings as they are and others as JSON; empty if the schema has neither.
json::array literal_formats(const json::object& schema) {
  json::array values;
  if (const json::value* only = schema.if_contains("const")) values.push_back(*only);
  if (const json::value* listed = schema.if_contains("enum"); values.empty() && listed && listed->is_array()) {
    values = listed->get_array();
  }
  json::array formats;
  for (const json::value& value : values) {
    formats.push_back(const_string(value.is_string() ? std::string(value.get_string()) : serialize(value)));
  }
  return formats;
}

// Free text: a string about which the schema says nothing that limits it.
bool is_any_string(const json::object& schema) {
  static constexpr std::string_view kLimits[] = {"pattern", "format", "minLength", "maxLength",
                                                 "anyOf",   "oneOf",  "allOf"};
  const json::value* type = schema.if_contains("type");
  return type && *type == "string" && std::none_of(std::begin(kLimits), std::end(kLimits), [&](std::string_view limit) {
           return schema.contains(limit);
         });
}

// <parameter=NAME>, the value on lines of its own, </parameter> and a line break.
json::object parameter_format(const std::string& name, const json::object& schema, unsigned types,
                              const json::object& parameters) {
  json::object value;
  if (json::array literals = literal_formats(schema); !literals.empty()) {
    value = {{"type", "or"}, {"elements", std::move(literals)}};
  } else if (is_any_string(schema)) {
    value = {{"type", "any_text"}, {"excludes", json::array{"</parameter>"}}};
  } else {
    json::object definitions;
    for (const char* key : {"$defs", "definitions"}) {
      if (const json::value* found = parameters.if_contains(key)) definitions[key] = *found;
    }
    if (types & kStringType) {  // text or JSON: xgrammar knows how to write them without quotes
      json::object one = std::move(definitions);
      one["type"] = "object";
      one["properties"] = json::object{{name, schema}};
      one["required"] = json::array{json::string(name)};
      return sequence({schema_format("qwen_xml", std::move(one)), const_string("\n")});
    }
    json::object whole = schema;
    for (auto& [key, found] : definitions) whole[key] = found;
    value = schema_format("json", std::move(whole));
  }
  return sequence({const_string("<parameter=" + name + ">\n"), std::move(value), const_string("\n</parameter>\n")});
}

json::object call_format(const std::string& name, const ToolSchemas& schemas) {
  static const json::object kNoParameters{{"type", "object"}, {"properties", json::object()}};
  const json::object* known = schemas.parameters(name);
  const json::object& parameters = known ? *known : kNoParameters;
  json::array parts{const_string("\n")};
  if (only_lists_parameters(parameters)) {
    const json::value* required = parameters.if_contains("required");
    for (const auto& [key, schema] : parameters.at("properties").get_object()) {
      std::string parameter(key);
      json::object format =
          parameter_format(parameter, schema.get_object(), schemas.types(name, parameter), parameters);
      bool optional =
          !required || std::ranges::find(required->get_array(), json::value(key)) == required->get_array().end();
      if (optional) format = {{"type", "optional"}, {"content", std::move(format)}};
      parts.push_back(std::move(format));
    }
  } else {
    parts.push_back(schema_format("qwen_xml", parameters));
  }
  return {{"begin", "<tool_call>\n<function=" + name + ">"},
          {"content", sequence(std::move(parts))},
          {"end", "</function>\n</tool_call>"}};
}

}  // namespace

json::object tool_call_format(const json::array& tools, std::string_view only_function, bool parallel) {
  ToolSchemas schemas(tools);
  json::array tags;
  for (const std::string& name : schemas.names()) {
    if (only_function.empty() || name == only_function) tags.push_back(call_format(name, schemas));
  }
  return {{"type", "tags_with_separator"},
          {"tags", std::move(tags)},
          {"separator", "\n"},
          {"at_least_one", true},
          {"stop_after_first", !parallel}};
}

}  // namespace hylas
