#include "text/jinja/string_literal.h"

#include <charconv>

#include "text/jinja/runtime.h"
#include "text/unicode.h"

namespace hylas::jinja {
namespace {

constexpr std::string_view kNames = "\\'\"abfnrtv";
constexpr std::string_view kMeanings = "\\'\"\a\b\f\n\r\t\v";

// `digits` hexadecimal digits at body[at].
int32_t hex_digits(std::string_view body, size_t at, size_t digits, int line) {
  std::string_view text = body.substr(std::min(at, body.size()), digits);
  uint32_t code_point = 0;
  auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), code_point, 16);
  bool surrogate = code_point >= 0xd800 && code_point < 0xe000;
  if (text.size() != digits || end != text.data() + digits || code != std::errc() || code_point > 0x10ffff ||
      surrogate) {
    fail(TemplateError::Kind::kSyntax, line, "a string has a broken \\x, \\u or \\U escape");
  }
  return static_cast<int32_t>(code_point);
}

}  // namespace

std::string unescape_literal(std::string_view body, int line) {
  std::string out;
  for (size_t i = 0; i < body.size(); ++i) {
    if (body[i] != '\\' || i + 1 == body.size()) {
      out += body[i];
      continue;
    }
    char escape = body[++i];
    size_t digits = escape == 'x' ? 2 : escape == 'u' ? 4 : escape == 'U' ? 8 : 0;
    if (size_t known = kNames.find(escape); known != std::string_view::npos) {
      out += kMeanings[known];
    } else if (digits > 0) {
      append_utf8(hex_digits(body, i + 1, digits, line), out);
      i += digits;
    } else if (escape >= '0' && escape <= '7') {
      int32_t octal = 0;
      size_t end = i;
      while (end < body.size() && end < i + 3 && body[end] >= '0' && body[end] <= '7')
        octal = octal * 8 + body[end++] - '0';
      append_utf8(octal, out);
      i = end - 1;
    } else if (escape != '\n') {
      out += '\\';
      out += escape;
    }
  }
  return out;
}

}  // namespace hylas::jinja
