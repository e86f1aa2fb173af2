#include "text/jinja/expression_parser.h"

#include "text/jinja/builtins.h"

namespace hylas::jinja {
namespace {

using Kind = Expr::Kind;

constexpr int kNestingMax = 100;  // of brackets and prefix operators
constexpr int kDepthMax = 300;    // of the tree, which a long chain of operators makes deep too

bool is_reserved(std::string_view name) {
  for (std::string_view word : {"and", "or", "not", "in", "is", "if", "else", "elif", "for"}) {
    if (name == word) return true;
  }
  return false;
}

}  // namespace

ExprPtr ExpressionParser::make(Kind kind) const {
  auto expr = std::make_unique<Expr>();
  expr->kind = kind;
  expr->line = tokens_.peek().line;
  return expr;
}

ExprPtr ExpressionParser::add(ExprPtr parent, ExprPtr child) const {
  if (child) parent->depth = std::max(parent->depth, child->depth + 1);
  if (parent->depth > kDepthMax) tokens_.unsupported("an expression is nested more than {} deep", kDepthMax);
  parent->args.push_back(std::move(child));
  return parent;
}

ExprPtr ExpressionParser::parse(bool with_tuple) {
  if (++nesting_ > kNestingMax) tokens_.unsupported("an expression is nested more than {} deep", kNestingMax);
  ExprPtr expr = parse_or();
  while (tokens_.peek().is_name("if")) {
    ExprPtr conditional = make(Kind::kConditional);
    tokens_.next();
    conditional = add(std::move(conditional), std::move(expr));
    conditional = add(std::move(conditional), parse_or());
    if (tokens_.skip_name("else")) conditional = add(std::move(conditional), parse());
    expr = std::move(conditional);
  }
  if (with_tuple && tokens_.peek().is(",")) {
    ExprPtr tuple = add(make(Kind::kTuple), std::move(expr));
    while (tokens_.skip_operator(",")) {
      const Token& token = tokens_.peek();
      bool ended = token.kind == Token::Kind::kVariableEnd || token.kind == Token::Kind::kBlockEnd || token.is(")");
      if (ended) break;
      tuple = add(std::move(tuple), parse());
    }
    expr = std::move(tuple);
  }
  --nesting_;
  return expr;
}

ExprPtr ExpressionParser::parse_without_condition() {
  ExprPtr expr = parse_or();
  if (!tokens_.peek().is(",")) return expr;
  ExprPtr tuple = add(make(Kind::kTuple), std::move(expr));
  while (tokens_.skip_operator(",")) tuple = add(std::move(tuple), parse_or());
  return tuple;
}

ExprPtr ExpressionParser::parse_or() {
  ExprPtr left = parse_and();
  while (tokens_.peek().is_name("or")) {
    ExprPtr both = add(make(Kind::kOr), std::move(left));
    tokens_.next();
    left = add(std::move(both), parse_and());
  }
  return left;
}

ExprPtr ExpressionParser::parse_and() {
  ExprPtr left = parse_not();
  while (tokens_.peek().is_name("and")) {
    ExprPtr both = add(make(Kind::kAnd), std::move(left));
    tokens_.next();
    left = add(std::move(both), parse_not());
  }
  return left;
}

ExprPtr ExpressionParser::parse_not() {
  if (!tokens_.peek().is_name("not")) return parse_compare();
  if (++nesting_ > kNestingMax) tokens_.unsupported("an expression is nested more than {} deep", kNestingMax);
  ExprPtr negation = make(Kind::kNot);
  tokens_.next();
  negation = add(std::move(negation), parse_not());
  --nesting_;
  return negation;
}

ExprPtr ExpressionParser::parse_compare() {
  ExprPtr left = parse_sum();
  ExprPtr compare;
  constexpr std::pair<std::string_view, CompareOp> kOps[] = {
      {"==", CompareOp::kEqual},     {"!=", CompareOp::kNotEqual}, {"<", CompareOp::kLess},
      {"<=", CompareOp::kLessEqual}, {">", CompareOp::kGreater},   {">=", CompareOp::kGreaterEqual}};
  while (true) {
    std::optional<CompareOp> found;
    for (const auto& [text, op] : kOps) {
      if (tokens_.peek().is(text)) found = op;
    }
    size_t length = 1;
    if (tokens_.peek().is_name("in")) found = CompareOp::kIn;
    if (tokens_.peek().is_name("not") && tokens_.peek(1).is_name("in")) found = CompareOp::kNotIn, length = 2;
    if (!found) return compare ? std::move(compare) : std::move(left);
    if (!compare) compare = add(make(Kind::kCompare), std::move(left));
    for (size_t i = 0; i < length; ++i) tokens_.next();
    compare->compare_ops.push_back(*found);
    compare = add(std::move(compare), parse_sum());
  }
}

ExprPtr ExpressionParser::parse_sum() {
  ExprPtr left = parse_concat();
  while (tokens_.peek().is("+") || tokens_.peek().is("-")) {
    ExprPtr sum = add(make(Kind::kBinary), std::move(left));
    sum->binary_op = tokens_.next().text == "+" ? BinaryOp::kAdd : BinaryOp::kSubtract;
    left = add(std::move(sum), parse_concat());
  }
  return left;
}

ExprPtr ExpressionParser::parse_concat() {
  ExprPtr left = parse_product();
  if (!tokens_.peek().is("~")) return left;
  ExprPtr concat = add(make(Kind::kConcat), std::move(left));
  while (tokens_.skip_operator("~")) concat = add(std::move(concat), parse_product());
  return concat;
}

ExprPtr ExpressionParser::parse_product() {
  ExprPtr left = parse_power();
  constexpr std::pair<std::string_view, BinaryOp> kOps[] = {
      {"*", BinaryOp::kMultiply}, {"/", BinaryOp::kDivide}, {"//", BinaryOp::kFloorDivide}, {"%", BinaryOp::kModulo}};
  while (true) {
    std::optional<BinaryOp> found;
    for (const auto& [text, op] : kOps) {
      if (tokens_.peek().is(text)) found = op;
    }
    if (!found) return left;
    ExprPtr product = add(make(Kind::kBinary), std::move(left));
    product->binary_op = *found;
    tokens_.next();
    left = add(std::move(product), parse_power());
  }
}

ExprPtr ExpressionParser::parse_power() {
  ExprPtr left = parse_unary(true);
  while (tokens_.peek().is("**")) {
    ExprPtr power = add(make(Kind::kBinary), std::move(left));
    power->binary_op = BinaryOp::kPower;
    tokens_.next();
    left = add(std::move(power), parse_unary(true));
  }
  return left;
}

ExprPtr ExpressionParser::parse_unary(bool with_filters) {
  if (++nesting_ > kNestingMax) tokens_.unsupported("an expression is nested more than {} deep", kNestingMax);
  ExprPtr expr;
  if (tokens_.peek().is("-") || tokens_.peek().is("+")) {
    expr = make(tokens_.peek().is("-") ? Kind::kNegate : Kind::kPlus);
    tokens_.next();
    expr = add(std::move(expr), parse_unary(false));
  } else {
    expr = parse_primary();
  }
  expr = parse_postfix(std::move(expr));
  if (with_filters) expr = parse_filters_and_tests(std::move(expr));
  --nesting_;
  return expr;
}

ExprPtr ExpressionParser::parse_primary() {
  const Token& token = tokens_.peek();
  if (token.kind == Token::Kind::kName) {
    if (is_reserved(token.text)) tokens_.syntax_error("unexpected '{}'", token.text);
    ExprPtr expr = make(Kind::kLiteral);
    std::string name = tokens_.next().text;
    if (name == "true" || name == "True") {
      expr->literal = Value(true);
    } else if (name == "false" || name == "False") {
      expr->literal = Value(false);
    } else if (name == "none" || name == "None") {
      expr->literal = Value(nullptr);
    } else {
      expr->kind = Kind::kName;
      expr->name = std::move(name);
    }
    return expr;
  }
  if (token.kind == Token::Kind::kNumber || token.kind == Token::Kind::kString) {
    ExprPtr expr = make(Kind::kLiteral);
    bool is_string = token.kind == Token::Kind::kString;
    expr->literal = tokens_.next().literal;
    while (is_string && tokens_.peek().kind == Token::Kind::kString) {
      expr->literal = Value(expr->literal.as_string() + tokens_.next().literal.as_string());
    }
    return expr;
  }
  return parse_bracket();
}

ExprPtr ExpressionParser::parse_bracket() {
  if (tokens_.skip_operator("(")) {
    if (tokens_.skip_operator(")")) return make(Kind::kTuple);
    ExprPtr inner = parse(true);
    tokens_.expect_operator(")");
    return inner;
  }
  if (tokens_.peek().is("{")) return parse_dict();
  ExprPtr list = make(Kind::kList);
  tokens_.expect_operator("[");
  while (!tokens_.skip_operator("]")) {
    list = add(std::move(list), parse());
    if (!tokens_.peek().is("]")) tokens_.expect_operator(",");
  }
  return list;
}

ExprPtr ExpressionParser::parse_dict() {
  ExprPtr dict = make(Kind::kDict);
  tokens_.expect_operator("{");
  while (!tokens_.skip_operator("}")) {
    dict = add(std::move(dict), parse());
    tokens_.expect_operator(":");
    dict = add(std::move(dict), parse());
    if (!tokens_.peek().is("}")) tokens_.expect_operator(",");
  }
  return dict;
}

ExprPtr ExpressionParser::parse_postfix(ExprPtr expr) {
  while (true) {
    if (tokens_.peek().is(".")) {
      ExprPtr access = make(Kind::kAttribute);
      tokens_.next();
      if (tokens_.peek().kind == Token::Kind::kNumber) {  // messages.0 is messages[0]
        access->kind = Kind::kItem;
        access = add(std::move(access), std::move(expr));
        expr = add(std::move(access), parse_primary());
        continue;
      }
      access->name = tokens_.expect_name();
      expr = add(std::move(access), std::move(expr));
    } else if (tokens_.peek().is("[")) {
      expr = parse_subscript(std::move(expr));
    } else if (tokens_.peek().is("(")) {
      expr = parse_call(std::move(expr));
    } else {
      return expr;
    }
  }
}

ExprPtr ExpressionParser::parse_subscript(ExprPtr expr) {
  ExprPtr access = add(make(Kind::kItem), std::move(expr));
  tokens_.expect_operator("[");
  ExprPtr first = tokens_.peek().is(":") ? nullptr : parse();
  if (tokens_.peek().is(":")) {
    access->kind = Kind::kSlice;
    access = add(std::move(access), std::move(first));
    for (int part = 0; part < 2; ++part) {
      bool present = tokens_.skip_operator(":") && !tokens_.peek().is(":") && !tokens_.peek().is("]");
      access = add(std::move(access), present ? parse() : nullptr);
    }
  } else {
    access = add(std::move(access), std::move(first));
  }
  tokens_.expect_operator("]");
  return access;
}

ExprPtr ExpressionParser::parse_call(ExprPtr callee) {
  ExprPtr call = make(Kind::kCall);
  if (callee->kind == Kind::kAttribute) {
    if (!is_method(callee->name)) tokens_.unsupported("the method '{}' is not supported", callee->name);
    call->kind = Kind::kMethodCall;
    call->name = callee->name;
    call = add(std::move(call), std::move(callee->args[0]));
  } else if (callee->kind == Kind::kName) {
    call->name = callee->name;
    call->function = find_function(callee->name);
    if (!call->function && !macros_.contains(callee->name)) {
      tokens_.unsupported("the function '{}' is neither a macro nor supported", callee->name);
    }
  } else {
    tokens_.unsupported("only functions, macros and methods can be called");
  }
  parse_arguments(*call);
  return call;
}

void ExpressionParser::parse_arguments(Expr& call) {
  tokens_.expect_operator("(");
  while (!tokens_.skip_operator(")")) {
    if (tokens_.peek().is("*") || tokens_.peek().is("**")) tokens_.unsupported("* and ** arguments are not supported");
    std::string name;
    if (tokens_.peek().kind == Token::Kind::kName && tokens_.peek(1).is("=")) {
      name = tokens_.next().text;
      tokens_.next();
    } else if (!call.named.empty()) {
      tokens_.syntax_error("a positional argument follows a named one");
    }
    ExprPtr argument = parse();
    call.depth = std::max(call.depth, argument->depth + 1);
    if (call.depth > kDepthMax) tokens_.unsupported("an expression is nested more than {} deep", kDepthMax);
    if (name.empty()) {
      call.args.push_back(std::move(argument));
    } else {
      call.named.emplace_back(std::move(name), std::move(argument));
    }
    if (!tokens_.peek().is(")")) tokens_.expect_operator(",");
  }
}

ExprPtr ExpressionParser::parse_filters_and_tests(ExprPtr expr) {
  while (true) {
    if (tokens_.skip_operator("|")) {
      expr = parse_filter(std::move(expr));
    } else if (tokens_.skip_name("is")) {
      expr = parse_test(std::move(expr));
    } else if (tokens_.peek().is("(")) {
      expr = parse_call(std::move(expr));
    } else {
      return expr;
    }
  }
}

ExprPtr ExpressionParser::parse_filters(ExprPtr input) {
  do {
    input = parse_filter(std::move(input));
  } while (tokens_.skip_operator("|"));
  return input;
}

ExprPtr ExpressionParser::parse_filter(ExprPtr input) {
  ExprPtr filter = add(make(Kind::kFilter), std::move(input));
  filter->name = tokens_.expect_name();
  filter->filter = find_filter(filter->name);
  if (!filter->filter) tokens_.unsupported("the filter '{}' is not supported", filter->name);
  if (tokens_.peek().is("(")) parse_arguments(*filter);
  return filter;
}

ExprPtr ExpressionParser::parse_test(ExprPtr input) {
  ExprPtr test = add(make(Kind::kTest), std::move(input));
  test->negated = tokens_.skip_name("not");
  test->name = tokens_.expect_name();
  test->test = find_test(test->name);
  if (!test->test) tokens_.unsupported("the test '{}' is not supported", test->name);
  const Token& token = tokens_.peek();
  bool operand = token.kind == Token::Kind::kNumber || token.kind == Token::Kind::kString || token.is("[") ||
                 token.is("{") || (token.kind == Token::Kind::kName && !is_reserved(token.text));
  if (token.is("(")) {
    parse_arguments(*test);
  } else if (operand) {
    test = add(std::move(test), parse_postfix(parse_primary()));
  }
  return test;
}

}  // namespace hylas::jinja
