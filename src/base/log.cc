#include "base/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

namespace hylas::log {
namespace {

spdlog::level::level_enum of(Level level) {
  switch (level) {
    case Level::kDebug: return spdlog::level::debug;
    case Level::kInfo: return spdlog::level::info;
    case Level::kWarn: return spdlog::level::warn;
    case Level::kError: return spdlog::level::err;
  }
  return spdlog::level::err;
}

// Now, before there are threads: two that log for the first time at once would make it twice.
[[maybe_unused]] const spdlog::logger* const kRegistry = spdlog::default_logger_raw();

}  // namespace

bool is_enabled(Level level) { return spdlog::should_log(of(level)); }

void write(Level level, std::string_view text) { spdlog::log(of(level), "{}", text); }

bool init(const std::string& level) {
  auto parsed = spdlog::level::from_str(level);
  if (parsed == spdlog::level::off && level != "off") return false;
  static auto logger = spdlog::stderr_color_mt("hylas");
  logger->set_pattern("[%Y-%m-%d %H:%M:%S.%e] [%^%l%$] %v");
  logger->set_level(parsed);
  spdlog::set_default_logger(logger);
  return true;
}

}  // namespace hylas::log
