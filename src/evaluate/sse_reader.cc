#include "evaluate/sse_reader.h"

#include <utility>

namespace hylas {

std::vector<std::string> SseReader::push(std::string_view bytes) {
  constexpr std::string_view kData = "data:";
  std::vector<std::string> events;
  while (true) {
    size_t end = bytes.find('\n');
    line_ += bytes.substr(0, end);
    if (end == std::string_view::npos) return events;
    bytes.remove_prefix(end + 1);
    std::string line = std::exchange(line_, {});
    if (line.ends_with('\r')) line.pop_back();
    if (line.empty()) {
      if (has_data_) events.push_back(std::exchange(data_, {}));
      has_data_ = false;
    } else if (line.starts_with(kData)) {
      size_t from = line.starts_with("data: ") ? kData.size() + 1 : kData.size();
      if (has_data_) data_ += '\n';
      data_ += line.substr(from);
      has_data_ = true;
    }
  }
}

}  // namespace hylas
