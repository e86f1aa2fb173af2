#pragma once
// Stager: the way from a device's memory to a link, which reads host memory only: through blocks of page-locked memory.
// Whoever computes hands a put over and goes on; a thread waits until the device has computed what is to be sent,
// copies it beside the kernels and gives it to the link.
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "base/queue.h"
#include "cache/state_layout.h"
#include "tensor/page_lock.h"
#include "transfer/link.h"

namespace hylas {

struct StagerOptions {
  // Of each block; at least the largest write.
  size_t block_bytes = size_t{16} << 20;
  // How many puts of the link are under way at most. When all are, the device's memory waits, and nobody else does.
  int32_t blocks = 16;
};

// Bytes of the largest write from pools of this layout.
size_t largest_write_bytes(const StateLayout& layout, int32_t page_size);

class Stager {
 public:
  // kExhausted: no memory for the blocks. `device` and `link` outlive it.
  static Result<std::unique_ptr<Stager>> make(Device& device, Link& link, const StagerOptions& options);
  // Waits until every put has ended.
  ~Stager();
  Stager(const Stager&) = delete;
  Stager& operator=(const Stager&) = delete;

  // As Link::put, of memory of the device; on the device's thread. What is read is what the device's work so far makes.
  // A part larger than a block goes in several puts of the link; `done` is called once all of them have ended.
  void put(int32_t peer, std::vector<Write> writes, Link::OnDone done);

 private:
  struct Job {
    std::unique_ptr<DeviceMark> mark;
    int32_t peer = 0;
    std::vector<Write> writes;
    Link::OnDone done;
  };
  // What became of the puts that a job was divided into.
  class Parts;

  Stager(Device& device, Link& link, const StagerOptions& options);
  void run();
  void send(Job job);
  void copy(std::span<Write> writes, int32_t block);
  int32_t take_block();
  void give_back(int32_t block);
  void end_job();

  Device& device_;  // to ask for marks
  Link& link_;
  const StagerOptions options_;
  std::unique_ptr<Device> host_;
  Buffer memory_;  // [blocks][block_bytes]
  PageLock lock_;
  std::unique_ptr<DeviceReader> reader_;  // the thread's
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<int32_t> free_;  // guarded by mutex_: blocks
  int64_t open_jobs_ = 0;      // guarded by mutex_
  Queue<Job> jobs_{SIZE_MAX};
  std::jthread thread_;
};

}  // namespace hylas
