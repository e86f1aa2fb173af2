#include "tensor/cuda/cuda_device.h"

#include <cstring>
#include <optional>

#include "base/check.h"
#include "tensor/cuda/cuda_error.h"
#include "tensor/cuda/hashed_fill.h"
#include "tensor/cuda/work_clock.h"

namespace hylas {
namespace {

constexpr int kArchitecture = 90;  // what the kernels are compiled for
constexpr size_t kStagingBytes = size_t{8} << 20;

Status check_gpu(int index) {
  int driver = 0, runtime = 0, count = 0;
  cudaDriverGetVersion(&driver);
  cudaRuntimeGetVersion(&runtime);
  if (driver == 0) return error(ErrorCode::kUnsupported, "there is no NVIDIA driver here: use --device cpu");
  // Minor versions run on each other's drivers, major ones only on their own or a newer one.
  if (driver / 1000 < runtime / 1000) {
    return error(ErrorCode::kUnsupported, "the NVIDIA driver knows CUDA {}.{}, this program needs {}.{}: update it",
                 driver / 1000, driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
  }
  if (cudaError_t status = cudaGetDeviceCount(&count); status != cudaSuccess || count == 0) {
    return error(ErrorCode::kUnsupported, "no GPU to be seen ({}): use --device cpu", cudaGetErrorString(status));
  }
  if (index < 0 || index >= count) return error(ErrorCode::kUnsupported, "GPU {} of {} is wanted", index, count);
  cudaDeviceProp properties;
  cuda::check(cudaGetDeviceProperties(&properties, index), "cudaGetDeviceProperties");
  if (properties.major * 10 + properties.minor != kArchitecture) {
    return error(ErrorCode::kUnsupported, "GPU {} ({}) has compute capability {}.{}; this program is built for {}.{}",
                 index, properties.name, properties.major, properties.minor, kArchitecture / 10, kArchitecture % 10);
  }
  return {};
}

// An event on which threads sleep. Each call makes the device the calling thread's.
class CudaMark final : public DeviceMark {
 public:
  CudaMark(int device, cudaStream_t stream) : device_(device) {
    cuda::check(cudaSetDevice(device_), "cudaSetDevice");
    cuda::check(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming | cudaEventBlockingSync), "cudaEventCreate");
    record(stream);
  }
  ~CudaMark() override {
    cudaSetDevice(device_);
    cudaEventDestroy(event_);
  }
  CudaMark(const CudaMark&) = delete;
  CudaMark& operator=(const CudaMark&) = delete;
  void record(cudaStream_t stream) { cuda::check(cudaEventRecord(event_, stream), "cudaEventRecord"); }
  void wait() override {
    cuda::check(cudaSetDevice(device_), "cudaSetDevice");
    cuda::check(cudaEventSynchronize(event_), "the kernels before a mark");
  }

 private:
  int device_;
  cudaEvent_t event_ = nullptr;
};

// A stream of its own, so that copies run beside kernels.
class CudaReader final : public DeviceReader {
 public:
  explicit CudaReader(int device) : device_(device) {
    cuda::check(cudaSetDevice(device_), "cudaSetDevice");
    cuda::check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreate");
    end_.emplace(device_, stream_);
  }
  ~CudaReader() override {
    cudaSetDevice(device_);
    cudaStreamDestroy(stream_);
  }
  CudaReader(const CudaReader&) = delete;
  CudaReader& operator=(const CudaReader&) = delete;

  void read(void* host, const void* device, size_t bytes) override {
    if (bytes == 0) return;
    cuda::check(cudaSetDevice(device_), "cudaSetDevice");
    cuda::check(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, stream_), "copy beside the kernels");
  }
  void finish() override {
    cuda::check(cudaSetDevice(device_), "cudaSetDevice");
    end_->record(stream_);
    end_->wait();
  }

 private:
  int device_;
  cudaStream_t stream_ = nullptr;
  std::optional<CudaMark> end_;
};

}  // namespace

Result<std::unique_ptr<CudaDevice>> CudaDevice::make(int index) {
  HYLAS_TRY(check_gpu(index));
  cuda::check(cudaSetDevice(index), "cudaSetDevice");
  std::unique_ptr<CudaDevice> device(new CudaDevice);
  device->index_ = index;
  cuda::check(cudaDeviceGetAttribute(&device->multiprocessors_, cudaDevAttrMultiProcessorCount, index),
              "cudaDeviceGetAttribute");
  // Before what runs beside it in other streams: that takes the multiprocessors which this one leaves.
  int least = 0, greatest = 0;
  cuda::check(cudaDeviceGetStreamPriorityRange(&least, &greatest), "cudaDeviceGetStreamPriorityRange");
  cuda::check(cudaStreamCreateWithPriority(&device->stream_, cudaStreamNonBlocking, greatest), "cudaStreamCreate");
  cuda::check(cudaMallocHost(reinterpret_cast<void**>(&device->staging_), kStagingBytes), "cudaMallocHost");
  return device;
}

