// Tests: `value is name`.
#include "text/jinja/builtins.h"
#include "text/jinja/operators.h"
#include "text/jinja/text_functions.h"

namespace hylas::jinja {
namespace {

template <bool (*predicate)(const Value&)>
bool simple_test(const Value& input, const Arguments& arguments, Runtime& runtime) {
  arguments.expect("the test", {}, runtime);
  return predicate(input);
}

template <CompareOp op>
bool compare_test(const Value& input, const Arguments& arguments, Runtime& runtime) {
  arguments.expect("the test", {"other"}, runtime);
  return compare(op, input, arguments.require(0, "other", runtime), runtime);
}

bool is_defined(const Value& value) { return !value.is_undefined(); }
bool is_undefined(const Value& value) { return value.is_undefined(); }
bool is_none(const Value& value) { return value.is_none(); }
bool is_true(const Value& value) { return value.is_bool() && value.as_bool(); }
bool is_false(const Value& value) { return value.is_bool() && !value.as_bool(); }
bool is_boolean(const Value& value) { return value.is_bool(); }
bool is_integer(const Value& value) { return value.is_int(); }
bool is_float(const Value& value) { return value.is_float(); }
bool is_number(const Value& value) { return value.is_number(); }
bool is_string(const Value& value) { return value.is_string(); }
bool is_mapping(const Value& value) { return value.is_dict(); }
// Undefined has neither length nor items, but Python finds both functions on it.
bool is_sequence(const Value& value) {
  return value.is_string() || value.is_list() || value.is_dict() || value.is_undefined();
}
bool is_iterable(const Value& value) { return is_sequence(value) || value.if_loop(); }
bool is_callable(const Value& value) { return value.if_macro(); }
bool is_lower(const Value& value) {
  return value.is_string() && lower(value.as_string()) == value.as_string() &&
         upper(value.as_string()) != value.as_string();
}
bool is_upper(const Value& value) {
  return value.is_string() && upper(value.as_string()) == value.as_string() &&
         lower(value.as_string()) != value.as_string();
}

int64_t remainder(const Value& input, int64_t divisor, Runtime& runtime) {
  return binary(BinaryOp::kModulo, input, Value(divisor), runtime).as_double() != 0;
}

bool test_even(const Value& input, const Arguments& arguments, Runtime& runtime) {
  arguments.expect("even", {}, runtime);
  return remainder(input, 2, runtime) == 0;
}

bool test_odd(const Value& input, const Arguments& arguments, Runtime& runtime) {
  return !test_even(input, arguments, runtime);
}

bool test_divisible_by(const Value& input, const Arguments& arguments, Runtime& runtime) {
  arguments.expect("divisibleby", {"num"}, runtime);
  return remainder(input, arguments.integer(0, "num", 0, runtime), runtime) == 0;
}

}  // namespace

Test find_test(std::string_view name) {
  constexpr std::pair<std::string_view, Test> kTests[] = {
      {"defined", simple_test<is_defined>},
      {"undefined", simple_test<is_undefined>},
      {"none", simple_test<is_none>},
      {"true", simple_test<is_true>},
      {"false", simple_test<is_false>},
      {"boolean", simple_test<is_boolean>},
      {"integer", simple_test<is_integer>},
      {"float", simple_test<is_float>},
      {"number", simple_test<is_number>},
      {"string", simple_test<is_string>},
      {"mapping", simple_test<is_mapping>},
      {"sequence", simple_test<is_sequence>},
      {"iterable", simple_test<is_iterable>},
      {"callable", simple_test<is_callable>},
      {"lower", simple_test<is_lower>},
      {"upper", simple_test<is_upper>},
      {"even", test_even},
      {"odd", test_odd},
      {"divisibleby", test_divisible_by},
      {"in", compare_test<CompareOp::kIn>},
      {"equalto", compare_test<CompareOp::kEqual>},
      {"eq", compare_test<CompareOp::kEqual>},
      {"==", compare_test<CompareOp::kEqual>},
      {"ne", compare_test<CompareOp::kNotEqual>},
      {"!=", compare_test<CompareOp::kNotEqual>},
      {"lt", compare_test<CompareOp::kLess>},
      {"lessthan", compare_test<CompareOp::kLess>},
      {"<", compare_test<CompareOp::kLess>},
      {"le", compare_test<CompareOp::kLessEqual>},
      {"<=", compare_test<CompareOp::kLessEqual>},
      {"gt", compare_test<CompareOp::kGreater>},
      {"greaterthan", compare_test<CompareOp::kGreater>},
      {">", compare_test<CompareOp::kGreater>},
      {"ge", compare_test<CompareOp::kGreaterEqual>},
      {">=", compare_test<CompareOp::kGreaterEqual>},
  };
  for (const auto& [known, test] : kTests) {
    if (name == known) return test;
  }
  return nullptr;
}

}  // namespace hylas::jinja
