#pragma once
// DevicePipe: messages between stages that are threads of one process, over GPUs that reach each other's memory, and to
// other processes.
#include <cuda_runtime_api.h>

#include <atomic>
#include <memory>
#include <vector>

#include "comm/cuda/staged_messages.h"
#include "comm/pipe.h"
#include "tensor/cuda/cuda_device.h"

namespace hylas::cuda {

// A message is copied into a place of the sender's, and from there by the receiver; `host` carries which place, and
// messages in host memory. Places are reused: as many are made as the sender runs ahead, then nothing is allocated.
// To stages of other processes go either messages of the GPU or of the host, not both: they would overtake each other.
class DevicePipe final : public Pipe {
 public:
  DevicePipe(std::unique_ptr<Pipe> host, CudaDevice& device)
      : host_(std::move(host)), device_(device), staged_(*host_, device) {}
  ~DevicePipe() override;

  void send(const Tensor& tensor, int32_t to_stage) override;
  void recv(const Tensor& tensor, int32_t from_stage) override;
  bool is_here(int32_t stage) const override { return host_->is_here(stage); }

 private:
  struct Place {
    Buffer memory;
    cudaEvent_t filled = nullptr;
    cudaEvent_t emptied = nullptr;  // made by the receiver, on its GPU
    std::atomic<bool> free{true};   // the receiver has launched its copy, and recorded `emptied` behind it
  };
  // Sent as bytes: the stages are threads of one process.
  struct Message {
    Place* place = nullptr;
    size_t bytes = 0;
  };
  Place& take(size_t bytes);

  std::unique_ptr<Pipe> host_;
  CudaDevice& device_;
  std::vector<std::unique_ptr<Place>> places_;
  StagedMessages staged_;
};

}  // namespace hylas::cuda
