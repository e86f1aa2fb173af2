#include "weights/weight_store.h"

namespace hylas {

Result<std::byte*> WeightStore::allocate(size_t bytes) {
  const size_t padded = (bytes + 63) / 64 * 64;
  const bool small = padded <= block_bytes_ / 8;
  if (!small || small_ < 0 || used_ + padded > block_bytes_) {
    HYLAS_ASSIGN(Buffer block, Buffer::make(*device_, small ? block_bytes_ : padded));
    blocks_.push_back(std::move(block));
    if (!small) return static_cast<std::byte*>(blocks_.back().data());
    small_ = static_cast<int>(blocks_.size()) - 1;
    used_ = 0;
  }
  std::byte* memory = static_cast<std::byte*>(blocks_[small_].data()) + used_;
  used_ += padded;
  return memory;
}

}  // namespace hylas
