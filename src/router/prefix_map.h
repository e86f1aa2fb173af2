#pragma once
// What of a prompt an instance has seen before, approximately: hashes of the blocks of its text, each hash of the whole
// prefix up to there.
#include <cstdint>
#include <list>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace hylas::router {

constexpr size_t kPrefixBlockBytes = 128;
constexpr size_t kPrefixBlocksMax = 4096;  // of one prompt; what follows does not count

// Hash i is of the first (i + 1) * kPrefixBlockBytes bytes. A rest that fills no block has none.
std::vector<uint64_t> prefix_blocks(std::string_view prompt);

// Bounded: the blocks used longest ago go first, and of one prompt the last ones. Not thread-safe.
class PrefixMap {
 public:
  explicit PrefixMap(size_t blocks_max) : blocks_max_(blocks_max) {}

  // How many blocks from the first on it knows.
  size_t matched(std::span<const uint64_t> blocks) const;
  void insert(std::span<const uint64_t> blocks);
  size_t size() const { return places_.size(); }

 private:
  size_t blocks_max_;
  std::list<uint64_t> order_;  // the latest first
  std::unordered_map<uint64_t, std::list<uint64_t>::iterator> places_;
};

}  // namespace hylas::router
