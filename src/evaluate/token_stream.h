#pragma once
// Reads the events of one streamed answer into a RequestTiming.
#include <cstdint>
#include <string_view>

#include "base/json.h"
#include "evaluate/target.h"
#include "evaluate/timing.h"

namespace hylas {

// Not thread-safe. Tokens are counted as the server counts them; a completions server that sends no usage with its
// chunks is taken to send a token in each.
class TokenStream {
 public:
  TokenStream(Api api, RequestTiming& timing) : api_(api), timing_(timing) {}

  // The data of an event that came at `at_us`. False: nothing more is expected.
  bool push(std::string_view data, int64_t at_us);
  // The answer has ended; without [DONE] it is not complete, and the request has failed.
  void end();

 private:
  Status read(std::string_view data, int64_t at_us);
  Status read_generate(const json::object& event, int64_t at_us);
  Status read_completions(const json::object& event, int64_t at_us);
  void count(int64_t tokens_so_far, int64_t at_us);

  const Api api_;
  RequestTiming& timing_;
  bool done_ = false;
};

// Asks and waits for the whole stream; a failure is in the timing. Thread-safe.
RequestTiming time_task(const Target& target, const Task& task);

}  // namespace hylas
