#pragma once
// DrawnTokens: sampled tokens that the next step finds on the device (Ops::sample_ahead, Ops::feed), and their way to
// the host meanwhile.
#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "engine/step_plan.h"
#include "tensor/device.h"
#include "tensor/page_lock.h"
#include "tensor/tensor.h"

namespace hylas {

// Its memory is taken once. Not thread-safe: the rank's thread. `device` outlives it.
class DrawnTokens {
 public:
  static constexpr int32_t kFetchesMax = 8;  // between fetch() and take()

  DrawnTokens() = default;
  static Result<DrawnTokens> make(Device& device, int32_t sequences_max);

  // [sequence index] i32
  Tensor last_tokens() const { return last_tokens_.whole; }
  // Where the tokens of `count` rows go, from row `begin` of the step on.                            [count] i32
  Tensor rows(int64_t begin, int64_t count) const { return drawn_.whole.rows(begin, count); }

  // Begins to copy the step's first `count` tokens to the host; answers what take() wants.
  int32_t fetch(int64_t count);
  // Once the device has come past a later mark: the tokens of the rows that sampled, in order.
  void take(int32_t fetch, std::span<RowResult> rows) const;

 private:
  struct OnDevice {
    Buffer memory;
    Tensor whole;
  };
  static Result<OnDevice> allocate(Device& device, int32_t size);

  Device* device_ = nullptr;
  OnDevice last_tokens_, drawn_;
  std::vector<int32_t> host_;  // [kFetchesMax, sequences]
  PageLock lock_;
  int32_t next_ = 0;
};

}  // namespace hylas
