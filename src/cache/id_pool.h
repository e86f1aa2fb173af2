#pragma once
// IdPool: hands out the ids [0, size) of pages, slots or sequence indices. Only ids: the bytes are StatePools'.
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace hylas {

// Not thread-safe: the scheduler's. Giving back an id that is not out is a bug of ours and aborts.
class IdPool {
 public:
  // `what` names an id in messages: "page", "slot".
  IdPool(std::string what, int64_t size);

  int64_t size() const { return static_cast<int64_t>(taken_.size()); }
  int64_t available() const { return static_cast<int64_t>(free_.size()); }
  int64_t used() const { return size() - available(); }

  // The id given back last, so that warm memory is used again. At least one must be available.
  int32_t take();
  void give_back(int32_t id);
  void give_back(std::span<const int32_t> ids);

 private:
  std::string what_;
  std::vector<int32_t> free_;  // a stack
  std::vector<bool> taken_;
};

}  // namespace hylas
