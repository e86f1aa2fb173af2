#pragma once
// Fork: a second stream for what may run beside the operators of the first; in a graph, a branch of its own.
#include <driver_types.h>

#include "ops/cuda/views.h"

namespace hylas::cuda {

// Not thread-safe. Made and used on one device.
class Fork {
 public:
  Fork();
  ~Fork();
  Fork(const Fork&) = delete;
  Fork& operator=(const Fork&) = delete;

  // What is launched in the answer starts once all that is in `main` is done.
  Stream begin(Stream main);
  // What follows in `main` waits for what was launched since begin().
  void end(Stream main);

 private:
  cudaStream_t side_ = nullptr;
  cudaEvent_t begun_ = nullptr, ended_ = nullptr;
};

}  // namespace hylas::cuda
