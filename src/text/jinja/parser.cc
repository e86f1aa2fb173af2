#include "text/jinja/parser.h"

#include <initializer_list>
#include <set>

#include "text/jinja/expression_parser.h"
#include "text/jinja/lexer.h"
#include "text/jinja/token_stream.h"

namespace hylas::jinja {
namespace {

using Kind = Node::Kind;

constexpr int kNestingMax = 50;  // of blocks
constexpr size_t kSourceBytesMax = size_t{1} << 20;

std::set<std::string> macro_names(const std::vector<Token>& tokens) {
  std::set<std::string> names;
  for (size_t i = 0; i + 2 < tokens.size(); ++i) {
    if (tokens[i].kind == Token::Kind::kBlockBegin && tokens[i + 1].is_name("macro")) names.insert(tokens[i + 2].text);
  }
  return names;
}

class Parser {
 public:
  explicit Parser(std::vector<Token> tokens)
      : macros_(macro_names(tokens)), tokens_(std::move(tokens)), expressions_(tokens_, macros_) {}

  Body parse() {
    Body body = parse_body({});
    return body;
  }

 private:
  // Up to a block that begins with one of `ends` (the cursor stands on that name), or the end if there are none.
  Body parse_body(std::initializer_list<std::string_view> ends) {
    if (++nesting_ > kNestingMax) tokens_.unsupported("blocks are nested more than {} deep", kNestingMax);
    Body body;
    while (true) {
      const Token& token = tokens_.peek();
      if (token.kind == Token::Kind::kEnd) {
        if (ends.size() > 0) tokens_.syntax_error("the template ends before {{% {} %}}", *(ends.end() - 1));
        break;
      }
      if (token.kind == Token::Kind::kText) {
        body.push_back(make(Kind::kText));
        body.back().text = tokens_.next().text;
      } else if (token.kind == Token::Kind::kVariableBegin) {
        body.push_back(make(Kind::kOutput));
        tokens_.next();
        body.back().expr = expressions_.parse(true);
        tokens_.expect_kind(Token::Kind::kVariableEnd, "}}");
      } else {
        tokens_.expect_kind(Token::Kind::kBlockBegin, "a tag");
        if (at_one_of(ends)) break;
        parse_statement(body);
      }
    }
    --nesting_;
    return body;
  }

  bool at_one_of(std::initializer_list<std::string_view> names) const {
    for (std::string_view name : names) {
      if (tokens_.peek().is_name(name)) return true;
    }
    return false;
  }

  void parse_statement(Body& body) {
    Node node = make(Kind::kText);
    std::string name = tokens_.expect_name();
    if (name == "if") {
      parse_if(node);
    } else if (name == "for") {
      parse_for(node);
    } else if (name == "set") {
      parse_set(node);
    } else if (name == "macro") {
      parse_macro(node);
    } else if (name == "filter") {
      node.kind = Kind::kFilter;
      node.expr = expressions_.parse_filters(block_text());
      node.body = block_body("endfilter");
    } else if (name == "generation") {  // marks the assistant's part for training: no effect on the text
      for (Node& inner : block_body("endgeneration")) body.push_back(std::move(inner));
      return;
    } else if (name == "break" || name == "continue") {
      if (loops_ == 0) tokens_.syntax_error("'{}' outside of a loop", name);
      node.kind = name == "break" ? Kind::kBreak : Kind::kContinue;
      end_block();
    } else {
      tokens_.unsupported("the statement '{}' is not supported", name);
    }
    body.push_back(std::move(node));
  }

  void parse_if(Node& node) {
    node.kind = Kind::kIf;
    while (true) {
      ExprPtr condition = expressions_.parse(true);
      end_block();
      node.branches.push_back({std::move(condition), parse_body({"elif", "else", "endif"})});
      if (!tokens_.skip_name("elif")) break;
    }
    if (tokens_.skip_name("else")) {
      end_block();
      node.branches.push_back({nullptr, parse_body({"endif"})});
    }
    end_block("endif");
  }

  void parse_for(Node& node) {
    node.kind = Kind::kFor;
    node.targets = parse_targets();
    if (!tokens_.skip_name("in")) tokens_.syntax_error("expected 'in' of a for loop");
    node.expr = expressions_.parse_without_condition();
    if (tokens_.skip_name("if")) node.condition = expressions_.parse();
    if (tokens_.peek().is_name("recursive")) tokens_.unsupported("recursive loops are not supported");
    end_block();
    ++loops_;
    node.body = parse_body({"else", "endfor"});
    --loops_;
    if (tokens_.skip_name("else")) {
      end_block();
      node.else_body = parse_body({"endfor"});
    }
    end_block("endfor");
  }

  void parse_set(Node& node) {
    node.targets = parse_targets();
    if (tokens_.skip_operator("=")) {
      node.kind = Kind::kSet;
      node.expr = expressions_.parse(true);
      return end_block();
    }
    node.kind = Kind::kSetBlock;
    if (node.targets.size() != 1) tokens_.syntax_error("a set block has one name");
    if (tokens_.skip_operator("|")) node.expr = expressions_.parse_filters(block_text());
    node.body = block_body("endset");
  }

  void parse_macro(Node& node) {
    node.kind = Kind::kMacro;
    auto macro = std::make_shared<MacroNode>();
    macro->name = tokens_.expect_name();
    tokens_.expect_operator("(");
    while (!tokens_.skip_operator(")")) {
      Parameter parameter;
      parameter.name = tokens_.expect_name();
      if (tokens_.skip_operator("=")) {
        parameter.default_value = expressions_.parse();
      } else if (!macro->parameters.empty() && macro->parameters.back().default_value) {
        tokens_.syntax_error("a parameter without a default follows one with a default");
      }
      macro->parameters.push_back(std::move(parameter));
      if (!tokens_.peek().is(")")) tokens_.expect_operator(",");
    }
    int loops = std::exchange(loops_, 0);
    macro->body = std::make_shared<const Body>(block_body("endmacro"));
    loops_ = loops;
    node.macro = std::move(macro);
  }

  std::vector<Target> parse_targets() {
    std::vector<Target> targets;
    do {
      Target target{tokens_.expect_name(), {}};
      if (tokens_.skip_operator(".")) target.attribute = tokens_.expect_name();
      targets.push_back(std::move(target));
    } while (tokens_.skip_operator(","));
    return targets;
  }

  // The rest of the opening tag, the body and the closing tag.
  Body block_body(std::string_view end) {
    end_block();
    Body body = parse_body({end});
    end_block(end);
    return body;
  }
  void end_block(std::string_view name = {}) {
    if (!name.empty() && !tokens_.skip_name(name)) tokens_.syntax_error("expected {{% {} %}}", name);
    tokens_.expect_kind(Token::Kind::kBlockEnd, "%}");
  }
  ExprPtr block_text() const {
    auto expr = std::make_unique<Expr>();
    expr->kind = Expr::Kind::kName;
    expr->line = tokens_.peek().line;
    expr->name = kBlockText;
    return expr;
  }
  Node make(Kind kind) const {
    Node node{};
    node.kind = kind;
    node.line = tokens_.peek().line;
    return node;
  }

  std::set<std::string> macros_;
  TokenStream tokens_;
  ExpressionParser expressions_;
  int nesting_ = 0;
  int loops_ = 0;
};

}  // namespace

Template parse_template(std::string_view source) {
  if (source.size() > kSourceBytesMax) {
    fail(TemplateError::Kind::kUnsupported, 1, "the template is longer than {} bytes", kSourceBytesMax);
  }
  return {Parser(tokenize(source)).parse()};
}

}  // namespace hylas::jinja
