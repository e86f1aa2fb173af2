#include "text/jinja/text_functions.h"

#include <utf8proc.h>

#include <algorithm>

#include "text/char_class.h"
#include "text/unicode.h"

namespace hylas::jinja {
namespace {

template <class F>
void for_each_character(std::string_view text, const F& f) {
  const char* end = text.data() + text.size();
  for (const char* p = text.data(); p < end;) {
    Utf8Char c = decode_utf8(p, end);
    f(c.code_point, std::string_view(p, c.length));
    p += c.length;
  }
}

void append_cased(int32_t code_point, std::string_view bytes, bool is_upper, std::string& out) {
  int32_t cased = is_upper ? utf8proc_toupper(code_point) : utf8proc_tolower(code_point);
  if (cased == code_point) {
    out.append(bytes);
  } else {
    append_utf8(cased, out);
  }
}

std::string cased(std::string_view text, bool is_upper) {
  std::string out;
  out.reserve(text.size());
  for_each_character(text, [&](int32_t c, std::string_view bytes) { append_cased(c, bytes, is_upper, out); });
  return out;
}

// Upper case where a word begins, lower case elsewhere; `ends_word` says behind which characters the next one begins.
template <class F>
std::string title(std::string_view text, const F& ends_word) {
  std::string out;
  bool begins = true;
  for_each_character(text, [&](int32_t c, std::string_view bytes) {
    append_cased(c, bytes, begins, out);
    begins = ends_word(c);
  });
  return out;
}

bool in_set(int32_t code_point, const std::string* chars) {
  if (!chars) return is_python_space(code_point);
  bool found = false;
  for_each_character(*chars, [&](int32_t c, std::string_view) { found |= c == code_point; });
  return found;
}

}  // namespace

bool is_python_space(int32_t code_point) {
  return (char_classes()[code_point] & kSpace) || (code_point >= 0x1c && code_point <= 0x1f);
}

std::string_view strip(std::string_view text, Side side, const std::string* chars) {
  const char* begin = text.data();
  const char* end = begin + text.size();
  while (side != Side::kRight && begin < end) {
    Utf8Char c = decode_utf8(begin, end);
    if (!in_set(c.code_point, chars)) break;
    begin += c.length;
  }
  while (side != Side::kLeft && begin < end) {
    const char* last = end - 1;
    while (last > begin && (*last & 0xc0) == 0x80) --last;
    if (!in_set(decode_utf8(last, end).code_point, chars)) break;
    end = last;
  }
  return {begin, static_cast<size_t>(end - begin)};
}

std::string upper(std::string_view text) { return cased(text, true); }
std::string lower(std::string_view text) { return cased(text, false); }

std::string capitalize(std::string_view text) {
  return title(text, [](int32_t) { return false; });
}

std::string title_method(std::string_view text) {
  return title(text, [](int32_t c) { return !(char_classes()[c] & kLetter); });
}

std::string title_filter(std::string_view text) {
  return title(
      text, [](int32_t c) { return is_python_space(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<'; });
}

std::vector<std::string> split(std::string_view text, const std::string* separator, int64_t count_max) {
  std::vector<std::string> parts;
  auto full = [&] { return count_max >= 0 && static_cast<int64_t>(parts.size()) >= count_max; };
  if (separator) {
    size_t begin = 0;
    while (!full()) {
      size_t found = text.find(*separator, begin);
      if (found == std::string_view::npos) break;
      parts.emplace_back(text.substr(begin, found - begin));
      begin = found + separator->size();
    }
    parts.emplace_back(text.substr(begin));
    return parts;
  }
  text = strip(text, Side::kLeft, nullptr);
  while (!text.empty()) {
    if (full()) {
      parts.emplace_back(text);
      break;
    }
    const char* p = text.data();
    const char* end = p + text.size();
    while (p < end) {
      Utf8Char c = decode_utf8(p, end);
      if (is_python_space(c.code_point)) break;
      p += c.length;
    }
    parts.emplace_back(text.data(), p);
    text = strip(text.substr(parts.back().size()), Side::kLeft, nullptr);
  }
  return parts;
}

std::vector<std::string> rsplit(std::string_view text, const std::string& separator, int64_t count_max) {
  std::vector<std::string> parts;
  while (count_max < 0 || static_cast<int64_t>(parts.size()) < count_max) {
    size_t found = text.rfind(separator);
    if (found == std::string_view::npos) break;
    parts.emplace_back(text.substr(found + separator.size()));
    text = text.substr(0, found);
  }
  parts.emplace_back(text);
  std::reverse(parts.begin(), parts.end());
  return parts;
}

std::vector<std::string> split_lines(std::string_view text) {
  std::vector<std::string> lines;
  for (size_t begin = 0; begin < text.size();) {
    size_t end = std::min(text.find_first_of("\r\n", begin), text.size());
    lines.emplace_back(text.substr(begin, end - begin));
    begin = end + (text.substr(end, 2) == "\r\n" ? 2 : 1);
  }
  return lines;
}

std::string replace(std::string_view text, std::string_view from, std::string_view to, int64_t count_max,
                    size_t bytes_max) {
  std::string out;
  size_t begin = 0;
  for (int64_t count = 0; count_max < 0 || count < count_max; ++count) {
    if (out.size() > bytes_max) return out;
    if (from.empty()) {  // between all characters
      if (begin > text.size()) break;
      out += to;
      if (begin == text.size()) return out;
      size_t length = decode_utf8(text.data() + begin, text.data() + text.size()).length;
      out += text.substr(begin, length);
      begin += length;
      continue;
    }
    size_t found = text.find(from, begin);
    if (found == std::string_view::npos) break;
    out += text.substr(begin, found - begin);
    out += to;
    begin = found + from.size();
  }
  return out += text.substr(std::min(begin, text.size()));
}

}  // namespace hylas::jinja
