#pragma once
// Device: where tensors live. Allocates and copies; computing is ops/. One device belongs to one rank thread.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

#include "base/result.h"
#include "tensor/hashed_fill.h"

namespace hylas {

// When a device that works behind the host's back came past a point. Of the device's thread.
class WorkClock {
 public:
  virtual ~WorkClock() = default;
  // A point behind all that was launched so far. At most a thousand are open.
  virtual int64_t mark() = 0;
  // base/clock's now_us() at that point; nullopt while the device has not come there. Asked in the order of the marks.
  virtual std::optional<int64_t> passed_us(int64_t mark) = 0;
};

// A moment in the order of what a device does.
class DeviceMark {
 public:
  virtual ~DeviceMark() = default;
  // Until the device has come past it. On any thread.
  virtual void wait() = 0;
};

// Copies from a device beside what its own thread lets it do, on another thread: one at a time.
class DeviceReader {
 public:
  virtual ~DeviceReader() = default;
  // Begins; what is read must be final, and stay.
  virtual void read(void* host, const void* device, size_t bytes) = 0;
  // Until everything that was begun is in host memory.
  virtual void finish() = 0;
};

class Device {
 public:
  virtual ~Device() = default;
  virtual const char* name() const = 0;
  // Zeroed memory, 64-byte aligned. kExhausted with the sizes when there is too little.
  virtual Result<void*> allocate(size_t bytes) = 0;
  virtual void release(void* memory, size_t bytes) = 0;
  virtual void copy_from_host(void* device, const void* host, size_t bytes) = 0;
  virtual void copy_to_host(void* host, const void* device, size_t bytes) = 0;
  virtual void copy(void* to, const void* from, size_t bytes) = 0;

  // For devices that work beside the thread that tells them what to do; others need none of it.
  // Makes host memory such that the device reads and writes it by itself (tensor/page_lock.h). kExhausted: the system
  // refuses; everything works without, only slower.
  virtual Status lock_pages(void*, size_t) { return {}; }
  virtual void unlock_pages(void*) {}
  // As copy_from_host, but the host memory must stay as it is until the device has come past a later mark.
  virtual void copy_from_locked(void* device, const void* host, size_t bytes) { copy_from_host(device, host, bytes); }
  // As copy_to_host, but what it reads is there only once the device has come past a later mark.
  virtual void copy_to_locked(void* host, const void* device, size_t bytes) { copy_to_host(host, device, bytes); }
  // Behind everything that its thread has begun.
  virtual std::unique_ptr<DeviceMark> mark();
  // The device outlives it.
  virtual std::unique_ptr<DeviceReader> reader();

  // False: not on this device; then nothing was done.
  virtual bool fill_hashed(const HashedFill& fill) { return static_cast<void>(fill), false; }
  // Null: what is asked for is done when a call returns.
  virtual std::unique_ptr<WorkClock> make_work_clock() { return nullptr; }
  // Bytes that may still be allocated, and the total of this device (for a CPU: of the machine or its cgroup).
  virtual size_t bytes_free() const = 0;
  virtual size_t bytes_total() const = 0;
};

// Host memory (anonymous mmap, huge pages advised).
std::unique_ptr<Device> make_cpu_device();

// Owns one allocation of a device.
class Buffer {
 public:
  Buffer() = default;
  static Result<Buffer> make(Device& device, size_t bytes);
  Buffer(Buffer&& other) noexcept { *this = std::move(other); }
  Buffer& operator=(Buffer&& other) noexcept;
  ~Buffer();
  void* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  Device* device_ = nullptr;
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace hylas
