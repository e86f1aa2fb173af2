#include "model/config_reader.h"

namespace hylas {

Error ConfigReader::in_file(const Error& inner) const { return error(inner.code, "{}: {}", where_, inner.message); }

bool ConfigReader::has(std::string_view key) const {
  const json::value* found = from_->if_contains(key);
  return found && !found->is_null();
}

Result<int32_t> ConfigReader::integer(std::string_view key, int32_t fallback, int32_t min, int32_t max) const {
  auto found = json::optional_int(*from_, key, path_);
  if (!found.ok()) return in_file(found.error());
  const int64_t value = found->value_or(fallback);
  if (value < min || value > max) {
    return error(ErrorCode::kInvalid, "{}: `{}` is {}; it must be within {} and {}", where_, field(key), value, min,
                 max);
  }
  return static_cast<int32_t>(value);
}

Result<double> ConfigReader::number(std::string_view key, double fallback, double min, double max) const {
  auto found = json::optional_number(*from_, key, path_);
  if (!found.ok()) return in_file(found.error());
  const double value = found->value_or(fallback);
  if (value < min || value > max) {
    return error(ErrorCode::kInvalid, "{}: `{}` is {}; it must be within {} and {}", where_, field(key), value, min,
                 max);
  }
  return value;
}

Result<bool> ConfigReader::boolean(std::string_view key, bool fallback) const {
  auto found = json::optional_bool(*from_, key, path_);
  if (!found.ok()) return in_file(found.error());
  return found->value_or(fallback);
}

Result<std::string> ConfigReader::text(std::string_view key, std::string_view fallback) const {
  auto found = json::optional_string(*from_, key, path_);
  if (!found.ok()) return in_file(found.error());
  return std::string(found->value_or(fallback));
}

Result<std::vector<int32_t>> ConfigReader::integers(std::string_view key, int32_t max) const {
  std::vector<int32_t> values;
  if (!has(key)) return values;
  const json::value& found = from_->at(key);
  const json::array one = {found};
  for (const json::value& item : found.is_array() ? found.get_array() : one) {
    const int64_t* value = item.if_int64();
    if (!value || *value < 0 || *value > max) {
      return error(ErrorCode::kInvalid, "{}: `{}` must be an integer, or several, within 0 and {}, not {}", where_,
                   field(key), max, boost::json::serialize(item));
    }
    values.push_back(static_cast<int32_t>(*value));
  }
  return values;
}

Result<const json::array*> ConfigReader::array(std::string_view key) const {
  auto found = json::optional_array(*from_, key, path_);
  if (!found.ok()) return in_file(found.error());
  return *found;
}

Result<const json::object*> ConfigReader::object(std::string_view key) const {
  auto found = json::optional_object(*from_, key, path_);
  if (!found.ok()) return in_file(found.error());
  return *found;
}

}  // namespace hylas
