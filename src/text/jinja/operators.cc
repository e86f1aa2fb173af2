#include "text/jinja/operators.h"

#include <cmath>

#include "text/jinja/python_text.h"
#include "text/unicode.h"

namespace hylas::jinja {
namespace {

bool equal_dicts(const Dict& a, const Dict& b, Runtime& runtime) {
  if (a.items.size() != b.items.size()) return false;
  for (const auto& [key, value] : a.items) {
    runtime.tick(static_cast<int64_t>(1 + b.items.size() / 8));
    const Value* other = b.find(key);
    if (!other || !equal(value, *other, runtime)) return false;
  }
  return true;
}

Value integer_result(bool overflow, const int64_t& result, Runtime& runtime) {
  if (overflow) runtime.error("an integer is out of range");
  return result;
}

Value repeat(const Value& sequence, int64_t count, Runtime& runtime) {
  count = std::max<int64_t>(count, 0);
  if (sequence.is_string()) {
    const std::string& text = sequence.as_string();
    if (!text.empty()) runtime.check_bytes(static_cast<size_t>(std::min<int64_t>(count, 1 << 30)) * text.size());
    std::string out;
    for (int64_t i = 0; i < count && !text.empty(); ++i) out += text;
    return out;
  }
  const std::vector<Value>& items = sequence.as_list().items;
  runtime.check_items(static_cast<size_t>(std::min<int64_t>(count, 1 << 30)) * items.size());
  std::vector<Value> out;
  for (int64_t i = 0; i < count && !items.empty(); ++i) out.insert(out.end(), items.begin(), items.end());
  return make_list(std::move(out), runtime);
}

Value integer_arithmetic(BinaryOp op, int64_t a, int64_t b, Runtime& runtime) {
  int64_t result = 0;
  switch (op) {
    case BinaryOp::kAdd:
      return integer_result(__builtin_add_overflow(a, b, &result), result, runtime);
    case BinaryOp::kSubtract:
      return integer_result(__builtin_sub_overflow(a, b, &result), result, runtime);
    case BinaryOp::kMultiply:
      return integer_result(__builtin_mul_overflow(a, b, &result), result, runtime);
    case BinaryOp::kDivide:
      if (b == 0) runtime.error("division by zero");
      return static_cast<double>(a) / static_cast<double>(b);
    case BinaryOp::kFloorDivide:
    case BinaryOp::kModulo: {
      if (b == 0) runtime.error("division by zero");
      if (b == -1) return op == BinaryOp::kModulo ? Value(int64_t{0}) : negate(a, runtime);
      int64_t quotient = a / b, remainder = a % b;
      if (remainder != 0 && (remainder < 0) != (b < 0)) --quotient, remainder += b;
      return op == BinaryOp::kModulo ? remainder : quotient;
    }
    case BinaryOp::kPower:
      break;
  }
  if (b < 0) return std::pow(static_cast<double>(a), static_cast<double>(b));
  int64_t power = 1;
  for (int64_t i = 0; i < b; ++i) {
    runtime.tick();
    if (__builtin_mul_overflow(power, a, &power)) return integer_result(true, 0, runtime);
  }
  return power;
}

Value float_arithmetic(BinaryOp op, double a, double b, Runtime& runtime) {
  bool divides = op == BinaryOp::kDivide || op == BinaryOp::kFloorDivide || op == BinaryOp::kModulo;
  if (divides && b == 0) runtime.error("division by zero");
  switch (op) {
    case BinaryOp::kAdd:
      return a + b;
    case BinaryOp::kSubtract:
      return a - b;
    case BinaryOp::kMultiply:
      return a * b;
    case BinaryOp::kDivide:
      return a / b;
    case BinaryOp::kFloorDivide:
      return std::floor(a / b);
    case BinaryOp::kModulo:
      return a - b * std::floor(a / b);
    case BinaryOp::kPower:
      return std::pow(a, b);
  }
  return {};
}

Value add_lists(const Value& a, const Value& b, Runtime& runtime) {
  runtime.check_items(a.as_list().items.size() + b.as_list().items.size());
  std::vector<Value> items = a.as_list().items;
  items.insert(items.end(), b.as_list().items.begin(), b.as_list().items.end());
  return make_list(std::move(items), runtime, a.as_list().is_tuple);
}

}  // namespace

bool equal(const Value& a, const Value& b, Runtime& runtime) {
  runtime.tick();
  if (a.is_number() && b.is_number()) {
    if (a.is_float() || b.is_float()) return a.as_double() == b.as_double();
    return a.as_int() == b.as_int();
  }
  if (a.is_string() && b.is_string()) return a.as_string() == b.as_string();
  if (a.is_dict() && b.is_dict()) return equal_dicts(a.as_dict(), b.as_dict(), runtime);
  if (a.is_list() && b.is_list()) {
    const List &x = a.as_list(), &y = b.as_list();
    if (x.is_tuple != y.is_tuple || x.items.size() != y.items.size()) return false;
    for (size_t i = 0; i < x.items.size(); ++i) {
      if (!equal(x.items[i], y.items[i], runtime)) return false;
    }
    return true;
  }
  if (a.if_namespace() || b.if_namespace()) return a.if_namespace() == b.if_namespace();
  return (a.is_none() && b.is_none()) || (a.is_undefined() && b.is_undefined());
}

bool less(const Value& a, const Value& b, Runtime& runtime) {
  runtime.tick();
  if (a.is_number() && b.is_number()) {
    if (a.is_float() || b.is_float()) return a.as_double() < b.as_double();
    return a.as_int() < b.as_int();
  }
  if (a.is_string() && b.is_string()) return a.as_string() < b.as_string();
  if (a.is_list() && b.is_list()) {
    const std::vector<Value>&x = a.as_list().items, &y = b.as_list().items;
    for (size_t i = 0; i < x.size() && i < y.size(); ++i) {
      if (!equal(x[i], y[i], runtime)) return less(x[i], y[i], runtime);
    }
    return x.size() < y.size();
  }
  runtime.error("a {} and a {} have no order", a.type_name(), b.type_name());
}

bool contains(const Value& container, const Value& item, Runtime& runtime) {
  if (container.is_string()) {
    if (!item.is_string()) runtime.error("'in' of a string needs a string, not a {}", item.type_name());
    runtime.tick(static_cast<int64_t>(container.as_string().size() / 64));
    return container.as_string().find(item.as_string()) != std::string::npos;
  }
  if (container.is_dict()) {
    runtime.tick(static_cast<int64_t>(container.as_dict().items.size() / 8));
    return item.is_string() && container.as_dict().find(item.as_string());
  }
  if (container.is_undefined()) return false;
  if (!container.is_list()) runtime.error("'in' needs a container, not a {}", container.type_name());
  for (const Value& candidate : container.as_list().items) {
    if (equal(candidate, item, runtime)) return true;
  }
  return false;
}

bool compare(CompareOp op, const Value& a, const Value& b, Runtime& runtime) {
  switch (op) {
    case CompareOp::kEqual:
      return equal(a, b, runtime);
    case CompareOp::kNotEqual:
      return !equal(a, b, runtime);
    case CompareOp::kLess:
      return less(a, b, runtime);
    case CompareOp::kLessEqual:
      return less(a, b, runtime) || equal(a, b, runtime);
    case CompareOp::kGreater:
      return less(b, a, runtime);
    case CompareOp::kGreaterEqual:
      return less(b, a, runtime) || equal(a, b, runtime);
    case CompareOp::kIn:
      return contains(b, a, runtime);
    case CompareOp::kNotIn:
      return !contains(b, a, runtime);
  }
  return false;
}

Value binary(BinaryOp op, const Value& a, const Value& b, Runtime& runtime) {
  if (a.is_number() && b.is_number()) {
    if (a.is_float() || b.is_float()) return float_arithmetic(op, a.as_double(), b.as_double(), runtime);
    return integer_arithmetic(op, a.as_int(), b.as_int(), runtime);
  }
  if (op == BinaryOp::kAdd) {
    if (a.is_string() && b.is_string()) {
      runtime.check_bytes(a.as_string().size() + b.as_string().size());
      return a.as_string() + b.as_string();
    }
    if (a.is_list() && b.is_list() && a.as_list().is_tuple == b.as_list().is_tuple) return add_lists(a, b, runtime);
  }
  if (op == BinaryOp::kMultiply) {
    if ((a.is_string() || a.is_list()) && (b.is_int() || b.is_bool())) return repeat(a, b.as_int(), runtime);
    if ((b.is_string() || b.is_list()) && (a.is_int() || a.is_bool())) return repeat(b, a.as_int(), runtime);
  }
  constexpr const char* kSymbols[] = {"+", "-", "*", "/", "//", "%", "**"};
  runtime.error("'{}' is not supported between a {} and a {}", kSymbols[static_cast<int>(op)], a.type_name(),
                b.type_name());
}

Value negate(const Value& value, Runtime& runtime) {
  if (value.is_float()) return -value.as_double();
  if (!value.is_number()) runtime.error("'-' needs a number, not a {}", value.type_name());
  int64_t result = 0;
  return integer_result(__builtin_sub_overflow(int64_t{0}, value.as_int(), &result), result, runtime);
}

Value make_list(std::vector<Value> items, Runtime& runtime, bool is_tuple) {
  runtime.check_items(items.size());
  for (const Value& item : items) {
    if (!item.is_data()) runtime.error("a {} cannot be an item of a list", item.type_name());
  }
  Value list(List{std::move(items), is_tuple});
  if (list.depth() > runtime.limits.value_depth_max) runtime.error("a list is nested too deep");
  return list;
}

Value make_dict(Dict dict, Runtime& runtime) {
  runtime.check_items(dict.items.size());
  for (const auto& [key, value] : dict.items) {
    if (!value.is_data()) runtime.error("a {} cannot be a value of a dictionary", value.type_name());
  }
  Value made(std::move(dict));
  if (made.depth() > runtime.limits.value_depth_max) runtime.error("a dictionary is nested too deep");
  return made;
}

Value make_text(std::string text, Runtime& runtime) {
  runtime.check_bytes(text.size());
  return text;
}

}  // namespace hylas::jinja
