#pragma once
// Logging to stderr through spdlog. Levels: trace debug info warn error. HYLAS_LOG sets the default level. Thread-safe.
#include <spdlog/spdlog.h>

#include <string>

namespace hylas::log {
using spdlog::debug;
using spdlog::error;
using spdlog::info;
using spdlog::warn;

// Pattern "[time] [level] text" on stderr; `level` as on the command line (--log-level). False if the name is unknown.
bool init(const std::string& level);
}  // namespace hylas::log
