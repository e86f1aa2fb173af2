// Any bytes as JSON: parsing ends with a value or an error, what was parsed prints as JSON that parses to the same
// value, and reading fields of any kind never crashes.
#include <algorithm>
#include <boost/json.hpp>
#include <string>

#include "base/check.h"
#include "base/json.h"

namespace json = hylas::json;

namespace {

// boost.json rounds some fractions by one unit in the last place, and prints infinity (1e309) as what it cannot read.
bool has_fraction(const json::value& value) {
  if (value.is_double()) return true;
  if (const json::array* array = value.if_array()) {
    return std::any_of(array->begin(), array->end(), has_fraction);
  }
  if (const json::object* object = value.if_object()) {
    return std::any_of(object->begin(), object->end(), [](const auto& field) { return has_fraction(field.value()); });
  }
  return false;
}

void check_printing(const json::value& value) {
  std::string text = boost::json::serialize(value);
  if (has_fraction(value)) return;
  auto again = json::parse(text);
  HYLAS_CHECK(again.ok() && boost::json::serialize(*again) == text);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  auto parsed = json::parse({reinterpret_cast<const char*>(data), size});
  if (!parsed.ok()) {
    HYLAS_CHECK(!parsed.error().message.empty());
    return 0;
  }
  check_printing(*parsed);
  if (const json::object* object = parsed->if_object()) {
    for (const auto& field : *object) {
      (void)json::require_string(*object, field.key());
      (void)json::optional_int(*object, field.key(), "messages[0]");
      (void)json::optional_number(*object, field.key());
      (void)json::require_object(*object, field.key());
    }
  }
  return 0;
}
