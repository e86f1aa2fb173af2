#pragma once
// What a router reads of a request's body, and what it adds to it. Pure; thread-safe.
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "router/worker_load.h"

namespace hylas::router {

enum class Endpoint : uint8_t { kChat, kCompletions, kGenerate };

struct GenerationBody {
  Demand demand;                 // tokens of text are guessed: a third of its bytes
  std::vector<uint64_t> prefix;  // prefix_blocks of the first prompt
};

// kInvalid: no JSON object, or it has the fields that the router sets. What else is wrong is left to the instance.
Result<GenerationBody> read_generation(Endpoint endpoint, std::string_view body, size_t bytes_max);

// Where a prompt's state is handed over: the rooms from `room` on, one for each sequence.
struct Bootstrap {
  std::string host;
  uint16_t port = 0;
  uint64_t room = 0;
};

// A room number of 62 bits; there are 2^16 from one to the next.
uint64_t room_of(uint64_t random);

// The body, a JSON object, with bootstrap_host, bootstrap_port and bootstrap_room before its other fields.
std::string with_bootstrap(std::string_view body, const Bootstrap& bootstrap);

}  // namespace hylas::router
