#include "ops/cuda/fork.h"

#include "tensor/cuda/cuda_error.h"

namespace hylas::cuda {

Fork::Fork() {
  check(cudaStreamCreateWithFlags(&side_, cudaStreamNonBlocking), "cudaStreamCreate");
  check(cudaEventCreateWithFlags(&begun_, cudaEventDisableTiming), "cudaEventCreate");
  check(cudaEventCreateWithFlags(&ended_, cudaEventDisableTiming), "cudaEventCreate");
}

Fork::~Fork() {
  cudaEventDestroy(ended_);
  cudaEventDestroy(begun_);
  cudaStreamDestroy(side_);
}

Stream Fork::begin(Stream main) {
  check(cudaEventRecord(begun_, main), "a fork");
  check(cudaStreamWaitEvent(side_, begun_, 0), "a fork");
  return side_;
}

void Fork::end(Stream main) {
  check(cudaEventRecord(ended_, side_), "a join");
  check(cudaStreamWaitEvent(main, ended_, 0), "a join");
}

}  // namespace hylas::cuda
