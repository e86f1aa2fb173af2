#pragma once
// Stop strings over a stream of text.
#include <string>
#include <string_view>
#include <vector>

namespace hylas {

// One per output sequence; not thread-safe. Text that could be the beginning of a stop string is held back, so what was
// given out never has to be taken back. The stop that is complete first wins; of two that end together, the longer
// one. How the text is cut into pieces changes nothing.
class StopMatcher {
 public:
  // Empty strings in `stops` are ignored. include_stop: the output ends with the stop string instead of before it.
  explicit StopMatcher(std::vector<std::string> stops, bool include_stop = false);
  // The text that may be shown now. After a match every later push gives nothing.
  std::string push(std::string_view text);
  // The output ended without a stop: what was held back.
  std::string finish();
  bool matched() const { return matched_ >= 0; }
  // The stop string that matched; only when matched().
  const std::string& matched_stop() const { return stops_[matched_]; }

 private:
  // Length of the longest end of held_ that could grow into a stop string.
  size_t possible_begin() const;

  std::vector<std::string> stops_;
  bool include_stop_;
  int matched_ = -1;
  std::string held_;
};

}  // namespace hylas
