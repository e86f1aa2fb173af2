#pragma once
// PageLock: host memory that a device copies to and from by itself, as long as this lives.
#include <cstddef>
#include <utility>

#include "base/log.h"
#include "tensor/device.h"

namespace hylas {

class PageLock {
 public:
  PageLock() = default;
  // `device` and `host` outlive it. Where the system refuses, a warning says so, and copies are slower.
  PageLock(Device& device, void* host, size_t bytes) {
    if (bytes == 0) return;
    const Status locked = device.lock_pages(host, bytes);
    if (!locked.ok()) {
      log::warn("{}: copies of it are slower", locked.error().message);
      return;
    }
    device_ = &device;
    host_ = host;
  }
  PageLock(PageLock&& other) noexcept { *this = std::move(other); }
  PageLock& operator=(PageLock&& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(host_, other.host_);
    return *this;
  }
  ~PageLock() {
    if (device_ != nullptr) device_->unlock_pages(host_);
  }

 private:
  Device* device_ = nullptr;
  void* host_ = nullptr;
};

}  // namespace hylas
