#pragma once
// The syntax tree of a template. Built by the parser, then never changed.
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "text/jinja/value.h"

namespace hylas::jinja {

struct Runtime;
class Arguments;
// Functions are looked up while parsing, so that a template with an unknown one does not load.
using Filter = Value (*)(const Value& input, const Arguments& arguments, Runtime& runtime);
using Test = bool (*)(const Value& input, const Arguments& arguments, Runtime& runtime);
using Function = Value (*)(const Arguments& arguments, Runtime& runtime);

struct Expr;
using ExprPtr = std::unique_ptr<Expr>;

enum class BinaryOp { kAdd, kSubtract, kMultiply, kDivide, kFloorDivide, kModulo, kPower };
enum class CompareOp { kEqual, kNotEqual, kLess, kLessEqual, kGreater, kGreaterEqual, kIn, kNotIn };

struct Expr {
  enum class Kind {
    kLiteral,      // literal
    kName,         // name
    kList,         // args
    kTuple,        // args
    kDict,         // args: key, value, key, value, ...
    kNot,          // args[0]
    kNegate,       // args[0]
    kPlus,         // args[0]
    kBinary,       // args[0] binary_op args[1]
    kConcat,       // args joined as text
    kCompare,      // args[0] compare_ops[0] args[1] compare_ops[1] args[2] ...
    kAnd,          // args[0] and args[1]
    kOr,           // args[0] or args[1]
    kConditional,  // args[0] if args[1] else args[2] (may be absent)
    kAttribute,    // args[0].name
    kItem,         // args[0][args[1]]
    kSlice,        // args[0][args[1]:args[2]:args[3]], the last three may be null
    kCall,         // name(args, named), or function(args, named) where the name is a built-in
    kMethodCall,   // args[0].name(args[1..], named)
    kFilter,       // args[0] | filter(args[1..], named)
    kTest,         // args[0] is [not] test(args[1..], named)
  };
  Kind kind;
  int line = 0;
  int depth = 1;  // of the tree below, bounded by the parser
  std::string name;
  Value literal;
  std::vector<ExprPtr> args;
  std::vector<std::pair<std::string, ExprPtr>> named;
  std::vector<CompareOp> compare_ops;
  BinaryOp binary_op{};
  bool negated = false;  // is not
  Filter filter = nullptr;
  Test test = nullptr;
  Function function = nullptr;
};

struct Node;
using Body = std::vector<Node>;

struct Parameter {
  std::string name;
  ExprPtr default_value;  // null: undefined when absent
};

struct MacroNode {
  std::string name;
  std::vector<Parameter> parameters;
  std::shared_ptr<const Body> body;
};

// `name`, or the attribute of a namespace where `attribute` is not empty.
struct Target {
  std::string name;
  std::string attribute;
};

struct Node {
  enum class Kind {
    kText,      // text
    kOutput,    // expr
    kIf,        // branches, taken in order; a null condition is the else
    kFor,       // for targets in expr if condition: body, else_body
    kSet,       // targets = expr
    kSetBlock,  // targets[0] = text of body, through the filters of expr if there are any
    kFilter,    // text of body through the filters of expr
    kMacro,     // macro
    kBreak,
    kContinue,
  };
  struct Branch;
  Kind kind;
  int line = 0;
  std::string text;
  ExprPtr expr;
  ExprPtr condition;
  std::vector<Target> targets;
  Body body;
  Body else_body;
  std::vector<Branch> branches;
  std::shared_ptr<const MacroNode> macro;
};

struct Node::Branch {
  ExprPtr condition;
  Body body;
};

// The variable that stands for the block's text in the filters of kSetBlock and kFilter: no template can name it.
constexpr const char* kBlockText = " block text";

struct Template {
  Body body;
};

}  // namespace hylas::jinja
