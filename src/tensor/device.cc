#include "tensor/device.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <string>
#include <utility>

namespace hylas {
namespace {

// A container's limit, where there is one; 0 otherwise.
size_t cgroup_bytes(const char* path) {
  std::ifstream file(path);
  std::string text;
  if (!(file >> text) || text == "max") return 0;
  return std::strtoull(text.c_str(), nullptr, 10);
}

// Of a device that has done what it was told.
class PastMark final : public DeviceMark {
 public:
  void wait() override {}
};

class HostReader final : public DeviceReader {
 public:
  void read(void* host, const void* device, size_t bytes) override { std::memcpy(host, device, bytes); }
  void finish() override {}
};

class CpuDevice final : public Device {
 public:
  const char* name() const override { return "cpu"; }

  Result<void*> allocate(size_t bytes) override {
    if (bytes > bytes_free()) {
      return error(ErrorCode::kExhausted, "cannot allocate {} MiB of memory: {} MiB are free", bytes >> 20,
                   bytes_free() >> 20);
    }
    void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
      return error(ErrorCode::kExhausted, "cannot allocate {} MiB of memory: {}", bytes >> 20, std::strerror(errno));
    }
    madvise(memory, bytes, MADV_HUGEPAGE);
    return memory;
  }

  void release(void* memory, size_t bytes) override { munmap(memory, bytes); }
  void copy_from_host(void* device, const void* host, size_t bytes) override { copy(device, host, bytes); }
  void copy_to_host(void* host, const void* device, size_t bytes) override { copy(host, device, bytes); }
  // Nothing may come with no memory.
  void copy(void* to, const void* from, size_t bytes) override {
    if (bytes > 0) std::memmove(to, from, bytes);
  }

  size_t bytes_free() const override {
    std::ifstream file("/proc/meminfo");
    std::string key;
    size_t kib = 0, available = 0;
    while (file >> key >> kib) {
      if (key == "MemAvailable:") available = kib << 10;
      file.ignore(64, '\n');
    }
    size_t limit = cgroup_bytes("/sys/fs/cgroup/memory.max");
    size_t used = cgroup_bytes("/sys/fs/cgroup/memory.current");
    return limit ? std::min(available, limit - std::min(used, limit)) : available;
  }

  size_t bytes_total() const override {
    size_t total = static_cast<size_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGE_SIZE);
    size_t limit = cgroup_bytes("/sys/fs/cgroup/memory.max");
    return limit ? std::min(total, limit) : total;
  }
};

}  // namespace

std::unique_ptr<Device> make_cpu_device() { return std::make_unique<CpuDevice>(); }

std::unique_ptr<DeviceMark> Device::mark() { return std::make_unique<PastMark>(); }
std::unique_ptr<DeviceReader> Device::reader() { return std::make_unique<HostReader>(); }

Result<Buffer> Buffer::make(Device& device, size_t bytes) {
  Buffer buffer;
  if (bytes == 0) return buffer;
  HYLAS_ASSIGN(buffer.data_, device.allocate(bytes));
  buffer.device_ = &device;
  buffer.bytes_ = bytes;
  return buffer;
}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  std::swap(device_, other.device_);
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

Buffer::~Buffer() {
  if (data_) device_->release(data_, bytes_);
}

}  // namespace hylas
