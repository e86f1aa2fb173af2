#include "text/jinja/evaluator.h"

#include "text/jinja/operators.h"
#include "text/jinja/python_text.h"

namespace hylas::jinja {

const Value* Scope::find(std::string_view name) const {
  for (const auto& entry : names) {
    if (entry.first == name) return &entry.second;
  }
  return nullptr;
}

void Scope::set(std::string_view name, Value value) {
  for (auto& entry : names) {
    if (entry.first == name) {
      entry.second = std::move(value);
      return;
    }
  }
  names.emplace_back(name, std::move(value));
}

Evaluator::Evaluator(const Template& source, Limits limits) : source_(source) { runtime_.limits = limits; }

std::string Evaluator::render(const Dict& context) {
  Scope* globals = open_scope(nullptr);
  for (const auto& [name, value] : context.items) globals->names.emplace_back(name, value);
  std::string out;
  run(source_.body, *globals, out);
  return out;
}

Scope* Evaluator::open_scope(Scope* parent) {
  scopes_.push_back(std::make_unique<Scope>());
  scopes_.back()->parent = parent;
  return scopes_.back().get();
}

// Scopes close in the reverse order of opening, except those that a macro still needs.
void Evaluator::close_scope(Scope* scope) {
  if (!scope->captured && scopes_.back().get() == scope) scopes_.pop_back();
}

Evaluator::Flow Evaluator::run(const Body& body, Scope& scope, std::string& out) {
  DepthGuard guard(runtime_);
  for (const Node& node : body) {
    Flow flow = run_node(node, scope, out);
    if (flow != Flow::kNormal) return flow;
  }
  return Flow::kNormal;
}

Evaluator::Flow Evaluator::run_node(const Node& node, Scope& scope, std::string& out) {
  runtime_.tick();
  runtime_.line = node.line;
  switch (node.kind) {
    case Node::Kind::kText:
      out += node.text;
      break;
    case Node::Kind::kOutput:
      out += to_text(evaluate(*node.expr, scope), runtime_);
      break;
    case Node::Kind::kIf:
      return run_if(node, scope, out);
    case Node::Kind::kFor:
      return run_for(node, scope, out);
    case Node::Kind::kSet:
      run_set(node, scope);
      return Flow::kNormal;
    case Node::Kind::kSetBlock:
      assign_one(node.targets[0], run_captured(node, scope), scope);
      return Flow::kNormal;
    case Node::Kind::kFilter:
      out += run_captured(node, scope);
      break;
    case Node::Kind::kMacro:
      for (Scope* outer = &scope; outer; outer = outer->parent) outer->captured = true;
      scope.set(node.macro->name, Macro{node.macro.get(), &scope});
      return Flow::kNormal;
    case Node::Kind::kBreak:
      return Flow::kBreak;
    case Node::Kind::kContinue:
      return Flow::kContinue;
  }
  if (out.size() > runtime_.limits.bytes_max) runtime_.check_bytes(out.size());
  return Flow::kNormal;
}

Evaluator::Flow Evaluator::run_if(const Node& node, Scope& scope, std::string& out) {
  for (const Node::Branch& branch : node.branches) {
    if (!branch.condition || evaluate(*branch.condition, scope).truthy()) return run(branch.body, scope, out);
  }
  return Flow::kNormal;
}

Evaluator::Flow Evaluator::run_for(const Node& node, Scope& scope, std::string& out) {
  std::vector<Value> items = iterate(evaluate(*node.expr, scope), runtime_);
  if (node.condition) {
    std::vector<Value> kept;
    for (Value& item : items) {
      Scope* inner = open_scope(&scope);
      assign(node.targets, item, *inner);
      if (evaluate(*node.condition, *inner).truthy()) kept.push_back(std::move(item));
      close_scope(inner);
    }
    items = std::move(kept);
  }
  auto shared = std::make_shared<const std::vector<Value>>(std::move(items));
  for (size_t i = 0; i < shared->size(); ++i) {
    Scope* inner = open_scope(&scope);
    assign(node.targets, (*shared)[i], *inner);
    inner->set("loop", std::make_shared<const Loop>(Loop{shared, static_cast<int64_t>(i)}));
    Flow flow = run(node.body, *inner, out);
    close_scope(inner);
    if (flow == Flow::kBreak) break;
  }
  if (!shared->empty()) return Flow::kNormal;
  Scope* inner = open_scope(&scope);
  Flow flow = run(node.else_body, *inner, out);
  close_scope(inner);
  return flow;
}

void Evaluator::run_set(const Node& node, Scope& scope) {
  Value value = evaluate(*node.expr, scope);
  if (node.targets.size() == 1) return assign_one(node.targets[0], std::move(value), scope);
  assign(node.targets, std::move(value), scope);
}

std::string Evaluator::run_captured(const Node& node, Scope& scope) {
  Scope* inner = open_scope(&scope);
  std::string text;
  run(node.body, *inner, text);
  if (node.expr) {
    inner->set(kBlockText, Value(std::move(text)));
    text = to_text(evaluate(*node.expr, *inner), runtime_);
  }
  close_scope(inner);
  return text;
}

void Evaluator::assign(const std::vector<Target>& targets, Value value, Scope& scope) {
  if (targets.size() == 1) return assign_one(targets[0], std::move(value), scope);
  std::vector<Value> parts = iterate(value, runtime_);
  if (parts.size() != targets.size()) {
    runtime_.error("{} values cannot be unpacked into {} names", parts.size(), targets.size());
  }
  for (size_t i = 0; i < targets.size(); ++i) assign_one(targets[i], std::move(parts[i]), scope);
}

void Evaluator::assign_one(const Target& target, Value value, Scope& scope) {
  if (target.attribute.empty()) return scope.set(target.name, std::move(value));
  Namespace* space = lookup(target.name, scope).if_namespace();
  if (!space) runtime_.error("only attributes of a namespace can be set, and '{}' is none", target.name);
  if (!value.is_data()) runtime_.error("a {} cannot be put into a namespace", value.type_name());
  space->attributes.set(target.attribute, std::move(value));
}

Value Evaluator::lookup(std::string_view name, const Scope& scope) const {
  for (const Scope* at = &scope; at; at = at->parent) {
    if (const Value* found = at->find(name)) return *found;
  }
  return {};
}

}  // namespace hylas::jinja
