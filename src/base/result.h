#pragma once
// Result<T> and Status: what can go wrong in operation (bad request, bad file, peer gone). Values, no exceptions.
#include <fmt/format.h>

#include <optional>
#include <string>
#include <utility>
#include <variant>

#include "base/check.h"

namespace hylas {

enum class ErrorCode {
  kInvalid,      // bad input or usage: HTTP 400, exit code 2 on the command line
  kUnsupported,  // a model, layout or option this configuration cannot take: HTTP 400, exit code 3
  kNotFound,     // a file, model or id that is not there: HTTP 404, exit code 1
  kExhausted,    // memory or a queue is full: HTTP 503, exit code 1
  kIo,           // the operating system or a peer failed: HTTP 500, exit code 1
  kUnavailable,  // shutting down, or not ready yet: HTTP 503, exit code 1
  kCancelled,    // the client went away
};

struct Error {
  ErrorCode code = ErrorCode::kInvalid;
  std::string message;  // one line: names the offending thing and the remedy
};

template <class... Args>
Error error(ErrorCode code, fmt::format_string<Args...> format, Args&&... args) {
  return Error{code, fmt::format(format, std::forward<Args>(args)...)};
}

// Either a T or an Error. Reading the value of an error is a bug (HYLAS_CHECK).
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}
  bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }
  T& value() & { return checked(), std::get<0>(state_); }
  const T& value() const& { return checked(), std::get<0>(state_); }
  T&& value() && { return checked(), std::get<0>(std::move(state_)); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }
  const Error& error() const { return std::get<1>(state_); }

 private:
  void checked() const { HYLAS_CHECK(ok(), "{}", std::get<1>(state_).message); }
  std::variant<T, Error> state_;
};

// Success, or an Error.
class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(Error error) : error_(std::move(error)) {}
  bool ok() const { return !error_; }
  explicit operator bool() const { return ok(); }
  const Error& error() const { return *error_; }

 private:
  std::optional<Error> error_;
};

}  // namespace hylas

#define HYLAS_CONCAT_INNER(a, b) a##b
#define HYLAS_CONCAT(a, b) HYLAS_CONCAT_INNER(a, b)
// HYLAS_TRY(status_or_result): returns its error from the enclosing function.
#define HYLAS_TRY(expression)         \
  do {                                \
    auto&& hylas_try = (expression);  \
    if (!hylas_try.ok()) [[unlikely]] \
      return hylas_try.error();       \
  } while (0)
// HYLAS_ASSIGN(declaration, result): declaration = value, or returns the error.
#define HYLAS_ASSIGN(declaration, expression) \
  HYLAS_ASSIGN_INNER(HYLAS_CONCAT(hylas_result_, __LINE__), declaration, expression)
#define HYLAS_ASSIGN_INNER(result, declaration, expression) \
  auto result = (expression);                               \
  if (!result.ok()) [[unlikely]]                            \
    return result.error();                                  \
  declaration = std::move(result).value()
