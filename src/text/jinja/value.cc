#include "text/jinja/value.h"

#include <algorithm>

namespace hylas::jinja {

Value::Value(List list) {
  list.depth = 1;
  for (const Value& item : list.items) list.depth = std::max(list.depth, 1 + item.depth());
  data_ = std::make_shared<const List>(std::move(list));
}

Value::Value(Dict dict) {
  dict.depth = 1;
  for (const auto& item : dict.items) dict.depth = std::max(dict.depth, 1 + item.second.depth());
  data_ = std::make_shared<const Dict>(std::move(dict));
}

bool Value::truthy() const {
  if (is_undefined() || is_none()) return false;
  if (is_float()) return as_double() != 0;
  if (is_number()) return as_int() != 0;
  if (is_string()) return !as_string().empty();
  if (is_list()) return !as_list().items.empty();
  if (is_dict()) return !as_dict().items.empty();
  return true;
}

int Value::depth() const {
  if (is_list()) return as_list().depth;
  if (is_dict()) return as_dict().depth;
  return 0;
}

const char* Value::type_name() const {
  constexpr const char* kNames[] = {"undefined", "none", "bool",      "int",  "float", "string",
                                    "list",      "dict", "namespace", "loop", "macro"};
  return kNames[data_.index()];
}

const Value* Dict::find(std::string_view key) const {
  for (const auto& item : items) {
    if (item.first == key) return &item.second;
  }
  return nullptr;
}

void Dict::set(std::string_view key, Value value) {
  for (auto& item : items) {
    if (item.first == key) {
      item.second = std::move(value);
      return;
    }
  }
  items.emplace_back(std::string(key), std::move(value));
}

Value Loop::attribute(std::string_view name) const {
  int64_t length = static_cast<int64_t>(items->size());
  if (name == "index0") return index0;
  if (name == "index") return index0 + 1;
  if (name == "first") return index0 == 0;
  if (name == "last") return index0 == length - 1;
  if (name == "length") return length;
  if (name == "revindex") return length - index0;
  if (name == "revindex0") return length - index0 - 1;
  if (name == "depth") return int64_t{1};  // of recursive loops, which are not supported
  if (name == "depth0") return int64_t{0};
  if (name == "previtem" && index0 > 0) return (*items)[index0 - 1];
  if (name == "nextitem" && index0 + 1 < length) return (*items)[index0 + 1];
  return {};
}

Value from_json(const boost::json::value& json) {
  switch (json.kind()) {
    case boost::json::kind::null:
      return nullptr;
    case boost::json::kind::bool_:
      return json.get_bool();
    case boost::json::kind::int64:
      return json.get_int64();
    case boost::json::kind::uint64:
      return static_cast<double>(json.get_uint64());
    case boost::json::kind::double_:
      return json.get_double();
    case boost::json::kind::string:
      return std::string(json.get_string());
    case boost::json::kind::array: {
      List list;
      list.items.reserve(json.get_array().size());
      for (const boost::json::value& item : json.get_array()) list.items.push_back(from_json(item));
      return list;
    }
    case boost::json::kind::object: {
      Dict dict;
      dict.items.reserve(json.get_object().size());
      for (const auto& [key, value] : json.get_object()) dict.items.emplace_back(std::string(key), from_json(value));
      return dict;
    }
  }
  return {};
}

}  // namespace hylas::jinja
