#include "router/event_cutter.h"

#include <algorithm>
#include <utility>

#include "base/json.h"

namespace hylas::router {

std::string EventCutter::push(std::string_view bytes) {
  size_t old_size = rest_.size();
  rest_ += bytes;
  size_t from = old_size > 3 ? old_size - 3 : 0;  // the end of an event may have come in two pieces
  size_t end = 0;
  for (std::string_view mark : {"\n\n", "\r\n\r\n"}) {
    size_t at = std::string_view(rest_).substr(from).rfind(mark);
    if (at != std::string_view::npos) end = std::max(end, from + at + mark.size());
  }
  if (end == 0 && rest_.size() > bytes_max_) end = rest_.size();
  std::string kept = rest_.substr(end);
  rest_.resize(end);
  return std::exchange(rest_, std::move(kept));
}

std::string_view first_event_data(std::string_view events) {
  constexpr std::string_view kField = "data:";
  if (!events.starts_with(kField)) return {};
  events.remove_prefix(kField.size());
  if (events.starts_with(' ')) events.remove_prefix(1);
  return events.substr(0, std::min(events.find_first_of("\r\n"), events.size()));
}

int error_event_status(std::string_view events) {
  std::string_view data = first_event_data(events);
  if (!data.starts_with("{\"error\"")) return 0;
  auto body = json::parse_object(data, "an event");
  if (!body.ok()) return 0;
  auto problem = json::optional_object(*body, "error");
  if (!problem.ok() || !*problem) return 0;
  auto code = json::optional_int(**problem, "code");
  if (!code.ok() || !*code || **code < 400 || **code > 599) return 500;
  return int(**code);
}

}  // namespace hylas::router
