#include "weights/host_store.h"

namespace hylas {
namespace {
constexpr size_t kBlockBytes = size_t{4} << 20;
constexpr size_t kSmallBytesMax = kBlockBytes / 8;
}  // namespace

Result<std::byte*> HostStore::allocate(size_t bytes) {
  const size_t padded = (bytes + 63) / 64 * 64;
  const bool small = padded <= kSmallBytesMax;
  if (!small || small_ < 0 || used_ + padded > kBlockBytes) {
    HYLAS_ASSIGN(Buffer block, Buffer::make(*device_, small ? kBlockBytes : padded));
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
