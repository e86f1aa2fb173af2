// Items, attributes and slices of values.
#include <algorithm>

#include "text/jinja/builtins.h"
#include "text/jinja/operators.h"
#include "text/unicode.h"

namespace hylas::jinja {
namespace {

// The byte offsets of the characters of a string, and its length as the last one.
std::vector<size_t> character_offsets(const std::string& text, Runtime& runtime) {
  runtime.check_items(text.size());
  std::vector<size_t> offsets;
  offsets.reserve(text.size() + 1);
  const char* end = text.data() + text.size();
  for (const char* p = text.data(); p < end; p += decode_utf8(p, end).length) offsets.push_back(p - text.data());
  offsets.push_back(text.size());
  return offsets;
}

bool is_dict_method(std::string_view name) {
  for (std::string_view method :
       {"keys", "values", "items", "get", "pop", "update", "clear", "copy", "setdefault", "popitem", "fromkeys"}) {
    if (name == method) return true;
  }
  return false;
}

std::optional<int64_t> slice_bound(const Value* value, Runtime& runtime) {
  if (!value || value->is_none()) return std::nullopt;
  if (!value->is_int() && !value->is_bool()) runtime.error("a slice needs integers, not a {}", value->type_name());
  return value->as_int();
}

// The indices that Python's [start:stop:step] picks out of `size` items.
std::vector<int64_t> slice_indices(int64_t size, const Value* start, const Value* stop, const Value* step,
                                   Runtime& runtime) {
  int64_t stride = slice_bound(step, runtime).value_or(1);
  if (stride == 0) runtime.error("the step of a slice is zero");
  int64_t low = stride > 0 ? 0 : -1, high = stride > 0 ? size : size - 1;
  auto clamp = [&](const Value* bound, int64_t otherwise) {
    std::optional<int64_t> index = slice_bound(bound, runtime);
    if (!index) return otherwise;
    return std::clamp(*index < 0 ? *index + size : *index, low, high);
  };
  int64_t first = clamp(start, stride > 0 ? low : high), last = clamp(stop, stride > 0 ? high : low);
  stride = std::clamp(stride, -size - 1, size + 1);
  std::vector<int64_t> indices;
  for (int64_t i = first; stride > 0 ? i < last : i > last; i += stride) indices.push_back(i);
  return indices;
}

}  // namespace

std::vector<Value> iterate(const Value& value, Runtime& runtime) {
  std::vector<Value> items;
  if (value.is_list()) {
    items = value.as_list().items;
  } else if (value.is_dict()) {
    for (const auto& item : value.as_dict().items) items.emplace_back(item.first);
  } else if (value.is_string()) {
    const std::string& text = value.as_string();
    std::vector<size_t> offsets = character_offsets(text, runtime);
    for (size_t i = 0; i + 1 < offsets.size(); ++i) {
      items.emplace_back(text.substr(offsets[i], offsets[i + 1] - offsets[i]));
    }
  } else if (!value.is_undefined()) {
    runtime.error("a {} has no items", value.type_name());
  }
  runtime.check_items(items.size());
  return items;
}

int64_t length(const Value& value, Runtime& runtime) {
  if (value.is_list()) return static_cast<int64_t>(value.as_list().items.size());
  if (value.is_dict()) return static_cast<int64_t>(value.as_dict().items.size());
  if (value.is_undefined()) return 0;
  if (!value.is_string()) runtime.error("a {} has no length", value.type_name());
  const std::string& text = value.as_string();
  runtime.tick(static_cast<int64_t>(text.size() / 64));
  return std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; });
}

Value attribute(const Value& object, std::string_view name, Runtime& runtime) {
  if (object.is_undefined()) runtime.error("an undefined value has no attribute '{}'", name);
  if (object.is_dict()) {
    // As in Python, a method hides an item of the same name; ['items'] reaches the item.
    if (is_dict_method(name)) return Macro{nullptr, nullptr};
    runtime.tick(static_cast<int64_t>(object.as_dict().items.size() / 8));
    const Value* found = object.as_dict().find(name);
    return found ? *found : Value();
  }
  if (const Namespace* space = object.if_namespace()) {
    const Value* found = space->attributes.find(name);
    return found ? *found : Value();
  }
  if (const Loop* loop = object.if_loop()) return loop->attribute(name);
  return {};
}

Value item(const Value& object, const Value& index, Runtime& runtime) {
  if (object.is_undefined()) runtime.error("an undefined value has no items");
  if (object.is_dict() && index.is_string()) {
    runtime.tick(static_cast<int64_t>(object.as_dict().items.size() / 8));
    if (const Value* found = object.as_dict().find(index.as_string())) return *found;
  }
  if (index.is_string()) return attribute(object, index.as_string(), runtime);
  if (!index.is_int() && !index.is_bool()) return {};
  int64_t at = index.as_int();
  if (object.is_list()) {
    const std::vector<Value>& items = object.as_list().items;
    if (at < 0) at += static_cast<int64_t>(items.size());
    return at >= 0 && at < static_cast<int64_t>(items.size()) ? items[at] : Value();
  }
  if (!object.is_string()) return {};
  const std::string& text = object.as_string();
  std::vector<size_t> offsets = character_offsets(text, runtime);
  int64_t size = static_cast<int64_t>(offsets.size()) - 1;
  if (at < 0) at += size;
  return at >= 0 && at < size ? Value(text.substr(offsets[at], offsets[at + 1] - offsets[at])) : Value();
}

Value slice(const Value& object, const Value* start, const Value* stop, const Value* step, Runtime& runtime) {
  if (object.is_string()) {
    const std::string& text = object.as_string();
    std::vector<size_t> offsets = character_offsets(text, runtime);
    std::string out;
    for (int64_t i : slice_indices(static_cast<int64_t>(offsets.size()) - 1, start, stop, step, runtime)) {
      out.append(text, offsets[i], offsets[i + 1] - offsets[i]);
    }
    return out;
  }
  if (!object.is_list()) runtime.error("a {} cannot be sliced", object.type_name());
  const List& list = object.as_list();
  std::vector<Value> items;
  for (int64_t i : slice_indices(static_cast<int64_t>(list.items.size()), start, stop, step, runtime)) {
    items.push_back(list.items[i]);
  }
  return make_list(std::move(items), runtime, list.is_tuple);
}

}  // namespace hylas::jinja
