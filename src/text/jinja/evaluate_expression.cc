// The evaluator's half for expressions.
#include "text/jinja/builtins.h"
#include "text/jinja/evaluator.h"
#include "text/jinja/operators.h"
#include "text/jinja/python_text.h"

namespace hylas::jinja {
Value Evaluator::evaluate(const Expr& expr, Scope& scope) {
  DepthGuard guard(runtime_);
  runtime_.tick();
  runtime_.line = expr.line;
  switch (expr.kind) {
    case Expr::Kind::kLiteral:
      return expr.literal;
    case Expr::Kind::kName:
      return lookup(expr.name, scope);
    case Expr::Kind::kList:
    case Expr::Kind::kTuple:
      return evaluate_list(expr, scope);
    case Expr::Kind::kDict:
      return evaluate_dict(expr, scope);
    case Expr::Kind::kConditional:
      if (evaluate(*expr.args[1], scope).truthy()) return evaluate(*expr.args[0], scope);
      return expr.args.size() > 2 ? evaluate(*expr.args[2], scope) : Value();
    case Expr::Kind::kAttribute:
      return attribute(evaluate(*expr.args[0], scope), expr.name, runtime_);
    case Expr::Kind::kItem: {
      Value object = evaluate(*expr.args[0], scope);
      return item(object, evaluate(*expr.args[1], scope), runtime_);
    }
    case Expr::Kind::kSlice:
      return evaluate_slice(expr, scope);
    case Expr::Kind::kCall:
    case Expr::Kind::kMethodCall:
      return evaluate_call(expr, scope);
    case Expr::Kind::kFilter: {
      Value input = evaluate(*expr.args[0], scope);
      Arguments arguments = arguments_of(expr, 1, scope);
      return expr.filter(input, arguments, runtime_);
    }
    case Expr::Kind::kTest: {
      Value input = evaluate(*expr.args[0], scope);
      Arguments arguments = arguments_of(expr, 1, scope);
      return expr.test(input, arguments, runtime_) != expr.negated;
    }
    default:
      return evaluate_operator(expr, scope);
  }
}

Value Evaluator::evaluate_operator(const Expr& expr, Scope& scope) {
  if (expr.kind == Expr::Kind::kCompare) return evaluate_compare(expr, scope);
  if (expr.kind == Expr::Kind::kConcat) {
    std::string text;
    for (const ExprPtr& part : expr.args) text += to_text(evaluate(*part, scope), runtime_);
    return make_text(std::move(text), runtime_);
  }
  Value first = evaluate(*expr.args[0], scope);
  switch (expr.kind) {
    case Expr::Kind::kNot:
      return !first.truthy();
    case Expr::Kind::kNegate:
      return negate(first, runtime_);
    case Expr::Kind::kPlus:
      if (!first.is_number()) runtime_.error("'+' needs a number, not a {}", first.type_name());
      return first;
    case Expr::Kind::kAnd:
      return first.truthy() ? evaluate(*expr.args[1], scope) : first;
    case Expr::Kind::kOr:
      return first.truthy() ? first : evaluate(*expr.args[1], scope);
    default:
      return binary(expr.binary_op, first, evaluate(*expr.args[1], scope), runtime_);
  }
}

Value Evaluator::evaluate_compare(const Expr& expr, Scope& scope) {
  Value left = evaluate(*expr.args[0], scope);
  for (size_t i = 0; i < expr.compare_ops.size(); ++i) {
    Value right = evaluate(*expr.args[i + 1], scope);
    if (!compare(expr.compare_ops[i], left, right, runtime_)) return false;
    left = std::move(right);
  }
  return true;
}

Value Evaluator::evaluate_dict(const Expr& expr, Scope& scope) {
  Dict dict;
  for (size_t i = 0; i < expr.args.size(); i += 2) {
    Value key = evaluate(*expr.args[i], scope);
    if (!key.is_string()) runtime_.error("the keys of a dictionary must be strings, not a {}", key.type_name());
    dict.set(key.as_string(), evaluate(*expr.args[i + 1], scope));
  }
  return make_dict(std::move(dict), runtime_);
}

Value Evaluator::evaluate_list(const Expr& expr, Scope& scope) {
  std::vector<Value> items;
  items.reserve(expr.args.size());
  for (const ExprPtr& item : expr.args) items.push_back(evaluate(*item, scope));
  return make_list(std::move(items), runtime_, expr.kind == Expr::Kind::kTuple);
}

Value Evaluator::evaluate_slice(const Expr& expr, Scope& scope) {
  Value object = evaluate(*expr.args[0], scope);
  Value bounds[3];
  const Value* given[3] = {};
  for (int i = 0; i < 3; ++i) {
    if (!expr.args[i + 1]) continue;
    bounds[i] = evaluate(*expr.args[i + 1], scope);
    given[i] = &bounds[i];
  }
  return slice(object, given[0], given[1], given[2], runtime_);
}

Value Evaluator::evaluate_call(const Expr& expr, Scope& scope) {
  if (expr.kind == Expr::Kind::kMethodCall) {
    Value object = evaluate(*expr.args[0], scope);
    Arguments arguments = arguments_of(expr, 1, scope);
    if (object.is_undefined()) runtime_.error("an undefined value has no method '{}'", expr.name);
    return call_method(object, expr.name, arguments, runtime_);
  }
  Value callee = lookup(expr.name, scope);
  Arguments arguments = arguments_of(expr, 0, scope);
  if (const Macro* macro = callee.if_macro(); macro && macro->node) return call_macro(*macro, arguments);
  if (!callee.is_undefined() || !expr.function) {
    runtime_.error("'{}' is {} and cannot be called", expr.name, callee.type_name());
  }
  return expr.function(arguments, runtime_);
}

Value Evaluator::call_macro(const Macro& macro, const Arguments& arguments) {
  DepthGuard guard(runtime_);
  const MacroNode& node = *macro.node;
  if (arguments.positional.size() > node.parameters.size()) {
    runtime_.error("the macro '{}' takes at most {} arguments", node.name, node.parameters.size());
  }
  for (const auto& [name, value] : arguments.named) {
    bool known = false;
    for (const Parameter& parameter : node.parameters) known |= parameter.name == name;
    if (!known) runtime_.error("the macro '{}' has no parameter '{}'", node.name, name);
  }
  Scope* scope = open_scope(macro.scope);
  for (size_t i = 0; i < node.parameters.size(); ++i) {
    const Parameter& parameter = node.parameters[i];
    Value value;
    if (const Value* given = arguments.get(i, parameter.name)) {
      value = *given;
    } else if (parameter.default_value) {
      value = evaluate(*parameter.default_value, *scope);
    }
    scope->set(parameter.name, std::move(value));
  }
  std::string text;
  run(*node.body, *scope, text);
  close_scope(scope);
  return text;
}

Arguments Evaluator::arguments_of(const Expr& expr, size_t skip, Scope& scope) {
  Arguments arguments;
  for (size_t i = skip; i < expr.args.size(); ++i) arguments.positional.push_back(evaluate(*expr.args[i], scope));
  for (const auto& [name, value] : expr.named) arguments.named.emplace_back(name, evaluate(*value, scope));
  return arguments;
}

}  // namespace hylas::jinja
