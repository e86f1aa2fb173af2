#pragma once
// The text of a tool call's parameter to JSON.
#include <optional>
#include <string>
#include <string_view>

namespace hylas {

// JSON of a parameter whose schema allows `types` (bits of JsonType): null, numbers, booleans, objects and arrays where
// the text reads as one that is allowed (objects and arrays also in Python's notation), else a string.
std::string argument_json(std::string_view text, unsigned types);

// A Python literal, such as {'a': [True, None]}, as JSON; nullopt if the text is none.
std::optional<std::string> json_of_python_literal(std::string_view text);

}  // namespace hylas
