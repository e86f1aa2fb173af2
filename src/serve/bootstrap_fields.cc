#include "serve/bootstrap_fields.h"

#include "base/json.h"

namespace hylas {

Result<std::optional<Bootstrap>> parse_bootstrap(const boost::json::object& from) {
  HYLAS_ASSIGN(const auto host, json::optional_string(from, "bootstrap_host"));
  HYLAS_ASSIGN(const auto port, json::optional_int(from, "bootstrap_port"));
  HYLAS_ASSIGN(const auto room, json::optional_int(from, "bootstrap_room"));
  if (!host && !port && !room) return std::optional<Bootstrap>();
  if (!host || host->empty()) return error(ErrorCode::kInvalid, "`bootstrap_host` is required with a port or a room");
  if (!port || *port < 1 || *port > 65535) {
    return error(ErrorCode::kInvalid, "`bootstrap_port` must be from 1 to 65535");
  }
  if (!room || *room < 0) return error(ErrorCode::kInvalid, "`bootstrap_room` must be an integer from 0 on");
  return std::optional(Bootstrap{{std::string(*host), static_cast<uint16_t>(*port)}, static_cast<uint64_t>(*room)});
}

}  // namespace hylas
