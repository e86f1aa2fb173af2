// Methods of strings, lists and dictionaries. Those that change an object are not there: Hugging Face's sandbox forbids
// them too.
#include <algorithm>

#include "text/char_class.h"
#include "text/jinja/builtins.h"
#include "text/jinja/operators.h"
#include "text/jinja/python_text.h"
#include "text/jinja/text_functions.h"
#include "text/unicode.h"

namespace hylas::jinja {
namespace {

using Method = Value (*)(const Value& object, const Arguments& arguments, Runtime& runtime);

// startswith and endswith take one string or a tuple of them.
template <bool at_end>
Value method_affix(const Value& object, const Arguments& arguments, Runtime& runtime) {
  arguments.expect(at_end ? "endswith" : "startswith", {"affix"}, runtime);
  const Value& affix = arguments.require(0, "affix", runtime);
  std::vector<Value> candidates = affix.is_list() ? affix.as_list().items : std::vector<Value>{affix};
  for (const Value& candidate : candidates) {
    if (!candidate.is_string()) runtime.error("startswith and endswith need strings, not a {}", candidate.type_name());
    const std::string& text = candidate.as_string();
    if (at_end ? object.as_string().ends_with(text) : object.as_string().starts_with(text)) return true;
  }
  return false;
}

template <Side side>
Value method_strip(const Value& object, const Arguments& arguments, Runtime& runtime) {
  arguments.expect("strip", {"chars"}, runtime);
  const Value* given = arguments.get(0, "chars");
  if (!given || given->is_none()) return std::string(strip(object.as_string(), side, nullptr));
  std::string chars = arguments.text(0, "chars", {}, runtime);
  return std::string(strip(object.as_string(), side, &chars));
}

Value list_of(const std::vector<std::string>& texts, Runtime& runtime) {
  return make_list({texts.begin(), texts.end()}, runtime);
}

template <bool from_right>
Value method_split(const Value& object, const Arguments& arguments, Runtime& runtime) {
  arguments.expect("split", {"sep", "maxsplit"}, runtime);
  runtime.check_bytes(object.as_string().size());
  int64_t count = arguments.integer(1, "maxsplit", -1, runtime);
  const Value* given = arguments.get(0, "sep");
  if (!given || given->is_none()) {
    if (from_right && count >= 0) runtime.error("rsplit with a limit needs a separator");
    return list_of(split(object.as_string(), nullptr, count), runtime);
  }
  std::string separator = arguments.text(0, "sep", {}, runtime);
  if (separator.empty()) runtime.error("split with an empty separator");
  if (from_right) return list_of(rsplit(object.as_string(), separator, count), runtime);
  return list_of(split(object.as_string(), &separator, count), runtime);
}

Value method_splitlines(const Value& object, const Arguments& arguments, Runtime& runtime) {
  arguments.expect("splitlines", {}, runtime);
  return list_of(split_lines(object.as_string()), runtime);
}

template <std::string (*convert)(std::string_view)>
Value method_case(const Value& object, const Arguments& arguments, Runtime& runtime) {
  arguments.expect("the method", {}, runtime);
  return make_text(convert(object.as_string()), runtime);
}

Value method_replace(const Value& object, const Arguments& arguments, Runtime& runtime) {
  arguments.expect("replace", {"old", "new", "count"}, runtime);
  arguments.require(0, "old", runtime), arguments.require(1, "new", runtime);
  std::string from = arguments.text(0, "old", {}, runtime), to = arguments.text(1, "new", {}, runtime);
  int64_t count = arguments.integer(2, "count", -1, runtime);
  return make_text(replace(object.as_string(), from, to, count, runtime.limits.bytes_max), runtime);
}

// find and rfind: the index of a character, -1 if the text is not there.
template <bool from_right>
Value method_find(const Value& object, const Arguments& arguments, Runtime& runtime) {
  arguments.expect("find", {"sub"}, runtime);
  const std::string& text = object.as_string();
  runtime.check_bytes(text.size());
  std::string wanted = arguments.text(0, "sub", {}, runtime);
  size_t found = from_right ? text.rfind(wanted) : text.find(wanted);
  if (found == std::string::npos) return int64_t{-1};
  return length(Value(text.substr(0, found)), runtime);
}

// Of strings and lists.
Value method_count(const Value& object, const Arguments& arguments, Runtime& runtime) {
  arguments.expect("count", {"value"}, runtime);
  const Value& wanted = arguments.require(0, "value", runtime);
  int64_t count = 0;
  if (object.is_list()) {
    for (const Value& item : object.as_list().items) count += equal(item, wanted, runtime);
    return count;
  }
  std::string text = arguments.text(0, "value", {}, runtime);
  if (text.empty()) return length(object, runtime) + 1;
  const std::string& in = object.as_string();
  for (size_t at = in.find(text); at != std::string::npos; at = in.find(text, at + text.size())) ++count;
  return count;
}

Value method_join(const Value& object, const Arguments& arguments, Runtime& runtime) {
  arguments.expect("join", {"iterable"}, runtime);
  std::string out;
  bool first = true;
  for (const Value& item : iterate(arguments.require(0, "iterable", runtime), runtime)) {
    if (!item.is_string()) runtime.error("join needs strings, not a {}", item.type_name());
    if (!std::exchange(first, false)) out += object.as_string();
    out += item.as_string();
    if (out.size() > runtime.limits.bytes_max) break;
  }
  return make_text(std::move(out), runtime);
}

template <bool at_end>
Value method_remove_affix(const Value& object, const Arguments& arguments, Runtime& runtime) {
  arguments.expect("removeprefix and removesuffix", {"affix"}, runtime);
  std::string affix = arguments.text(0, "affix", {}, runtime);
  const std::string& text = object.as_string();
  if (at_end) return text.ends_with(affix) ? text.substr(0, text.size() - affix.size()) : text;
  return text.starts_with(affix) ? text.substr(affix.size()) : text;
}

template <uint8_t char_class>
Value method_is_all(const Value& object, const Arguments& arguments, Runtime& runtime) {
  arguments.expect("the method", {}, runtime);
  const std::string& text = object.as_string();
  const char* end = text.data() + text.size();
  for (const char* p = text.data(); p < end;) {
    Utf8Char c = decode_utf8(p, end);
    if (!(char_classes()[c.code_point] & char_class)) return false;
    p += c.length;
  }
  return !text.empty();
}

Value method_get(const Value& object, const Arguments& arguments, Runtime& runtime) {
  arguments.expect("get", {"key", "default"}, runtime);
  const Value& key = arguments.require(0, "key", runtime);
  const Value* otherwise = arguments.get(1, "default");
  runtime.tick(static_cast<int64_t>(object.as_dict().items.size() / 8));
  const Value* found = key.is_string() ? object.as_dict().find(key.as_string()) : nullptr;
  if (found) return *found;
  return otherwise ? *otherwise : Value(nullptr);
}

Value method_items(const Value& object, const Arguments& arguments, Runtime& runtime) {
  arguments.expect("items", {}, runtime);
  return find_filter("items")(object, {}, runtime);
}

Value method_keys(const Value& object, const Arguments& arguments, Runtime& runtime) {
  arguments.expect("keys", {}, runtime);
  return make_list(iterate(object, runtime), runtime);
}

Value method_values(const Value& object, const Arguments& arguments, Runtime& runtime) {
  arguments.expect("values", {}, runtime);
  std::vector<Value> values;
  for (const auto& item : object.as_dict().items) values.push_back(item.second);
  return make_list(std::move(values), runtime);
}

Value method_index(const Value& object, const Arguments& arguments, Runtime& runtime) {
  arguments.expect("index", {"value"}, runtime);
  const std::vector<Value>& items = object.as_list().items;
  for (size_t i = 0; i < items.size(); ++i) {
    if (equal(items[i], arguments.require(0, "value", runtime), runtime)) return static_cast<int64_t>(i);
  }
  runtime.error("index: the value is not in the list");
}

Value method_cycle(const Value& object, const Arguments& arguments, Runtime& runtime) {
  if (arguments.positional.empty()) runtime.error("cycle needs values");
  size_t at = static_cast<size_t>(object.if_loop()->index0) % arguments.positional.size();
  return arguments.positional[at];
}

struct Entry {
  std::string_view name;
  bool (*applies)(const Value&);
  Method method;
};

bool on_string(const Value& value) { return value.is_string(); }
bool on_list(const Value& value) { return value.is_list(); }
bool on_dict(const Value& value) { return value.is_dict(); }
bool on_loop(const Value& value) { return value.if_loop(); }

constexpr Entry kMethods[] = {
    {"startswith", on_string, method_affix<false>},
    {"endswith", on_string, method_affix<true>},
    {"strip", on_string, method_strip<Side::kBoth>},
    {"lstrip", on_string, method_strip<Side::kLeft>},
    {"rstrip", on_string, method_strip<Side::kRight>},
    {"split", on_string, method_split<false>},
    {"rsplit", on_string, method_split<true>},
    {"splitlines", on_string, method_splitlines},
    {"upper", on_string, method_case<upper>},
    {"lower", on_string, method_case<lower>},
    {"capitalize", on_string, method_case<capitalize>},
    {"title", on_string, method_case<title_method>},
    {"replace", on_string, method_replace},
    {"find", on_string, method_find<false>},
    {"rfind", on_string, method_find<true>},
    {"count", on_string, method_count},
    {"join", on_string, method_join},
    {"removeprefix", on_string, method_remove_affix<false>},
    {"removesuffix", on_string, method_remove_affix<true>},
    {"isdigit", on_string, method_is_all<kNumber>},
    {"isalpha", on_string, method_is_all<kLetter>},
    {"isspace", on_string, method_is_all<kSpace>},
    {"get", on_dict, method_get},
    {"items", on_dict, method_items},
    {"keys", on_dict, method_keys},
    {"values", on_dict, method_values},
    {"index", on_list, method_index},
    {"count", on_list, method_count},
    {"cycle", on_loop, method_cycle},
};

}  // namespace

bool is_method(std::string_view name) {
  return std::any_of(std::begin(kMethods), std::end(kMethods), [&](const Entry& entry) { return entry.name == name; });
}

Value call_method(const Value& object, std::string_view name, const Arguments& arguments, Runtime& runtime) {
  for (const Entry& entry : kMethods) {
    if (entry.name == name && entry.applies(object)) return entry.method(object, arguments, runtime);
  }
  runtime.error("a {} has no method '{}'", object.type_name(), name);
}

}  // namespace hylas::jinja
