#pragma once
// LateDevice: host memory behind a device that does what it is told only when somebody waits for a mark behind it. What
// a GPU may do at any time up to then, this one does as late as possible.
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <utility>

#include "tensor/device.h"

namespace hylas::test {

class LateDevice final : public Device {
 public:
  const char* name() const override { return "late"; }
  Result<void*> allocate(size_t bytes) override { return host_->allocate(bytes); }
  void release(void* memory, size_t bytes) override { host_->release(memory, bytes); }
  void copy_from_host(void* device, const void* host, size_t bytes) override {
    host_->copy_from_host(device, host, bytes);
  }
  void copy_to_host(void* host, const void* device, size_t bytes) override { host_->copy_to_host(host, device, bytes); }
  void copy(void* to, const void* from, size_t bytes) override { host_->copy(to, from, bytes); }
  size_t bytes_free() const override { return host_->bytes_free(); }
  size_t bytes_total() const override { return host_->bytes_total(); }

  void copy_from_locked(void* device, const void* host, size_t bytes) override {
    ++copies;
    launch([this, device, host, bytes] { host_->copy_from_host(device, host, bytes); });
  }
  std::unique_ptr<DeviceMark> mark() override { return std::make_unique<Mark>(*this, launched_); }

  // As a kernel.
  void launch(std::function<void()> work) {
    std::lock_guard lock(mutex_);
    waiting_.push_back(std::move(work));
    ++launched_;
  }

  int copies = 0;  // of locked memory

 private:
  class Mark final : public DeviceMark {
   public:
    Mark(LateDevice& device, int launched) : device_(device), launched_(launched) {}
    void wait() override { device_.do_until(launched_); }

   private:
    LateDevice& device_;
    int launched_;
  };

  void do_until(int launched) {
    std::lock_guard lock(mutex_);
    for (; done_ < launched; ++done_) {
      waiting_.front()();
      waiting_.pop_front();
    }
  }

  std::unique_ptr<Device> host_ = make_cpu_device();
  std::mutex mutex_;
  std::deque<std::function<void()>> waiting_;  // guarded by mutex_
  int launched_ = 0;                           // the device's thread writes it
  int done_ = 0;                               // guarded by mutex_
};

}  // namespace hylas::test
