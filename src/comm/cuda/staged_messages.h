#pragma once
// StagedMessages: tensors of a GPU on their way to and from another process, through page-locked host memory.
#include <cuda_runtime_api.h>

#include <memory>
#include <thread>
#include <vector>

#include "base/queue.h"
#include "comm/pipe.h"
#include "tensor/cuda/cuda_device.h"
#include "tensor/page_lock.h"

namespace hylas::cuda {

// Of the rank's thread, which does not wait for the device when it sends: a thread of its own sends what the device has
// copied out. `host` takes messages in host memory, also while another thread receives from it.
class StagedMessages {
 public:
  StagedMessages(Pipe& host, CudaDevice& device);
  ~StagedMessages();

  // Of one (from, to) pair in order. Contiguous, on the device.
  void send(const Tensor& tensor, int32_t to_stage);
  // Waits for the message, not for its copy to the device.
  void recv(const Tensor& tensor, int32_t from_stage);

 private:
  // Host memory that one message lies in.
  struct Place {
    std::vector<std::byte> memory;
    PageLock lock;
    cudaEvent_t copied = nullptr;  // what was copied out of or into the memory
  };
  struct Outgoing {
    std::unique_ptr<Place> place;
    size_t bytes = 0;
    int32_t to_stage = 0;
  };
  std::unique_ptr<Place> make_place(size_t bytes);
  std::unique_ptr<Place> take_to_receive(size_t bytes);
  void run();

  Pipe& host_;
  CudaDevice& device_;
  Queue<Outgoing> outgoing_{SIZE_MAX};
  Queue<std::unique_ptr<Place>> sent_{SIZE_MAX};
  std::vector<std::unique_ptr<Place>> to_send_;   // free; as many are made as messages were under way
  std::vector<std::unique_ptr<Place>> received_;  // the oldest message first; free once copied
  std::jthread thread_;                           // from the first message on
};

}  // namespace hylas::cuda
