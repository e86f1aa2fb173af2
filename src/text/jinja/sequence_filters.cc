// Filters on lists and dictionaries.
#include <algorithm>

#include "text/jinja/builtins.h"
#include "text/jinja/operators.h"
#include "text/jinja/python_text.h"
#include "text/jinja/text_functions.h"

namespace hylas::jinja {
namespace {

// The attribute or item that a dotted path such as "function.name" reaches.
Value at_path(Value value, std::string_view path, Runtime& runtime) {
  while (!path.empty()) {
    size_t dot = std::min(path.find('.'), path.size());
    value = item(value, Value(std::string(path.substr(0, dot))), runtime);
    path.remove_prefix(std::min(dot + 1, path.size()));
  }
  return value;
}

// What items are compared by: themselves or an attribute, without case unless asked for.
Value sort_key(const Value& value, const Value* path, bool case_sensitive, Runtime& runtime) {
  Value key = path && path->is_string() ? at_path(value, path->as_string(), runtime) : value;
  return key.is_string() && !case_sensitive ? Value(lower(key.as_string())) : key;
}

Value filter_length(const Value& input, const Arguments& arguments, Runtime& runtime) {
  arguments.expect("length", {}, runtime);
  return length(input, runtime);
}

Value filter_first(const Value& input, const Arguments& arguments, Runtime& runtime) {
  arguments.expect("first", {}, runtime);
  std::vector<Value> items = iterate(input, runtime);
  return items.empty() ? Value() : items.front();
}

Value filter_last(const Value& input, const Arguments& arguments, Runtime& runtime) {
  arguments.expect("last", {}, runtime);
  std::vector<Value> items = iterate(input, runtime);
  return items.empty() ? Value() : items.back();
}

Value filter_list(const Value& input, const Arguments& arguments, Runtime& runtime) {
  arguments.expect("list", {}, runtime);
  return make_list(iterate(input, runtime), runtime);
}

Value filter_join(const Value& input, const Arguments& arguments, Runtime& runtime) {
  arguments.expect("join", {"d", "attribute"}, runtime);
  const Value* separator = arguments.get(0, "d");
  const Value* path = arguments.get(1, "attribute");
  std::string between = separator ? to_text(*separator, runtime) : std::string(), out;
  bool first = true;
  for (const Value& value : iterate(input, runtime)) {
    if (!std::exchange(first, false)) out += between;
    out += to_text(path && path->is_string() ? at_path(value, path->as_string(), runtime) : value, runtime);
    if (out.size() > runtime.limits.bytes_max) break;
  }
  return make_text(std::move(out), runtime);
}

Value filter_reverse(const Value& input, const Arguments& arguments, Runtime& runtime) {
  arguments.expect("reverse", {}, runtime);
  std::vector<Value> items = iterate(input, runtime);
  std::reverse(items.begin(), items.end());
  if (!input.is_string()) return make_list(std::move(items), runtime);
  std::string text;
  for (const Value& character : items) text += character.as_string();
  return text;
}

Value filter_sort(const Value& input, const Arguments& arguments, Runtime& runtime) {
  arguments.expect("sort", {"reverse", "case_sensitive", "attribute"}, runtime);
  std::vector<std::pair<Value, Value>> keyed;
  for (const Value& value : iterate(input, runtime)) {
    Value key = sort_key(value, arguments.get(2, "attribute"), arguments.flag(1, "case_sensitive", false), runtime);
    if (!keyed.empty()) less(key, keyed.front().first, runtime);  // an error before sorting begins
    keyed.emplace_back(std::move(key), value);
  }
  bool reverse = arguments.flag(0, "reverse", false);
  std::stable_sort(keyed.begin(), keyed.end(), [&](const auto& a, const auto& b) {
    return reverse ? less(b.first, a.first, runtime) : less(a.first, b.first, runtime);
  });
  std::vector<Value> items;
  for (auto& entry : keyed) items.push_back(std::move(entry.second));
  return make_list(std::move(items), runtime);
}

Value filter_unique(const Value& input, const Arguments& arguments, Runtime& runtime) {
  arguments.expect("unique", {"case_sensitive", "attribute"}, runtime);
  std::vector<Value> items, keys;
  for (const Value& value : iterate(input, runtime)) {
    Value key = sort_key(value, arguments.get(1, "attribute"), arguments.flag(0, "case_sensitive", false), runtime);
    bool seen = false;
    for (const Value& other : keys) seen |= equal(key, other, runtime);
    if (seen) continue;
    keys.push_back(std::move(key));
    items.push_back(value);
  }
  return make_list(std::move(items), runtime);
}

Value filter_sum(const Value& input, const Arguments& arguments, Runtime& runtime) {
  arguments.expect("sum", {"attribute", "start"}, runtime);
  const Value* path = arguments.get(0, "attribute");
  const Value* start = arguments.get(1, "start");
  Value total = start ? *start : Value(int64_t{0});
  for (const Value& value : iterate(input, runtime)) {
    Value term = path && path->is_string() ? at_path(value, path->as_string(), runtime) : value;
    total = binary(BinaryOp::kAdd, total, term, runtime);
  }
  return total;
}

template <bool want_less>
Value filter_extreme(const Value& input, const Arguments& arguments, Runtime& runtime) {
  arguments.expect(want_less ? "min" : "max", {"case_sensitive", "attribute"}, runtime);
  Value best, best_key;
  for (const Value& value : iterate(input, runtime)) {
    Value key = sort_key(value, arguments.get(1, "attribute"), arguments.flag(0, "case_sensitive", false), runtime);
    bool better = best.is_undefined() || (want_less ? less(key, best_key, runtime) : less(best_key, key, runtime));
    if (better) best = value, best_key = std::move(key);
  }
  return best;
}

Value pairs(const Dict& dict, Runtime& runtime) {
  std::vector<Value> items;
  for (const auto& [key, value] : dict.items) items.push_back(make_list({Value(key), value}, runtime, true));
  return make_list(std::move(items), runtime);
}

Value filter_items(const Value& input, const Arguments& arguments, Runtime& runtime) {
  arguments.expect("items", {}, runtime);
  if (input.is_undefined()) return make_list({}, runtime);
  if (!input.is_dict()) runtime.error("items needs a dictionary, not a {}", input.type_name());
  return pairs(input.as_dict(), runtime);
}

Value filter_dictsort(const Value& input, const Arguments& arguments, Runtime& runtime) {
  arguments.expect("dictsort", {"case_sensitive", "by", "reverse"}, runtime);
  if (!input.is_dict()) runtime.error("dictsort needs a dictionary, not a {}", input.type_name());
  std::string by = arguments.text(1, "by", "key", runtime);
  if (by != "key" && by != "value") runtime.error("dictsort sorts by key or value, not by '{}'", by);
  bool case_sensitive = arguments.flag(0, "case_sensitive", false), reverse = arguments.flag(2, "reverse", false);
  std::vector<Value> items = iterate(pairs(input.as_dict(), runtime), runtime);
  std::stable_sort(items.begin(), items.end(), [&](const Value& a, const Value& b) {
    Value index(int64_t{by == "value"});
    Value x = sort_key(item(a, index, runtime), nullptr, case_sensitive, runtime);
    Value y = sort_key(item(b, index, runtime), nullptr, case_sensitive, runtime);
    return reverse ? less(y, x, runtime) : less(x, y, runtime);
  });
  return make_list(std::move(items), runtime);
}

Value filter_default(const Value& input, const Arguments& arguments, Runtime& runtime) {
  arguments.expect("default", {"default_value", "boolean"}, runtime);
  bool replaces = input.is_undefined() || (arguments.flag(1, "boolean", false) && !input.truthy());
  if (!replaces) return input;
  const Value* otherwise = arguments.get(0, "default_value");
  return otherwise ? *otherwise : Value(std::string());
}

Value filter_attr(const Value& input, const Arguments& arguments, Runtime& runtime) {
  arguments.expect("attr", {"name"}, runtime);
  return attribute(input, to_text(arguments.require(0, "name", runtime), runtime), runtime);
}

}  // namespace

Filter find_sequence_filter(std::string_view name) {
  constexpr std::pair<std::string_view, Filter> kFilters[] = {
      {"length", filter_length},   {"count", filter_length},      {"first", filter_first},
      {"last", filter_last},       {"list", filter_list},         {"join", filter_join},
      {"reverse", filter_reverse}, {"sort", filter_sort},         {"unique", filter_unique},
      {"sum", filter_sum},         {"min", filter_extreme<true>}, {"max", filter_extreme<false>},
      {"items", filter_items},     {"dictsort", filter_dictsort}, {"default", filter_default},
      {"d", filter_default},       {"attr", filter_attr},
  };
  for (const auto& [known, filter] : kFilters) {
    if (name == known) return filter;
  }
  return nullptr;
}

}  // namespace hylas::jinja
