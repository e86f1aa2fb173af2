#pragma once
// Pipe: what travels between the stages of a pipeline: one rank's handle on the ranks with its tp_rank in all stages.
#include <cstdint>
#include <memory>
#include <vector>

#include "tensor/tensor.h"

namespace hylas {

// Messages of one (from, to) pair arrive in order. A handle belongs to its rank thread. A peer that is gone ends the
// instance: no error is left to handle.
class Pipe {
 public:
  virtual ~Pipe() = default;
  // Contiguous. Returns when `tensor` may be reused, without waiting for the receiver.
  virtual void send(const Tensor& tensor, int32_t to_stage) = 0;
  // Whether a stage's ranks are threads of this process.
  virtual bool is_here(int32_t stage) const { return static_cast<void>(stage), true; }
  // Returns when `tensor` (contiguous, of exactly the sent size) is filled.
  virtual void recv(const Tensor& tensor, int32_t from_stage) = 0;
};

// Threads of one process: the handles of `stages` stages, by stage.
std::vector<std::unique_ptr<Pipe>> make_local_pipes(int32_t stages);

}  // namespace hylas
