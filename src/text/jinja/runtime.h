#pragma once
// Errors and limits of one rendering.
#include <fmt/format.h>

#include <cstdint>
#include <string>
#include <utility>

namespace hylas::jinja {

// Thrown inside the template engine only; ChatTemplate turns it into an Error.
struct TemplateError {
  enum class Kind {
    kSyntax,       // not a template
    kUnsupported,  // a construct outside the subset
    kRuntime,      // a wrong type, an unknown attribute, a limit
    kRaised,       // raise_exception: the message is the template's own
  };
  Kind kind;
  int line;
  std::string message;
};

template <class... Args>
[[noreturn]] void fail(TemplateError::Kind kind, int line, fmt::format_string<Args...> format, Args&&... args) {
  throw TemplateError{kind, line, fmt::format(format, std::forward<Args>(args)...)};
}

// What a template may use; generous for real ones, an end for malicious ones.
struct Limits {
  int64_t steps_max = 5'000'000;        // evaluated nodes, visited items and copied blocks of 64 bytes
  size_t bytes_max = size_t{64} << 20;  // of the output, and of any one string
  size_t items_max = 1'000'000;         // of any one list or dictionary
  int depth_max = 400;                  // of nested blocks, expressions and macro calls
  int value_depth_max = 200;            // of nested lists and dictionaries
};

// Counts against the limits; the line is where the evaluation stands.
struct Runtime {
  Limits limits;
  int64_t steps = 0;
  int depth = 0;
  int line = 1;

  void tick(int64_t count = 1) {
    steps += count;
    if (steps > limits.steps_max) error("the template takes more than {} steps", limits.steps_max);
  }
  // Before text of this size is made.
  void check_bytes(size_t bytes) {
    tick(static_cast<int64_t>(bytes / 64));
    if (bytes > limits.bytes_max) error("the template makes a text longer than {} bytes", limits.bytes_max);
  }
  void check_items(size_t items) {
    tick(static_cast<int64_t>(items));
    if (items > limits.items_max) error("the template makes a list longer than {} items", limits.items_max);
  }
  template <class... Args>
  [[noreturn]] void error(fmt::format_string<Args...> format, Args&&... args) const {
    throw TemplateError{TemplateError::Kind::kRuntime, line, fmt::format(format, std::forward<Args>(args)...)};
  }
};

// Counts nested evaluation for as long as it lives.
class DepthGuard {
 public:
  explicit DepthGuard(Runtime& runtime) : runtime_(runtime) {
    if (++runtime_.depth > runtime_.limits.depth_max) runtime_.error("the template recurses too deep");
  }
  ~DepthGuard() { --runtime_.depth; }
  DepthGuard(const DepthGuard&) = delete;

 private:
  Runtime& runtime_;
};

}  // namespace hylas::jinja
