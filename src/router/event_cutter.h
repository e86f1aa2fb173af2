#pragma once
// Cuts a stream of server-sent events at their ends, so that a stream that breaks never leaves half an event with the
// client.
#include <string>
#include <string_view>

namespace hylas::router {

// Not thread-safe.
class EventCutter {
 public:
  // An event longer than that goes on in pieces.
  explicit EventCutter(size_t bytes_max) : bytes_max_(bytes_max) {}

  // What can go on: the events that end in these bytes, with what was kept of them.
  std::string push(std::string_view bytes);
  // What is left without an end.
  const std::string& rest() const { return rest_; }

 private:
  size_t bytes_max_;
  std::string rest_;
};

// The status of an event that is an error in OpenAI's form ({"error": {"code": 503, ...}}; 500 if it names none), or 0
// if the first event of `events` is something else.
int error_event_status(std::string_view events);
// The data of the first event.
std::string_view first_event_data(std::string_view events);

}  // namespace hylas::router
