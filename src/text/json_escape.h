#pragma once
// Text as the inside of a JSON string.
#include <string>
#include <string_view>

namespace hylas {

// Appends `text` escaped as the inside of a JSON string, as Python's json.dumps with ensure_ascii=False does it. Any
// cut of the text gives the same concatenation.
void append_json_escaped(std::string_view text, std::string& out);

}  // namespace hylas
