#include "cache/id_pool.h"

#include <utility>

#include "base/check.h"

namespace hylas {

IdPool::IdPool(std::string what, int64_t size) : what_(std::move(what)), taken_(size, false) {
  free_.reserve(size);
  for (int64_t id = size - 1; id >= 0; --id) free_.push_back(static_cast<int32_t>(id));
}

int32_t IdPool::take() {
  HYLAS_CHECK(!free_.empty(), "no {} is free of {}", what_, size());
  int32_t id = free_.back();
  free_.pop_back();
  taken_[id] = true;
  return id;
}

void IdPool::give_back(int32_t id) {
  HYLAS_CHECK(id >= 0 && id < size() && taken_[id], "{} {} is given back but was not out", what_, id);
  taken_[id] = false;
  free_.push_back(id);
}

void IdPool::give_back(std::span<const int32_t> ids) {
  for (int32_t id : ids) give_back(id);
}

}  // namespace hylas
