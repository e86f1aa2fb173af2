#include "comm/ucx_log.h"

#include <ucs/debug/log_def.h>

#include <cstdarg>
#include <cstdio>
#include <mutex>

#include "base/log.h"

namespace hylas {
namespace {

// UCX_LOG_LEVEL decides what comes here. Its errors are peers that went away, mostly, which we report in our own words.
log::Level level_of(ucs_log_level_t level) {
  if (level == UCS_LOG_LEVEL_FATAL) return log::Level::kError;
  if (level <= UCS_LOG_LEVEL_WARN) return log::Level::kWarn;
  return level <= UCS_LOG_LEVEL_INFO ? log::Level::kInfo : log::Level::kDebug;
}

ucs_log_func_rc_t write(const char* file, unsigned line, const char*, ucs_log_level_t level,
                        const ucs_log_component_config_t*, const char* message, va_list arguments) {
  char text[1024];
  std::vsnprintf(text, sizeof text, message, arguments);
  log::log(level_of(level), "ucx: {} ({}:{})", text, file, line);
  return UCS_LOG_FUNC_RC_STOP;
}

}  // namespace

void log_ucx_here() {
  static std::once_flag once;
  std::call_once(once, [] { ucs_log_push_handler(write); });
}

}  // namespace hylas
