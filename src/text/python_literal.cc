// Python's notation of dictionaries, lists, tuples, strings, numbers, True, False and None, rewritten as JSON.
#include <algorithm>

#include "text/argument_value.h"
#include "text/json_escape.h"
#include "text/unicode.h"

namespace hylas {
namespace {

class PythonLiteral {
 public:
  explicit PythonLiteral(std::string_view text) : text_(text) {}

  std::optional<std::string> convert() {
    if (!value(0)) return std::nullopt;
    skip_spaces();
    return at_ == text_.size() ? std::optional(std::move(out_)) : std::nullopt;
  }

 private:
  static constexpr int kDepthMax = 32;

  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  void skip_spaces() { at_ = std::min(text_.find_first_not_of(" \t\r\n", at_), text_.size()); }
  bool skip(char c) { return peek() == c && (++at_, true); }

  bool value(int depth) {
    if (depth > kDepthMax) return false;
    skip_spaces();
    char c = peek();
    if (c == '\'' || c == '"') return string();
    if (c == '{') return items('}', '{', '}', true, depth);
    if (c == '[') return items(']', '[', ']', false, depth);
    if (c == '(') return items(')', '[', ']', false, depth);
    return word();
  }

  // A bracketed list of values or key: value pairs, a comma behind the last one allowed.
  bool items(char close, char json_open, char json_close, bool keyed, int depth) {
    ++at_;
    out_ += json_open;
    for (bool first = true;; first = false) {
      skip_spaces();
      if (skip(close)) break;
      if (!first) {
        if (!skip(',')) return false;
        skip_spaces();
        if (skip(close)) break;
        out_ += ", ";
      }
      if (keyed) {
        if (peek() != '\'' && peek() != '"') return false;
        if (!string()) return false;
        skip_spaces();
        if (!skip(':')) return false;
        out_ += ": ";
      }
      if (!value(depth + 1)) return false;
    }
    out_ += json_close;
    return true;
  }

  bool string() {
    char quote = text_[at_++];
    std::string content;
    while (peek() != quote) {
      if (at_ >= text_.size()) return false;
      if (text_[at_] != '\\') {
        content += text_[at_++];
        continue;
      }
      ++at_;
      if (!escape(content)) return false;
    }
    ++at_;
    out_ += '"';
    append_json_escaped(content, out_);
    out_ += '"';
    return true;
  }

  bool escape(std::string& content) {
    constexpr std::string_view kNames = "\\'\"abfnrtv";
    constexpr std::string_view kMeanings = "\\'\"\a\b\f\n\r\t\v";
    if (at_ >= text_.size()) return false;
    char c = text_[at_++];
    if (size_t known = kNames.find(c); known != std::string_view::npos) {
      content += kMeanings[known];
      return true;
    }
    size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    if (digits == 0) {
      content += '\\';
      content += c;
      return true;
    }
    int64_t code_point = 0;
    for (size_t i = 0; i < digits; ++i, ++at_) {
      size_t digit = std::string_view("0123456789abcdef").find(static_cast<char>(peek() | (peek() >= 'A' ? 0x20 : 0)));
      if (digit == std::string_view::npos) return false;
      code_point = code_point * 16 + static_cast<int64_t>(digit);
    }
    if (code_point > 0x10ffff || (code_point >= 0xd800 && code_point < 0xe000)) return false;
    append_utf8(static_cast<int32_t>(code_point), content);
    return true;
  }

  bool word() {
    size_t end = std::min(text_.find_first_of(" \t\r\n,:]})", at_), text_.size());
    std::string_view word = text_.substr(at_, end - at_);
    if (word.empty()) return false;
    at_ = end;
    if (word == "True" || word == "true") {
      out_ += "true";
    } else if (word == "False" || word == "false") {
      out_ += "false";
    } else if (word == "None" || word == "null") {
      out_ += "null";
    } else {
      out_ += word;  // a number; the caller checks that the whole is JSON
    }
    return true;
  }

  std::string_view text_;
  size_t at_ = 0;
  std::string out_;
};

}  // namespace

std::optional<std::string> json_of_python_literal(std::string_view text) { return PythonLiteral(text).convert(); }

}  // namespace hylas
