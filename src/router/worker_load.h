#pragma once
// What an instance says of itself under GET /get_load, and whether a request fits beside what the router knows. Pure.
#include <cstdint>
#include <optional>
#include <string_view>

#include "base/result.h"
#include "router/worker_address.h"

namespace hylas::router {

struct WorkerLoad {
  WorkerKind role = WorkerKind::kWhole;
  uint16_t bootstrap_port = 0;
  int64_t running = 0, queued = 0;
  int64_t slots_free = 0, slots_max = 0;
  int64_t pages_free = 0, pages_max = 0;
  int64_t page_size = 1;
  int64_t context_length = 0;
};

// The error says which field is not as hylas answers it.
Result<WorkerLoad> parse_load(std::string_view body);

// What a request takes of the instance that decodes it. Tokens of text are estimated.
struct Demand {
  int64_t sequences = 1;      // each needs a slot
  int64_t prompt_tokens = 0;  // of all sequences
  int64_t growth_tokens = 0;  // that all of them may still generate, or the first part of it
};

int64_t pages_of(const Demand& demand, int64_t page_size);

// The router's own count of what it sent to an instance.
struct Sent {
  int64_t sequences = 0;         // not ended yet
  int64_t recent_sequences = 0;  // of these, those that the instance's last report cannot know
  int64_t recent_pages = 0;
};

// Whether the instance can hold the request now. What is larger than the instance fits once it is idle: its own answer
// says better why it cannot be. An instance that reports nothing takes everything.
bool fits(const Demand& demand, const std::optional<WorkerLoad>& load, const Sent& sent);

}  // namespace hylas::router
