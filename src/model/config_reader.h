#pragma once
// ConfigReader: typed reading of one JSON object of a config file, with defaults, limits and errors that name file and
// field.
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"

namespace hylas {

// A view: the object outlives it.
class ConfigReader {
 public:
  // `where` names the file, `path` the object inside it ("text_config"; empty: the top).
  ConfigReader(const json::object& from, std::string_view where, std::string_view path = {})
      : from_(&from), where_(where), path_(path) {}

  // An absent or null field is `fallback`. kInvalid: a wrong type, or a value outside [min, max].
  Result<int32_t> integer(std::string_view key, int32_t fallback, int32_t min, int32_t max) const;
  Result<double> number(std::string_view key, double fallback, double min, double max) const;
  Result<bool> boolean(std::string_view key, bool fallback) const;
  Result<std::string> text(std::string_view key, std::string_view fallback) const;
  // One integer or an array of them; empty if absent. Each within [0, max].
  Result<std::vector<int32_t>> integers(std::string_view key, int32_t max) const;
  // nullptr if absent.
  Result<const json::array*> array(std::string_view key) const;
  Result<const json::object*> object(std::string_view key) const;

  bool has(std::string_view key) const;
  ConfigReader below(std::string_view key, const json::object& child) const {
    return ConfigReader(child, where_, json::field_path(path_, key));
  }
  std::string field(std::string_view key) const { return json::field_path(path_, key); }
  const std::string& where() const { return where_; }

 private:
  Error in_file(const Error& inner) const;

  const json::object* from_;
  std::string where_;
  std::string path_;
};

}  // namespace hylas
