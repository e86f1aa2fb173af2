#pragma once
// Expressions of the template language, with Jinja's precedence.
#include <set>
#include <string>

#include "text/jinja/ast.h"
#include "text/jinja/token_stream.h"

namespace hylas::jinja {

class ExpressionParser {
 public:
  // macros: the names of all macros of the template, the only functions besides the built-in ones.
  ExpressionParser(TokenStream& tokens, const std::set<std::string>& macros) : tokens_(tokens), macros_(macros) {}

  // A conditional expression; with_tuple: `a, b` makes a tuple.
  ExprPtr parse(bool with_tuple = false);
  // Without `x if y else z`, for the iterable of a for loop.
  ExprPtr parse_without_condition();
  // `upper | trim | ...` behind `input`.
  ExprPtr parse_filters(ExprPtr input);

 private:
  ExprPtr parse_or();
  ExprPtr parse_and();
  ExprPtr parse_not();
  ExprPtr parse_compare();
  ExprPtr parse_sum();
  ExprPtr parse_concat();
  ExprPtr parse_product();
  ExprPtr parse_power();
  ExprPtr parse_unary(bool with_filters);
  ExprPtr parse_primary();
  ExprPtr parse_bracket();
  ExprPtr parse_dict();
  ExprPtr parse_postfix(ExprPtr expr);
  ExprPtr parse_subscript(ExprPtr expr);
  ExprPtr parse_call(ExprPtr callee);
  ExprPtr parse_filters_and_tests(ExprPtr expr);
  ExprPtr parse_filter(ExprPtr input);
  ExprPtr parse_test(ExprPtr input);
  void parse_arguments(Expr& call);
  ExprPtr make(Expr::Kind kind) const;
  ExprPtr add(ExprPtr parent, ExprPtr child) const;

  TokenStream& tokens_;
  const std::set<std::string>& macros_;
  int nesting_ = 0;
};

}  // namespace hylas::jinja
