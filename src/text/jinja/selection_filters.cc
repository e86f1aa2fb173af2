// map, select, reject, selectattr and rejectattr: filters that take a filter or a test by name.
#include "text/jinja/builtins.h"
#include "text/jinja/operators.h"

namespace hylas::jinja {
namespace {

// The arguments behind the first `skip` ones: what is passed on to the named filter or test.
Arguments rest_of(const Arguments& arguments, size_t skip) {
  Arguments rest;
  for (size_t i = skip; i < arguments.positional.size(); ++i) rest.positional.push_back(arguments.positional[i]);
  rest.named = arguments.named;
  return rest;
}

Value filter_map(const Value& input, const Arguments& arguments, Runtime& runtime) {
  std::vector<Value> items;
  if (arguments.positional.empty()) {
    arguments.expect("map", {"attribute", "default"}, runtime);
    Value name = arguments.require(0, "attribute", runtime);
    const Value* otherwise = arguments.get(1, "default");
    for (const Value& value : iterate(input, runtime)) {
      Value found = item(value, name, runtime);
      items.push_back(found.is_undefined() && otherwise ? *otherwise : found);
    }
    return make_list(std::move(items), runtime);
  }
  std::string name = arguments.text(0, "filter", {}, runtime);
  Filter filter = find_filter(name);
  if (!filter) runtime.error("the filter '{}' is not supported", name);
  Arguments rest = rest_of(arguments, 1);
  for (const Value& value : iterate(input, runtime)) items.push_back(filter(value, rest, runtime));
  return make_list(std::move(items), runtime);
}

// by_attribute: the first argument names what is tested; the next one is the test, truth without one.
template <bool by_attribute, bool wanted>
Value filter_select(const Value& input, const Arguments& arguments, Runtime& runtime) {
  constexpr size_t kTestAt = by_attribute ? 1 : 0;
  Value name;
  if (by_attribute) name = arguments.require(0, "attribute", runtime);
  Test test = nullptr;
  if (arguments.positional.size() > kTestAt) {
    std::string test_name = arguments.text(kTestAt, "test", {}, runtime);
    test = find_test(test_name);
    if (!test) runtime.error("the test '{}' is not supported", test_name);
  }
  Arguments rest = rest_of(arguments, kTestAt + 1);
  std::vector<Value> items;
  for (const Value& value : iterate(input, runtime)) {
    Value tested = by_attribute ? item(value, name, runtime) : value;
    if ((test ? test(tested, rest, runtime) : tested.truthy()) == wanted) items.push_back(value);
  }
  return make_list(std::move(items), runtime);
}

}  // namespace

Filter find_selection_filter(std::string_view name) {
  if (name == "map") return filter_map;
  if (name == "select") return filter_select<false, true>;
  if (name == "reject") return filter_select<false, false>;
  if (name == "selectattr") return filter_select<true, true>;
  if (name == "rejectattr") return filter_select<true, false>;
  return nullptr;
}

Filter find_filter(std::string_view name) {
  if (Filter filter = find_text_filter(name)) return filter;
  if (Filter filter = find_sequence_filter(name)) return filter;
  return find_selection_filter(name);
}

}  // namespace hylas::jinja
