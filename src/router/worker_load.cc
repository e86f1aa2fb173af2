#include "router/worker_load.h"

#include <algorithm>

#include "base/json.h"

namespace hylas::router {

Result<WorkerLoad> parse_load(std::string_view body) {
  HYLAS_ASSIGN(json::object from, json::parse_object(body, "the answer to /get_load"));
  WorkerLoad load;
  HYLAS_ASSIGN(std::string_view role, json::require_string(from, "role"));
  HYLAS_ASSIGN(load.role, parse_kind(role));
  HYLAS_ASSIGN(int64_t port, json::require_int(from, "bootstrap_port"));
  if (port < 0 || port > UINT16_MAX) return error(ErrorCode::kInvalid, "`bootstrap_port` {} is no port", port);
  load.bootstrap_port = uint16_t(port);
  HYLAS_ASSIGN(load.running, json::require_int(from, "running"));
  HYLAS_ASSIGN(load.queued, json::require_int(from, "queued"));
  HYLAS_ASSIGN(load.slots_free, json::require_int(from, "slots_free"));
  HYLAS_ASSIGN(load.slots_max, json::require_int(from, "slots_max"));
  HYLAS_ASSIGN(load.pages_free, json::require_int(from, "pages_free"));
  HYLAS_ASSIGN(load.pages_max, json::require_int(from, "pages_max"));
  HYLAS_ASSIGN(load.page_size, json::require_int(from, "page_size"));
  HYLAS_ASSIGN(load.context_length, json::require_int(from, "context_length"));
  load.page_size = std::max<int64_t>(load.page_size, 1);
  return load;
}

int64_t pages_of(const Demand& demand, int64_t page_size) {
  int64_t tokens = demand.prompt_tokens + demand.growth_tokens;
  // Each sequence has a last page of its own.
  return (tokens + page_size - 1) / page_size + std::max<int64_t>(demand.sequences - 1, 0);
}

bool fits(const Demand& demand, const std::optional<WorkerLoad>& load, const Sent& sent) {
  if (!load) return true;
  bool idle = load->running == 0 && load->queued == 0 && sent.sequences == 0;
  if (idle) return true;
  int64_t slots = std::min(demand.sequences, load->slots_max);
  int64_t pages = std::min(pages_of(demand, load->page_size), load->pages_max);
  int64_t slots_free = std::min(load->slots_free - load->queued - sent.recent_sequences,  // also of other routers
                                load->slots_max - sent.sequences);
  return slots <= slots_free && pages <= load->pages_free - sent.recent_pages;
}

}  // namespace hylas::router
