#include "comm/cuda/staged_messages.h"

#include <algorithm>
#include <utility>

#include "base/thread.h"
#include "tensor/cuda/cuda_error.h"

namespace hylas::cuda {

StagedMessages::StagedMessages(Pipe& host, CudaDevice& device) : host_(host), device_(device) {}

StagedMessages::~StagedMessages() {
  outgoing_.close();
  if (thread_.joinable()) thread_.join();
  sent_.close();
  while (auto place = sent_.pop()) to_send_.push_back(*std::move(place));
  check(cudaStreamSynchronize(device_.stream()), "the last messages of a stage");
  for (const auto& place : to_send_) cudaEventDestroy(place->copied);
  for (const auto& place : received_) cudaEventDestroy(place->copied);
}

std::unique_ptr<StagedMessages::Place> StagedMessages::make_place(size_t bytes) {
  auto place = std::make_unique<Place>();
  place->memory.resize(bytes);
  place->lock = PageLock(device_, place->memory.data(), bytes);
  check(cudaEventCreateWithFlags(&place->copied, cudaEventDisableTiming | cudaEventBlockingSync), "cudaEventCreate");
  return place;
}

void StagedMessages::send(const Tensor& tensor, int32_t to_stage) {
  HYLAS_CHECK(tensor.contiguous());
  if (!thread_.joinable()) thread_ = start_thread("stage sender", [this] { run(); });
  while (auto place = sent_.pop_for(0)) to_send_.push_back(*std::move(place));
  const auto found =
      std::ranges::find_if(to_send_, [&](const auto& place) { return place->memory.size() >= tensor.bytes(); });
  Outgoing message{.bytes = tensor.bytes(), .to_stage = to_stage};
  if (found == to_send_.end()) {
    message.place = make_place(tensor.bytes());
  } else {
    message.place = std::move(*found);
    to_send_.erase(found);
  }
  const cudaStream_t stream = device_.stream();
  device_.copy_to_locked(message.place->memory.data(), tensor.data, tensor.bytes());
  check(cudaEventRecord(message.place->copied, stream), "a message to another node");
  HYLAS_CHECK(outgoing_.push(std::move(message)));
}

void StagedMessages::run() {
  check(cudaSetDevice(device_.index()), "cudaSetDevice");
  while (std::optional<Outgoing> message = outgoing_.pop()) {
    check(cudaEventSynchronize(message->place->copied), "a message to another node");
    host_.send(Tensor(message->place->memory.data(), DType::kU8, {1, static_cast<int64_t>(message->bytes)}),
               message->to_stage);
    sent_.push(std::move(message->place));
  }
}

// One whose last message the device has copied; two of a size take turns, so that a message comes in while the one
// before waits for the device.
std::unique_ptr<StagedMessages::Place> StagedMessages::take_to_receive(size_t bytes) {
  const auto fits = [&](const std::unique_ptr<Place>& place) { return place->memory.size() >= bytes; };
  if (std::ranges::count_if(received_, fits) < 2) return make_place(bytes);
  const auto oldest = std::ranges::find_if(received_, fits);
  check(cudaEventSynchronize((*oldest)->copied), "a message from another node");
  std::unique_ptr<Place> place = std::move(*oldest);
  received_.erase(oldest);
  return place;
}

void StagedMessages::recv(const Tensor& tensor, int32_t from_stage) {
  HYLAS_CHECK(tensor.contiguous());
  const cudaStream_t stream = device_.stream();
  std::unique_ptr<Place> place = take_to_receive(tensor.bytes());
  host_.recv(Tensor(place->memory.data(), DType::kU8, {1, static_cast<int64_t>(tensor.bytes())}), from_stage);
  device_.copy_from_locked(tensor.data, place->memory.data(), tensor.bytes());
  check(cudaEventRecord(place->copied, stream), "a message from another node");
  received_.push_back(std::move(place));
}

}  // namespace hylas::cuda
