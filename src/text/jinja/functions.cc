// Functions that every template can call.
#include <ctime>

#include "text/jinja/builtins.h"
#include "text/jinja/operators.h"
#include "text/jinja/python_text.h"

namespace hylas::jinja {
namespace {

constexpr int64_t kRangeMax = 100'000;  // as in Jinja's sandbox

Value function_range(const Arguments& arguments, Runtime& runtime) {
  arguments.expect("range", {"start", "stop", "step"}, runtime);
  int64_t start = arguments.require(0, "start", runtime).is_undefined() ? 0 : arguments.integer(0, "start", 0, runtime);
  int64_t stop = arguments.integer(1, "stop", 0, runtime), step = arguments.integer(2, "step", 1, runtime);
  if (!arguments.get(1, "stop")) stop = std::exchange(start, 0);
  if (step == 0) runtime.error("the step of range is zero");
  std::vector<Value> items;
  for (int64_t i = start; step > 0 ? i < stop : i > stop;) {
    items.emplace_back(i);
    if (static_cast<int64_t>(items.size()) > kRangeMax) runtime.error("range has more than {} items", kRangeMax);
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  return make_list(std::move(items), runtime);
}

Value function_namespace(const Arguments& arguments, Runtime& runtime) {
  auto space = std::make_shared<Namespace>();
  if (arguments.positional.size() > 1) runtime.error("namespace takes one dictionary and named arguments");
  if (!arguments.positional.empty()) {
    if (!arguments.positional[0].is_dict()) runtime.error("namespace takes a dictionary");
    space->attributes = arguments.positional[0].as_dict();
  }
  for (const auto& [name, value] : arguments.named) space->attributes.set(name, value);
  make_dict(space->attributes, runtime);  // the same limits
  return space;
}

Value function_dict(const Arguments& arguments, Runtime& runtime) {
  if (!arguments.positional.empty()) runtime.error("dict takes named arguments only");
  Dict dict;
  for (const auto& [name, value] : arguments.named) dict.set(name, value);
  return make_dict(std::move(dict), runtime);
}

Value function_raise_exception(const Arguments& arguments, Runtime& runtime) {
  arguments.expect("raise_exception", {"message"}, runtime);
  std::string message = to_text(arguments.require(0, "message", runtime), runtime);
  throw TemplateError{TemplateError::Kind::kRaised, runtime.line, std::move(message)};
}

Value function_strftime_now(const Arguments& arguments, Runtime& runtime) {
  arguments.expect("strftime_now", {"format"}, runtime);
  std::string format = arguments.text(0, "format", {}, runtime);
  if (format.empty()) return format;
  if (format.size() > 1024) runtime.error("the format of strftime_now is too long");
  std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  std::string out(64 * format.size() + 64, '\0');
  out.resize(std::strftime(out.data(), out.size(), format.c_str(), &local));
  return out;
}

}  // namespace

Function find_function(std::string_view name) {
  if (name == "range") return function_range;
  if (name == "namespace") return function_namespace;
  if (name == "dict") return function_dict;
  if (name == "raise_exception") return function_raise_exception;
  if (name == "strftime_now") return function_strftime_now;
  return nullptr;
}

}  // namespace hylas::jinja
