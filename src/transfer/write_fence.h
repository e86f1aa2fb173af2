#pragma once
// WriteFence: how the owner of shared memory takes it back from a process that writes into it. It lies in memory that
// both map, one for each writer.
//
// The writer says that it writes and looks whether it may; the owner says that it may not and looks whether somebody
// writes. At least one sees the other (sequential consistency). A writer that is stopped in the middle of a write, for
// however long, is thus known: its memory is free when the write or its process has ended, and not before.
#include <atomic>
#include <cstdint>

namespace hylas {

struct WriteFence {
  std::atomic<uint32_t> revoked = 0;
  std::atomic<uint32_t> writing = 0;

  // The writer's, around each write. False: nothing may be written any more.
  bool enter() {
    writing.store(1);
    if (revoked.load() == 0) return true;
    leave();
    return false;
  }
  void leave() { writing.store(0, std::memory_order_release); }

  // The owner's. True: nothing is being written, nor ever will be.
  bool revoke() {
    revoked.store(1);
    return writing.load() == 0;
  }
};
static_assert(std::atomic<uint32_t>::is_always_lock_free, "processes share it");

}  // namespace hylas