CudaDevice::~CudaDevice() {
  cudaStreamDestroy(stream_);
  cudaFreeHost(staging_);
}

cudaStream_t CudaDevice::stream() const {
  cuda::check(cudaSetDevice(index_), "cudaSetDevice");
  return stream_;
}

Result<void*> CudaDevice::allocate(size_t bytes) {
  void* memory = nullptr;
  const cudaStream_t stream = this->stream();
  if (cudaError_t status = cudaMalloc(&memory, bytes); status != cudaSuccess) {
    cudaGetLastError();  // an allocation that failed does no harm to what follows
    return error(ErrorCode::kExhausted, "cannot allocate {} MiB on GPU {}: {} MiB are free", bytes >> 20, index_,
                 bytes_free() >> 20);
  }
  cuda::check(cudaMemsetAsync(memory, 0, bytes, stream), "cudaMemset");
  return memory;
}

void CudaDevice::release(void* memory, size_t) { cuda::check(cudaFree(memory), "cudaFree"); }

// The source may be changed once the call returns. Small copies do not wait for the device unless the staging memory is
// full; of large ones the driver does the same in pieces of its own.
void CudaDevice::copy_from_host(void* device, const void* host, size_t bytes) {
  HYLAS_CHECK(!recording_, "a copy from the host is recorded");
  if (bytes == 0) return;
  if (bytes <= kStagingBytes / 8) {
    if (staged_ + bytes > kStagingBytes) synchronize("the copies from the host");
    host = std::memcpy(staging_ + staged_, host, bytes);
    staged_ += (bytes + 63) / 64 * 64;
  }
  cuda::check(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, stream()), "copy to the device");
}

void CudaDevice::synchronize(const char* what) {
  cuda::check(cudaStreamSynchronize(stream_), what);
  staged_ = 0;
}

void CudaDevice::copy_to_host(void* host, const void* device, size_t bytes) {
  if (bytes == 0) return;
  HYLAS_CHECK(!recording_, "a copy to the host is recorded");
  cuda::check(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, stream()), "copy to the host");
  synchronize("the kernels before a copy to the host");
}

void CudaDevice::copy(void* to, const void* from, size_t bytes) {
  if (bytes == 0) return;
  cuda::check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream()), "copy on the device");
}

// cudaHostRegister takes shared files too. Every GPU of the process reaches the memory.
Status CudaDevice::lock_pages(void* host, size_t bytes) {
  cuda::check(cudaSetDevice(index_), "cudaSetDevice");
  if (cudaError_t status = cudaHostRegister(host, bytes, cudaHostRegisterPortable); status != cudaSuccess) {
    cudaGetLastError();  // it does no harm to what follows
    return error(ErrorCode::kExhausted, "{} MiB of host memory cannot be locked for GPU {}: {}", bytes >> 20, index_,
                 cudaGetErrorString(status));
  }
  return {};
}

void CudaDevice::unlock_pages(void* host) {
  cuda::check(cudaSetDevice(index_), "cudaSetDevice");
  cuda::check(cudaHostUnregister(host), "cudaHostUnregister");
}

void CudaDevice::copy_from_locked(void* device, const void* host, size_t bytes) {
  HYLAS_CHECK(!recording_, "a copy from the host is recorded");
  if (bytes == 0) return;
  cuda::check(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, stream()), "copy to the device");
}

void CudaDevice::copy_to_locked(void* host, const void* device, size_t bytes) {
  HYLAS_CHECK(!recording_, "a copy to the host is recorded");
  if (bytes == 0) return;
  cuda::check(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, stream()), "copy to the host");
}

std::unique_ptr<DeviceMark> CudaDevice::mark() { return std::make_unique<CudaMark>(index_, stream()); }

std::unique_ptr<DeviceReader> CudaDevice::reader() { return std::make_unique<CudaReader>(index_); }

bool CudaDevice::fill_hashed(const HashedFill& fill) {
  cuda::hashed_fill(fill, stream());
  return true;
}

std::unique_ptr<WorkClock> CudaDevice::make_work_clock() { return std::make_unique<cuda::StreamClock>(stream()); }

size_t CudaDevice::bytes_free() const {
  size_t free = 0, total = 0;
  cuda::check(cudaSetDevice(index_), "cudaSetDevice");
  cuda::check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
  return free;
}

size_t CudaDevice::bytes_total() const {
  size_t free = 0, total = 0;
  cuda::check(cudaSetDevice(index_), "cudaSetDevice");
  cuda::check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
  return total;
}

}  // namespace hylas
