#pragma once
// LandingArea: host memory of one rank that other instances write states into, where they cannot write into the
// device's; and the way from there to the device.
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "base/result.h"
#include "cache/state_pools.h"
#include "engine/step_plan.h"
#include "tensor/page_lock.h"

namespace hylas {

class LandingArea {
 public:
  // Called on the rank's thread: the state of this sequence has left the area.
  using OnLeft = std::function<void(uint64_t sequence)>;

  // kExhausted: says how much host memory is missing. `device`, the rank's, outlives it.
  static Result<std::unique_ptr<LandingArea>> make(Device& device, const StateLayout& layout, int64_t pages,
                                                   int32_t page_size, int32_t slots);

  // Divided as the pools of the same layout, for its own counts. Other memory may be put in its place before open().
  void* memory() const { return pools_.memory(); }
  size_t memory_bytes() const { return pools_.memory_bytes(); }
  // Before the first plan.
  void open(OnLeft on_left);

  // The rank's thread. Copies to its device are begun in the order of its work, and waited for later.
  void begin(const LandOp& op, StatePools& to);
  // Waits for what was begun and reports it.
  void finish();

 private:
  explicit LandingArea(Device& device) : device_(device), host_(make_cpu_device()) {}

  Device& device_;
  std::unique_ptr<Device> host_;
  StatePools pools_;
  PageLock lock_;
  OnLeft on_left_;
  std::vector<uint64_t> begun_;
  std::unique_ptr<DeviceMark> mark_;  // behind the copies that were begun
};

// How large an area is: of one dp group, on each of its ranks.
struct LandingSize {
  int64_t pages = 0;
  int32_t slots = 0;
};
struct LandingNeeds {
  int64_t page_bytes = 0, slot_bytes = 0;  // over all ranks of the instance
  int64_t pages = 0;                       // of a dp group on its devices
  int32_t slots = 0;
  int64_t prompt_pages = 0;  // of the longest prompt
};
// As much as the device has, or a few GiB; room for the longest prompt in any case.
LandingSize choose_landing(const LandingNeeds& needs);

}  // namespace hylas
