#pragma once
// Runs a template's syntax tree.
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja/arguments.h"
#include "text/jinja/ast.h"

namespace hylas::jinja {

// Names of one block; `parent` is the surrounding one.
struct Scope {
  Scope* parent = nullptr;
  std::vector<std::pair<std::string_view, Value>> names;  // the keys live in the tree or the context
  bool captured = false;                                  // a macro was defined inside: it must outlive its block

  const Value* find(std::string_view name) const;
  void set(std::string_view name, Value value);
};

// One rendering; not thread-safe. Throws TemplateError.
class Evaluator {
 public:
  Evaluator(const Template& source, Limits limits);
  // `context`: the names the template reads. May be called once.
  std::string render(const Dict& context);

 private:
  enum class Flow { kNormal, kBreak, kContinue };

  Flow run(const Body& body, Scope& scope, std::string& out);
  Flow run_node(const Node& node, Scope& scope, std::string& out);
  Flow run_if(const Node& node, Scope& scope, std::string& out);
  Flow run_for(const Node& node, Scope& scope, std::string& out);
  void run_set(const Node& node, Scope& scope);
  std::string run_captured(const Node& node, Scope& scope);
  void assign(const std::vector<Target>& targets, Value value, Scope& scope);
  void assign_one(const Target& target, Value value, Scope& scope);
  Scope* open_scope(Scope* parent);
  void close_scope(Scope* scope);

  Value evaluate(const Expr& expr, Scope& scope);
  Value evaluate_operator(const Expr& expr, Scope& scope);
  Value evaluate_compare(const Expr& expr, Scope& scope);
  Value evaluate_dict(const Expr& expr, Scope& scope);
  Value evaluate_list(const Expr& expr, Scope& scope);
  Value evaluate_slice(const Expr& expr, Scope& scope);
  Value evaluate_call(const Expr& expr, Scope& scope);
  Value call_macro(const Macro& macro, const Arguments& arguments);
  Arguments arguments_of(const Expr& expr, size_t skip, Scope& scope);
  Value lookup(std::string_view name, const Scope& scope) const;

  const Template& source_;
  Runtime runtime_;
  std::vector<std::unique_ptr<Scope>> scopes_;
};

}  // namespace hylas::jinja
