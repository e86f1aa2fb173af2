#pragma once
// Tags in streamed text: how much of its end could still become one.
#include <algorithm>
#include <initializer_list>
#include <string_view>

namespace hylas {

// Length of the longest end of `text` that is the beginning of a tag, but not all of it.
inline size_t partial_tag_length(std::string_view text, std::initializer_list<std::string_view> tags) {
  size_t longest = 0;
  for (std::string_view tag : tags) {
    for (size_t length = std::min(tag.size() - 1, text.size()); length > longest; --length) {
      if (text.ends_with(tag.substr(0, length))) longest = length;
    }
  }
  return longest;
}

}  // namespace hylas
