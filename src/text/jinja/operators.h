#pragma once
// Python's operators on values.
#include <optional>
#include <string>
#include <vector>

#include "text/jinja/ast.h"
#include "text/jinja/runtime.h"
#include "text/jinja/value.h"

namespace hylas::jinja {

bool equal(const Value& a, const Value& b, Runtime& runtime);
// a < b, of numbers, strings or lists; others are an error.
bool less(const Value& a, const Value& b, Runtime& runtime);
bool contains(const Value& container, const Value& item, Runtime& runtime);
bool compare(CompareOp op, const Value& a, const Value& b, Runtime& runtime);
Value binary(BinaryOp op, const Value& a, const Value& b, Runtime& runtime);
Value negate(const Value& value, Runtime& runtime);

// What a for loop visits: items of a list, keys of a dictionary, characters of a string, nothing of undefined.
std::vector<Value> iterate(const Value& value, Runtime& runtime);
// len(): characters, items.
int64_t length(const Value& value, Runtime& runtime);

// object.name and object[index]; undefined where there is none.
Value attribute(const Value& object, std::string_view name, Runtime& runtime);
Value item(const Value& object, const Value& index, Runtime& runtime);
Value slice(const Value& object, const Value* start, const Value* stop, const Value* step, Runtime& runtime);

// A list of data, within the limits.
Value make_list(std::vector<Value> items, Runtime& runtime, bool is_tuple = false);
Value make_dict(Dict dict, Runtime& runtime);
Value make_text(std::string text, Runtime& runtime);

}  // namespace hylas::jinja
