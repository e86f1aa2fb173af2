#include "text/jinja/lexer.h"

#include <algorithm>
#include <charconv>

#include "text/jinja/runtime.h"
#include "text/jinja/string_literal.h"

namespace hylas::jinja {
namespace {

using Kind = Token::Kind;

constexpr std::string_view kSpaces = " \t\n\r\f\v";

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_name_start(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || static_cast<unsigned char>(c) >= 0x80;
}

// \r\n and \r become \n; one newline at the end is dropped.
std::string normalize_newlines(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r' && i + 1 < source.size() && source[i + 1] == '\n') continue;
    out += source[i] == '\r' ? '\n' : source[i];
  }
  if (out.ends_with('\n')) out.pop_back();
  return out;
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(source) {}

  std::vector<Token> run() {
    while (at_ < source_.size()) {
      size_t tag = find_tag(at_);
      if (tag == std::string_view::npos) {
        push_text(source_.substr(at_));
        break;
      }
      char type = source_[tag + 1];
      char sign = char_at(tag + 2);
      std::string_view text = source_.substr(at_, tag - at_);
      if (sign == '-') {
        text = text.substr(0, text.find_last_not_of(kSpaces) + 1);
      } else if (sign != '+' && type != '{') {
        text = strip_indent(text);
      }
      push_text(text);
      advance(tag + 2 + (sign == '-' || (sign == '+' && type != '{')));
      if (type == '#') {
        skip_comment();
      } else if (type == '%' && !skip_raw()) {
        tag_body(Kind::kBlockBegin, "%}", Kind::kBlockEnd);
      } else if (type == '{') {
        tag_body(Kind::kVariableBegin, "}}", Kind::kVariableEnd);
      }
    }
    push(Kind::kEnd, {});
    return std::move(tokens_);
  }

