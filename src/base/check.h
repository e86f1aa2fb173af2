#pragma once
// HYLAS_CHECK: for our own bugs. Prints the condition, the place and a message, then aborts. Never for bad input.
#include <fmt/format.h>

#include <string>

namespace hylas {
[[noreturn]] void check_failed(const char* condition, const char* file, int line, const std::string& message);
}  // namespace hylas

#define HYLAS_CHECK(condition, ...)                                                                     \
  do {                                                                                                  \
    if (!(condition)) [[unlikely]]                                                                      \
      ::hylas::check_failed(#condition, __FILE__, __LINE__, ::hylas::internal_check_text(__VA_ARGS__)); \
  } while (0)

namespace hylas {
inline std::string internal_check_text() { return {}; }
template <class... Args>
std::string internal_check_text(fmt::format_string<Args...> format, Args&&... args) {
  return fmt::format(format, std::forward<Args>(args)...);
}
}  // namespace hylas
