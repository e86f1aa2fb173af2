#include "base/check.h"

#include <cstdio>
#include <cstdlib>

namespace hylas {
void check_failed(const char* condition, const char* file, int line, const std::string& message) {
  fmt::print(stderr, "{}:{}: check failed: {}{}{}\n", file, line, condition, message.empty() ? "" : ": ", message);
  std::fflush(stderr);
  std::abort();
}
}  // namespace hylas
