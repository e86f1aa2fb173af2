#include "comm/cuda/device_pipe.h"

#include "comm/cuda/device_comm.h"
#include "tensor/cuda/cuda_error.h"

namespace hylas::cuda {

DevicePipe::~DevicePipe() {
  for (const std::unique_ptr<Place>& place : places_) {
    cudaEventDestroy(place->filled);
    if (place->emptied) cudaEventDestroy(place->emptied);
  }
}

// A free place that is large enough.
DevicePipe::Place& DevicePipe::take(size_t bytes) {
  for (const std::unique_ptr<Place>& place : places_) {
    if (place->memory.bytes() >= bytes && place->free.exchange(false, std::memory_order_acquire)) return *place;
  }
  auto place = std::make_unique<Place>();
  auto made = Buffer::make(device_, bytes);
  HYLAS_CHECK(made.ok(), "a message of {} bytes to the next stage: {}", bytes, made.error().message);
  place->memory = std::move(*made);
  check(cudaEventCreateWithFlags(&place->filled, cudaEventDisableTiming), "cudaEventCreate");
  place->free = false;
  places_.push_back(std::move(place));
  return *places_.back();
}

void DevicePipe::send(const Tensor& tensor, int32_t to_stage) {
  if (!is_on_device(tensor)) return host_->send(tensor, to_stage);
  if (!host_->is_here(to_stage)) return staged_.send(tensor, to_stage);
  HYLAS_CHECK(tensor.contiguous());
  const cudaStream_t stream = device_.stream();
  Place& place = take(tensor.bytes());
  if (place.emptied) check(cudaStreamWaitEvent(stream, place.emptied, 0), "a message to the next stage");
  device_.copy(place.memory.data(), tensor.data, tensor.bytes());
  check(cudaEventRecord(place.filled, stream), "a message to the next stage");
  Message message{&place, tensor.bytes()};
  host_->send(Tensor(&message, DType::kU8, {1, sizeof message}), to_stage);
}

void DevicePipe::recv(const Tensor& tensor, int32_t from_stage) {
  if (!is_on_device(tensor)) return host_->recv(tensor, from_stage);
  if (!host_->is_here(from_stage)) return staged_.recv(tensor, from_stage);
  HYLAS_CHECK(tensor.contiguous());
  Message message;
  host_->recv(Tensor(&message, DType::kU8, {1, sizeof message}), from_stage);
  HYLAS_CHECK(message.bytes == tensor.bytes(), "message of {} bytes, {} expected", message.bytes, tensor.bytes());
  const cudaStream_t stream = device_.stream();
  check(cudaStreamWaitEvent(stream, message.place->filled, 0), "a message from the stage before");
  device_.copy(tensor.data, message.place->memory.data(), tensor.bytes());
  cudaEvent_t& emptied = message.place->emptied;
  if (!emptied) check(cudaEventCreateWithFlags(&emptied, cudaEventDisableTiming), "cudaEventCreate");
  check(cudaEventRecord(emptied, stream), "a message from the stage before");
  message.place->free.store(true, std::memory_order_release);
}

}  // namespace hylas::cuda
