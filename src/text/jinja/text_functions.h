#pragma once
// Python's functions on text, shared by filters and methods.
#include <string>
#include <string_view>
#include <vector>

namespace hylas::jinja {

// strip, lstrip, rstrip: of the characters in `chars` (UTF-8), or of Python's white space where it is null.
enum class Side { kBoth, kLeft, kRight };
std::string_view strip(std::string_view text, Side side, const std::string* chars);

std::string upper(std::string_view text);
std::string lower(std::string_view text);
std::string capitalize(std::string_view text);
// Every word capitalized. Python's str.title begins a word behind anything but a letter, Jinja's filter behind - ( { [
// < and white space.
std::string title_method(std::string_view text);
std::string title_filter(std::string_view text);

// Without a separator: at white space, dropping empty parts. count_max < 0: no limit.
std::vector<std::string> split(std::string_view text, const std::string* separator, int64_t count_max);
// The same from the right, with a separator.
std::vector<std::string> rsplit(std::string_view text, const std::string& separator, int64_t count_max);
std::vector<std::string> split_lines(std::string_view text);
// The first count_max occurrences; all of them if it is negative. `bytes_max`: the result is cut off once it is longer.
std::string replace(std::string_view text, std::string_view from, std::string_view to, int64_t count_max,
                    size_t bytes_max);
bool is_python_space(int32_t code_point);

}  // namespace hylas::jinja
