#pragma once
// Values of the template language: Python's, as far as templates can see them.
#include <boost/json.hpp>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace hylas::jinja {

class Value;
struct MacroNode;
struct Scope;

struct Undefined {};  // a name, attribute or item that is not there
struct List;
struct Dict;
struct Namespace;
struct Loop;

// A macro and the scope it was defined in; both live as long as the rendering.
struct Macro {
  const MacroNode* node;
  Scope* scope;
};

// Cheap to copy: strings, lists and dictionaries are shared and never change once they are built.
class Value {
 public:
  using String = std::shared_ptr<const std::string>;
  using ListPtr = std::shared_ptr<const List>;
  using DictPtr = std::shared_ptr<const Dict>;
  using NamespacePtr = std::shared_ptr<Namespace>;
  using LoopPtr = std::shared_ptr<const Loop>;

  Value() : data_(Undefined{}) {}
  Value(std::nullptr_t) : data_(nullptr) {}
  Value(bool value) : data_(value) {}
  Value(int64_t value) : data_(value) {}
  Value(double value) : data_(value) {}
  Value(std::string value) : data_(std::make_shared<const std::string>(std::move(value))) {}
  Value(List list);
  Value(Dict dict);
  Value(NamespacePtr value) : data_(std::move(value)) {}
  Value(LoopPtr value) : data_(std::move(value)) {}
  Value(Macro value) : data_(value) {}
  Value(const char*) = delete;  // would become a bool

  bool is_undefined() const { return holds<Undefined>(); }
  bool is_none() const { return holds<std::nullptr_t>(); }
  bool is_bool() const { return holds<bool>(); }
  bool is_int() const { return holds<int64_t>(); }
  bool is_float() const { return holds<double>(); }
  bool is_number() const { return is_bool() || is_int() || is_float(); }  // a bool is a number, as in Python
  bool is_string() const { return holds<String>(); }
  bool is_list() const { return holds<ListPtr>(); }
  bool is_dict() const { return holds<DictPtr>(); }
  // What JSON could hold, as opposed to namespaces, loops and macros. Only data goes into lists and dictionaries.
  bool is_data() const { return !holds<NamespacePtr>() && !holds<LoopPtr>() && !holds<Macro>(); }

  bool as_bool() const { return std::get<bool>(data_); }
  int64_t as_int() const { return is_bool() ? as_bool() : std::get<int64_t>(data_); }  // of a bool or an int
  double as_double() const { return is_float() ? std::get<double>(data_) : static_cast<double>(as_int()); }
  const std::string& as_string() const { return *std::get<String>(data_); }
  const List& as_list() const { return *std::get<ListPtr>(data_); }
  const Dict& as_dict() const { return *std::get<DictPtr>(data_); }
  Namespace* if_namespace() const { return holds<NamespacePtr>() ? std::get<NamespacePtr>(data_).get() : nullptr; }
  const Loop* if_loop() const { return holds<LoopPtr>() ? std::get<LoopPtr>(data_).get() : nullptr; }
  const Macro* if_macro() const { return std::get_if<Macro>(&data_); }

  bool truthy() const;
  int depth() const;              // of nested lists and dictionaries: 0 for anything else
  const char* type_name() const;  // Python's, for errors

 private:
  template <class T>
  bool holds() const {
    return std::holds_alternative<T>(data_);
  }
  std::variant<Undefined, std::nullptr_t, bool, int64_t, double, String, ListPtr, DictPtr, NamespacePtr, LoopPtr, Macro>
      data_;
};

// A Python list or tuple.
struct List {
  std::vector<Value> items;
  bool is_tuple = false;
  int depth = 0;  // set by Value's constructor
};

// A Python dict with string keys, in order of insertion.
struct Dict {
  std::vector<std::pair<std::string, Value>> items;
  int depth = 0;  // set by Value's constructor

  const Value* find(std::string_view key) const;
  void set(std::string_view key, Value value);
};

// namespace(...): the only thing a template can change.
struct Namespace {
  Dict attributes;
};

// The variable `loop` of one iteration.
struct Loop {
  std::shared_ptr<const std::vector<Value>> items;
  int64_t index0 = 0;

  Value attribute(std::string_view name) const;
};

// Numbers beyond int64 become floats.
Value from_json(const boost::json::value& json);

}  // namespace hylas::jinja
