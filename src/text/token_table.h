#pragma once
// Token ids and the bytes they stand for, both ways.
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace hylas {

// Filled once, then read from any thread.
class TokenTable {
 public:
  static constexpr int64_t kIdsMax = int64_t{1} << 22;

  // False if the id is taken by other bytes. id in [0, kIdsMax), bytes not empty.
  bool set(int32_t id, std::string_view bytes);
  // Highest id + 1.
  int32_t size() const { return static_cast<int32_t>(spans_.size()); }
  // Empty for an id without a token.
  std::string_view bytes(int32_t id) const;
  // Of several ids with these bytes, the one that was set first.
  std::optional<int32_t> find(std::string_view bytes) const;

 private:
  struct Span {
    uint64_t begin = 0;
    uint32_t length = 0;  // 0: no token
  };
  void insert(int32_t id);
  void grow();

  std::string blob_;
  std::vector<Span> spans_;     // by id
  std::vector<int32_t> slots_;  // open addressing by the hash of the bytes; -1: free
  size_t used_ = 0;
};

}  // namespace hylas