 private:
  char char_at(size_t i) const { return i < source_.size() ? source_[i] : '\0'; }
  std::string_view rest() const { return source_.substr(at_); }
  [[noreturn]] void syntax_error(std::string_view message) const {
    fail(TemplateError::Kind::kSyntax, line_, "{}", message);
  }
  void advance(size_t to) {
    line_ += static_cast<int>(std::count(source_.begin() + at_, source_.begin() + to, '\n'));
    at_ = to;
  }
  Token& push(Kind kind, std::string_view text) {
    tokens_.push_back({kind, line_, std::string(text), {}});
    return tokens_.back();
  }
  void push_text(std::string_view text) {
    if (!text.empty()) push(Kind::kText, text);
  }
  size_t find_tag(size_t from) const {
    for (size_t i = source_.find('{', from); i != std::string_view::npos; i = source_.find('{', i + 1)) {
      char type = char_at(i + 1);
      if (type == '{' || type == '%' || type == '#') return i;
    }
    return std::string_view::npos;
  }
  // lstrip_blocks: blanks between the start of the line and a block are dropped.
  std::string_view strip_indent(std::string_view text) const {
    size_t newline = text.rfind('\n');
    size_t line_begin = newline == std::string_view::npos ? 0 : newline + 1;
    bool at_line_start = newline != std::string_view::npos || at_ == 0 || source_[at_ - 1] == '\n';
    bool blank = text.find_first_not_of(kSpaces, line_begin) == std::string_view::npos;
    return at_line_start && blank ? text.substr(0, line_begin) : text;
  }
  // Behind the closing brackets of a tag. `sign` is what stood before them: - strips all white space that follows,
  // trim_blocks drops one newline behind blocks and comments.
  void after_tag(char sign, bool trims_newline) {
    size_t to = at_;
    if (sign == '-') {
      to = std::min(source_.find_first_not_of(kSpaces, at_), source_.size());
    } else if (trims_newline && sign != '+' && char_at(at_) == '\n') {
      ++to;
    }
    advance(to);
  }
  void skip_comment() {
    size_t end = source_.find("#}", at_);
    if (end == std::string_view::npos) syntax_error("a comment {# is not closed");
    char sign = end > at_ ? source_[end - 1] : '\0';
    advance(end + 2);
    after_tag(sign, true);
  }
  // Reads "raw" or "endraw" and the end of its block at `from`; npos if something else stands there.
  size_t raw_tag_end(size_t from, std::string_view name, char& sign) const {
    auto skip_spaces = [&](size_t i) { return std::min(source_.find_first_not_of(kSpaces, i), source_.size()); };
    size_t i = skip_spaces(from);
    if (source_.substr(i, name.size()) != name) return std::string_view::npos;
    i = skip_spaces(i + name.size());
    sign = char_at(i);
    if (sign == '-' || sign == '+') ++i;
    return source_.substr(i, 2) == "%}" ? i + 2 : std::string_view::npos;
  }
  // {% raw %} ... {% endraw %}: false if the block at the cursor is another one.
  bool skip_raw() {
    char sign = '\0';
    size_t begin = raw_tag_end(at_, "raw", sign);
    if (begin == std::string_view::npos) return false;
    advance(begin);
    after_tag(sign, true);
    for (size_t tag = source_.find("{%", at_); tag != std::string_view::npos; tag = source_.find("{%", tag + 2)) {
      char before = char_at(tag + 2);
      size_t end = raw_tag_end(tag + 2 + (before == '-' || before == '+'), "endraw", sign);
      if (end == std::string_view::npos) continue;
      std::string_view text = source_.substr(at_, tag - at_);
      if (before == '-') text = text.substr(0, text.find_last_not_of(kSpaces) + 1);
      if (before != '-' && before != '+') text = strip_indent(text);
      push_text(text);
      advance(end);
      after_tag(sign, true);
      return true;
    }
    syntax_error("{% raw %} is not closed");
  }
  void tag_body(Kind begin, std::string_view close, Kind end) {
    push(begin, {});
    int tag_line = line_;
    int open_brackets = 0;
    while (true) {
      advance(std::min(source_.find_first_not_of(kSpaces, at_), source_.size()));
      if (at_ >= source_.size()) {
        fail(TemplateError::Kind::kSyntax, tag_line, "a tag is not closed: {} is missing", close);
      }
      char c = source_[at_];
      bool signed_close = (c == '-' || c == '+') && source_.substr(at_ + 1, 2) == close && (c == '-' || close == "%}");
      if (open_brackets == 0 && (rest().starts_with(close) || signed_close)) {
        push(end, {});
        advance(at_ + 2 + signed_close);
        after_tag(signed_close ? c : '\0', end == Kind::kBlockEnd);
        return;
      }
      if (c == '(' || c == '[' || c == '{') ++open_brackets;
      if (c == ')' || c == ']' || c == '}') --open_brackets;
      if (open_brackets < 0) syntax_error("a closing bracket without an opening one");
      expression_token();
    }
  }
  void expression_token() {
    char c = source_[at_];
    if (is_name_start(c)) {
      size_t end = at_;
      while (end < source_.size() && (is_name_start(source_[end]) || is_digit(source_[end]))) ++end;
      push(Kind::kName, source_.substr(at_, end - at_));
      advance(end);
    } else if (is_digit(c)) {
      number();
    } else if (c == '"' || c == '\'') {
      size_t end = at_ + 1;
      while (end < source_.size() && source_[end] != c) end += source_[end] == '\\' ? 2 : 1;
      if (end >= source_.size()) syntax_error("a string is not closed");
      push(Kind::kString, {}).literal = unescape_literal(source_.substr(at_ + 1, end - at_ - 1), line_);
      advance(end + 1);
    } else {
      operator_token();
    }
  }
  void operator_token() {
    for (std::string_view op : {"//", "**", "==", "!=", ">=", "<="}) {
      if (!rest().starts_with(op)) continue;
      push(Kind::kOperator, op);
      return advance(at_ + 2);
    }
    if (std::string_view("+-/*%~[](){}<>=.:|,").find(source_[at_]) == std::string_view::npos) {
      fail(TemplateError::Kind::kSyntax, line_, "unexpected character '{}'", source_[at_]);
    }
    push(Kind::kOperator, source_.substr(at_, 1));
    advance(at_ + 1);
  }
  void number() {
    size_t end = at_;
    auto digits = [&] {
      while (is_digit(char_at(end)) || (char_at(end) == '_' && is_digit(char_at(end + 1)))) ++end;
    };
    digits();
    bool after_dot = at_ > 0 && source_[at_ - 1] == '.';  // an index as in messages.0.role
    bool is_float = !after_dot && char_at(end) == '.' && is_digit(char_at(end + 1));
    if (is_float) ++end, digits();
    if (!after_dot && (char_at(end) | 0x20) == 'e') {
      size_t sign = char_at(end + 1) == '+' || char_at(end + 1) == '-';
      if (is_digit(char_at(end + 1 + sign))) end += 1 + sign, digits(), is_float = true;
    }
    std::string text(source_.substr(at_, end - at_));
    std::erase(text, '_');
    Token& token = push(Kind::kNumber, text);
    int64_t integer = 0;
    double real = 0;
    std::errc code = is_float ? std::from_chars(text.data(), text.data() + text.size(), real).ec
                              : std::from_chars(text.data(), text.data() + text.size(), integer).ec;
    if (code != std::errc()) syntax_error("a number is out of range");
    token.literal = is_float ? Value(real) : Value(integer);
    advance(end);
  }

  std::string_view source_;
  size_t at_ = 0;
  int line_ = 1;
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokenize(std::string_view source) {
  std::string normalized = normalize_newlines(source);
  return Lexer(normalized).run();
}

}  // namespace hylas::jinja
