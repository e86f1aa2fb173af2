#pragma once
// Ranks as threads, each over a GPU of its own where there are enough, else over shared ones.
#include <gtest/gtest.h>

#include <functional>
#include <thread>

#include "comm/device_comms.h"
#include "comm/local.h"
#include "cuda/parity.h"

namespace hylas::test {

// Every rank's operators, and with them its stream.
inline std::vector<std::unique_ptr<Ops>> make_ranks(int32_t ranks) {
  cuda_load_all_kernels();
  const int gpus = cuda_device_count();
  std::vector<std::unique_ptr<Ops>> ops;
  for (int32_t r = 0; r < ranks; ++r) {
    ops.push_back(make_cuda_ops({.device = r % gpus, .workspace_bytes = size_t{1} << 20}).value());
  }
  return ops;
}

// One handle of every rank, over its device.
inline std::vector<RankComms> on_devices_of(const std::vector<std::unique_ptr<Ops>>& ops,
                                            const std::function<void(RankComms&, int32_t rank)>& give) {
  std::vector<RankComms> handles(ops.size());
  std::vector<Device*> devices;
  for (size_t r = 0; r < ops.size(); ++r) {
    give(handles[r], static_cast<int32_t>(r));
    devices.push_back(&ops[r]->device());
  }
  const Status connected = on_devices(handles, devices);
  EXPECT_TRUE(connected.ok()) << connected.error().message;
  return handles;
}

// All of them one group, as those of a stage.
inline std::vector<RankComms> groups_on_devices(const std::vector<std::unique_ptr<Ops>>& ops) {
  std::vector<std::unique_ptr<Comm>> comms = make_local_comms(static_cast<int32_t>(ops.size()));
  return on_devices_of(ops, [&](RankComms& handles, int32_t r) { handles.stage = std::move(comms[r]); });
}

inline void on_every_rank(int32_t ranks, const std::function<void(int32_t)>& body) {
  std::vector<std::thread> threads;
  for (int32_t r = 0; r < ranks; ++r) threads.emplace_back(body, r);
  for (std::thread& thread : threads) thread.join();
}

// A tensor of a rank, in its own memory.
class Local {
 public:
  Local(Device& device, const HostTensor& host)
      : device_(device),
        memory_(Buffer::make(device, std::max<size_t>(host.bytes.size(), 1)).value()),
        view(host.view) {
    set(host);
    view.data = memory_.data();
  }
  void set(const HostTensor& host) {
    size_ = host.bytes.size();
    if (size_ > 0) device_.copy_from_host(memory_.data(), host.bytes.data(), size_);
  }
  std::vector<std::byte> bytes() const {
    std::vector<std::byte> all(size_);
    if (size_ > 0) device_.copy_to_host(all.data(), memory_.data(), size_);
    return all;
  }

 private:
  Device& device_;
  Buffer memory_;
  size_t size_ = 0;

 public:
  Tensor view;
};

}  // namespace hylas::test
