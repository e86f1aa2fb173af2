#include "text/stop_matcher.h"

#include <algorithm>
#include <utility>

namespace hylas {

StopMatcher::StopMatcher(std::vector<std::string> stops, bool include_stop)
    : stops_(std::move(stops)), include_stop_(include_stop) {
  std::erase_if(stops_, [](const std::string& stop) { return stop.empty(); });
}

std::string StopMatcher::push(std::string_view text) {
  if (matched()) return {};
  size_t seen = held_.size();
  held_.append(text);
  for (size_t end = seen + 1; end <= held_.size(); ++end) {
    std::string_view so_far = std::string_view(held_).substr(0, end);
    for (size_t i = 0; i < stops_.size(); ++i) {
      bool longer = !matched() || stops_[i].size() > stops_[matched_].size();
      if (longer && so_far.ends_with(stops_[i])) matched_ = static_cast<int>(i);
    }
    if (!matched()) continue;
    std::string out = held_.substr(0, include_stop_ ? end : end - matched_stop().size());
    held_.clear();
    return out;
  }
  size_t keep = possible_begin();
  std::string out = held_.substr(0, held_.size() - keep);
  held_.erase(0, out.size());
  return out;
}

size_t StopMatcher::possible_begin() const {
  size_t longest = 0;
  for (const std::string& stop : stops_) {
    for (size_t length = std::min(stop.size() - 1, held_.size()); length > longest; --length) {
      if (held_.ends_with(std::string_view(stop).substr(0, length))) longest = length;
    }
  }
  return longest;
}

std::string StopMatcher::finish() { return std::exchange(held_, {}); }

}  // namespace hylas
