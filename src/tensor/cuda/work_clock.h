#pragma once
// WorkClock of a stream: events and the times between them.
#include <cuda_runtime_api.h>

#include <array>

#include "tensor/device.h"

namespace hylas::cuda {

class StreamClock final : public WorkClock {
 public:
  // On the thread's device, which is the stream's.
  explicit StreamClock(cudaStream_t stream);
  ~StreamClock() override;

  int64_t mark() override;
  std::optional<int64_t> passed_us(int64_t mark) override;

 private:
  static constexpr int64_t kEvents = 1024;
  cudaEvent_t& event(int64_t mark) { return events_[static_cast<size_t>(mark % kEvents)]; }

  cudaStream_t stream_;
  std::array<cudaEvent_t, kEvents> events_ = {};
  int64_t next_ = 0;
  int64_t passed_ = 0;       // the last mark that was found passed,
  double passed_at_us_ = 0;  // and when that was
};

}  // namespace hylas::cuda
