#include "router/prefix_map.h"

#include <algorithm>
#include <cstring>

namespace hylas::router {
namespace {

// The finalizer of SplitMix64.
uint64_t mix(uint64_t x) {
  x ^= x >> 30;
  x *= 0xbf58476d1ce4e5b9;
  x ^= x >> 27;
  x *= 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

}  // namespace

std::vector<uint64_t> prefix_blocks(std::string_view prompt) {
  std::vector<uint64_t> blocks;
  uint64_t hash = 0x9e3779b97f4a7c15;
  size_t count = std::min(prompt.size() / kPrefixBlockBytes, kPrefixBlocksMax);
  blocks.reserve(count);
  for (size_t at = 0; at < count * kPrefixBlockBytes; at += sizeof(uint64_t)) {
    uint64_t word;
    std::memcpy(&word, prompt.data() + at, sizeof word);
    hash = mix(hash ^ word) + 0x9e3779b97f4a7c15;
    if ((at + sizeof word) % kPrefixBlockBytes == 0) blocks.push_back(hash);
  }
  return blocks;
}

size_t PrefixMap::matched(std::span<const uint64_t> blocks) const {
  size_t known = 0;
  while (known < blocks.size() && places_.contains(blocks[known])) ++known;
  return known;
}

void PrefixMap::insert(std::span<const uint64_t> blocks) {
  if (blocks.size() > blocks_max_) blocks = blocks.first(blocks_max_);
  // From the last to the first: a prefix outlives what hangs on it.
  for (size_t i = blocks.size(); i-- > 0;) {
    auto [place, is_new] = places_.try_emplace(blocks[i]);
    if (is_new) {
      place->second = order_.insert(order_.begin(), blocks[i]);
    } else {
      order_.splice(order_.begin(), order_, place->second);
    }
  }
  while (places_.size() > blocks_max_) {
    places_.erase(order_.back());
    order_.pop_back();
  }
}

}  // namespace hylas::router
