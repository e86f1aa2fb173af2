#pragma once
// BatchBuilder: from the rows of a plan to the packed tensors that the operators read (ops/batch.h).
#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "engine/step_plan.h"
#include "ops/batch.h"
#include "tensor/device.h"

namespace hylas {

struct BatchLimits {
  int32_t tokens_max = 0;  // of one step
  int32_t rows_max = 0;
  int32_t context_length = 0;
  int32_t page_size = 64;
};

// A step of a fixed shape: padded decode rows stand behind its own, and its page table is at least so wide.
struct StepShape {
  int32_t rows = 0;
  int32_t pages = 1;
};

// Its memory is taken once; a step beyond the limits is a bug. Not thread-safe: the rank's thread. `device` outlives
// it.
class BatchBuilder {
 public:
  BatchBuilder() = default;
  static Result<BatchBuilder> make(Device& device, const BatchLimits& limits);

  // Positions are plain (P = 1); the page table is as wide as the longest row needs. `last_tokens[sequence index]` is
  // the input of decode rows without tokens (negative: Ops::feed knows). The batch is valid until the next call.
  // Batches of decode rows with the same `shape`, if they fit in it, have the same tensors at the same places.
  Batch build(std::span<const PlanRow> rows, std::span<const int32_t> last_tokens, const StepShape& shape = {});

 private:
  // Packs [size] i32 behind what is there, at a multiple of 64 bytes; the place in host memory and in the device's.
  struct Piece {
    int32_t* host;
    int32_t* device;
  };
  Piece take(int64_t size);
  int32_t pages_of(const PlanRow& row) const;

  Device* device_ = nullptr;
  BatchLimits limits_;
  Buffer buffer_;
  std::vector<int32_t> staging_;
  int64_t used_ = 0;
};

}  // namespace hylas
