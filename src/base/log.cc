#include "base/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>

namespace hylas::log {
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
