#pragma once
// The parser's cursor over tokens.
#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja/lexer.h"
#include "text/jinja/runtime.h"

namespace hylas::jinja {

class TokenStream {
 public:
  explicit TokenStream(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  const Token& peek(size_t ahead = 0) const { return tokens_[std::min(at_ + ahead, tokens_.size() - 1)]; }
  Token next() {
    Token token = peek();
    if (token.kind != Token::Kind::kEnd) ++at_;
    return token;
  }
  bool skip_operator(std::string_view op) { return peek().is(op) && (++at_, true); }
  bool skip_name(std::string_view name) { return peek().is_name(name) && (++at_, true); }
  void expect_operator(std::string_view op) {
    if (!skip_operator(op)) syntax_error("expected '{}', found {}", op, describe(peek()));
  }
  std::string expect_name() {
    if (peek().kind != Token::Kind::kName) syntax_error("expected a name, found {}", describe(peek()));
    return next().text;
  }
  void expect_kind(Token::Kind kind, std::string_view what) {
    if (peek().kind != kind) syntax_error("expected {}, found {}", what, describe(peek()));
    ++at_;
  }
  template <class... Args>
  [[noreturn]] void syntax_error(fmt::format_string<Args...> format, Args&&... args) const {
    fail(TemplateError::Kind::kSyntax, peek().line, format, std::forward<Args>(args)...);
  }
  template <class... Args>
  [[noreturn]] void unsupported(fmt::format_string<Args...> format, Args&&... args) const {
    fail(TemplateError::Kind::kUnsupported, peek().line, format, std::forward<Args>(args)...);
  }

 private:
  static std::string describe(const Token& token) {
    switch (token.kind) {
      case Token::Kind::kVariableEnd:
        return "}}";
      case Token::Kind::kBlockEnd:
        return "%}";
      case Token::Kind::kString:
        return "a string";
      case Token::Kind::kEnd:
        return "the end of the template";
      default:
        return fmt::format("'{}'", token.text);
    }
  }

  std::vector<Token> tokens_;
  size_t at_ = 0;
};

}  // namespace hylas::jinja
