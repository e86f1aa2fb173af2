#pragma once
// Logging to stderr. Levels: trace debug info warn error. HYLAS_LOG sets the default level. Thread-safe. The library
// behind it stays in log.cc: its headers would cost every file that logs several seconds to compile.
#include <fmt/format.h>

#include <string>
#include <string_view>
#include <utility>

namespace hylas::log {

enum class Level { kDebug, kInfo, kWarn, kError };
bool is_enabled(Level level);
void write(Level level, std::string_view text);

template <class... Args>
void log(Level level, fmt::format_string<Args...> format, Args&&... args) {
  if (is_enabled(level)) write(level, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void debug(fmt::format_string<Args...> format, Args&&... args) {
  log(Level::kDebug, format, std::forward<Args>(args)...);
}
template <class... Args>
void info(fmt::format_string<Args...> format, Args&&... args) {
  log(Level::kInfo, format, std::forward<Args>(args)...);
}
template <class... Args>
void warn(fmt::format_string<Args...> format, Args&&... args) {
  log(Level::kWarn, format, std::forward<Args>(args)...);
}
template <class... Args>
void error(fmt::format_string<Args...> format, Args&&... args) {
  log(Level::kError, format, std::forward<Args>(args)...);
}

// Pattern "[time] [level] text" on stderr; `level` as on the command line (--log-level). False if the name is unknown.
bool init(const std::string& level);

}  // namespace hylas::log
