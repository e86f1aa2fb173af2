#include "tensor/cuda/work_clock.h"

#include <algorithm>

#include "base/check.h"
#include "base/clock.h"
#include "tensor/cuda/cuda_error.h"

namespace hylas::cuda {

StreamClock::StreamClock(cudaStream_t stream) : stream_(stream) {
  for (cudaEvent_t& event : events_) check(cudaEventCreate(&event), "cudaEventCreate");
  mark();
  check(cudaStreamSynchronize(stream_), "the start of a clock");
  passed_at_us_ = static_cast<double>(now_us());
}

StreamClock::~StreamClock() {
  for (cudaEvent_t event : events_) cudaEventDestroy(event);
}

int64_t StreamClock::mark() {
  HYLAS_CHECK(next_ - passed_ < kEvents, "{} open marks", next_ - passed_);
  check(cudaEventRecord(event(next_), stream_), "a mark");
  return next_++;
}

// From mark to mark, since the time from a first one would lose its digits. The two clocks drift: what is passed is not
// later than now.
std::optional<int64_t> StreamClock::passed_us(int64_t mark) {
  if (mark > passed_) {
    const cudaError_t status = cudaEventQuery(event(mark));
    if (status == cudaErrorNotReady) return std::nullopt;
    check(status, "the work before a mark");
    float ms = 0;
    check(cudaEventElapsedTime(&ms, event(passed_), event(mark)), "the time between marks");
    passed_at_us_ = std::min(passed_at_us_ + 1e3 * static_cast<double>(ms), static_cast<double>(now_us()));
    passed_ = mark;
  }
  return static_cast<int64_t>(passed_at_us_);
}

}  // namespace hylas::cuda
