#pragma once
// What the request's tools say about the types of their parameters.
#include <boost/json.hpp>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace hylas {

// JSON types that a schema allows, as a set of bits.
enum JsonType : unsigned {
  kStringType = 1,
  kIntegerType = 2,
  kNumberType = 4,
  kBooleanType = 8,
  kObjectType = 16,
  kArrayType = 32,
  kNullType = 64,
};

// Immutable; may be read from any thread. Malformed tools and schemas are never an error: what they do not say is a
// string.
class ToolSchemas {
 public:
  // `tools`: [{type: "function", function: {name, parameters}}] or the bare functions.
  explicit ToolSchemas(const boost::json::array& tools);
  bool knows(std::string_view function) const { return schemas_.contains(function); }
  // In order of the request.
  const std::vector<std::string>& names() const { return names_; }
  // The types of a parameter ($ref, anyOf, oneOf, allOf, type lists, enum and const are followed). kStringType for an
  // unknown function or parameter.
  unsigned types(std::string_view function, std::string_view parameter) const;
  // The parameters' schema; null for an unknown function or one without.
  const boost::json::object* parameters(std::string_view function) const;

 private:
  std::vector<std::string> names_;
  std::map<std::string, boost::json::object, std::less<>> schemas_;
};

}  // namespace hylas
