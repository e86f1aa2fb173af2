#pragma once
// CudaDevice: the memory of one GPU and the stream that everything on it runs in.
#include <cuda_runtime_api.h>

#include <memory>

#include "tensor/device.h"

namespace hylas {

// Copies and kernels are in the order of one stream; copy_to_host waits for it. One thread at a time may use it.
class CudaDevice final : public Device {
 public:
  // kUnsupported: no such GPU, a driver older than the CUDA runtime, or a GPU that is not sm_90.
  // `multiprocessors_max`: no more than that are counted on; 0: all.
  static Result<std::unique_ptr<CudaDevice>> make(int index, int multiprocessors_max = 0);
  ~CudaDevice() override;

  const char* name() const override { return "cuda"; }
  // Makes the device the calling thread's, as launches and allocations want it.
  cudaStream_t stream() const;
  int index() const { return index_; }
  int multiprocessors() const { return multiprocessors_; }
  // While a graph is recorded nothing may be copied from or to the host: such a copy would be made once, not replayed.
  void set_recording(bool recording) { recording_ = recording; }

  Result<void*> allocate(size_t bytes) override;
  void release(void* memory, size_t bytes) override;
  void copy_from_host(void* device, const void* host, size_t bytes) override;
  void copy_to_host(void* host, const void* device, size_t bytes) override;
  void copy(void* to, const void* from, size_t bytes) override;
  Status lock_pages(void* host, size_t bytes) override;
  void unlock_pages(void* host) override;
  void copy_from_locked(void* device, const void* host, size_t bytes) override;
  void copy_to_locked(void* host, const void* device, size_t bytes) override;
  std::unique_ptr<DeviceMark> mark() override;
  std::unique_ptr<DeviceReader> reader() override;
  bool fill_hashed(const HashedFill& fill) override;
  std::unique_ptr<WorkClock> make_work_clock() override;
  size_t bytes_free() const override;
  size_t bytes_total() const override;

 private:
  CudaDevice() = default;
  void synchronize(const char* what);

  int index_ = 0;
  int multiprocessors_ = 0;
  bool recording_ = false;
  // What was copied from the host lies here, page-locked, until the stream has come past it.
  std::byte* staging_ = nullptr;
  size_t staged_ = 0;
  cudaStream_t stream_ = nullptr;
};

}  // namespace hylas
