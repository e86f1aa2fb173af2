#pragma once
// Server-sent events out of the bytes of a stream (WHATWG HTML, section 9.2), data fields only.
#include <string>
#include <string_view>
#include <vector>

namespace hylas {

// Not thread-safe.
class SseReader {
 public:
  // The data of the events that these bytes complete. Several data lines of one event are joined by '\n'; comments and
  // other fields are skipped; a line ends in "\n" or "\r\n".
  std::vector<std::string> push(std::string_view bytes);

 private:
  std::string line_;  // the one that is not complete yet
  std::string data_;
  bool has_data_ = false;
};

}  // namespace hylas
