#pragma once
// DeviceComm: a group of ranks that are threads of one process, each with a stream of its own, over GPUs that read and
// write each other's memory, or over one that they share.
#include <cuda_runtime_api.h>

#include <span>
#include <vector>

#include "comm/comm.h"
#include "comm/cuda/peer_sum.h"
#include "tensor/cuda/cuda_device.h"

namespace hylas::cuda {

constexpr int32_t kRanksMax = 64;

// What a rank shows the others. Sent as bytes.
struct Shown {
  Tensor in, out;
  cudaEvent_t event = nullptr;  // all that its stream did before; null: the signals tell
  Signals* signals = nullptr;   // null: the events tell
  int32_t counts[kRanksMax] = {};
};

// Memory of the GPU; false: the host's, or none.
bool is_on_device(const Tensor& tensor);

// `host` carries addresses and events, and collectives of tensors in host memory. Ranks that have a GPU each wait for
// each other in kernels (peer_sum.h), and once the addresses are known a call can be recorded in a graph. On a shared
// GPU a kernel that waits could keep the one that it waits for from running: there streams wait for events.
class DeviceComm final : public Comm {
 public:
  DeviceComm(std::unique_ptr<Comm> host, CudaDevice& device, bool shares_gpu);
  ~DeviceComm() override;

  int32_t rank() const override { return host_->rank(); }
  int32_t size() const override { return host_->size(); }
  void all_reduce_slices(const Tensor& partials, const Tensor& out) override;
  int64_t sums_us() const override;
  const PeerPartials* show_partials(const Tensor& partials) override;
  void add_onto(const Tensor& partials, const Tensor& residual) override;
  bool adds_onto(int64_t elements) const override;
  void all_gather_rows(const Tensor& in, std::span<const int32_t> row_counts, const Tensor& out) override;
  void all_gather_columns(const Tensor& in, const Tensor& out) override;
  void all_to_all_rows(const Tensor& in, std::span<const int32_t> send_rows, const Tensor& out,
                       std::span<const int32_t> recv_rows) override;

 private:
  // Shows the buffers, and answers what the others showed, by rank.
  const std::vector<Shown>& exchange(const Tensor& in, const Tensor& out, std::span<const int32_t> counts = {});
  // What follows in this rank's stream comes after all that the others had launched before they exchanged.
  void wait_for_all();
  // Both.
  const std::vector<Shown>& meet(const Tensor& in, const Tensor& out, std::span<const int32_t> counts = {});
  // The others may overwrite what they showed once this rank has read it.
  void leave();
  // With `adds` onto what `out` has.
  void sum_by_events(const Tensor& partials, const Tensor& out, bool adds = false);
  void sum_by_signals(const Tensor& partials, const Tensor& out);
  void gather_by_signals(const Tensor& in, std::span<const int32_t> row_counts, const Tensor& out);
  // The tree over all slices shown at the last meeting, elements [begin, end), to the same of `out`.
  void sum(int64_t begin, int64_t end, const Tensor& out, bool adds);
  // Of `partials` what the others are to read: a rank's own slices are a branch of the tree and travel as one.
  Tensor own_sum(const Tensor& partials, const Tensor& out);
  void copy(void* to, const void* from, size_t bytes);

  std::unique_ptr<Comm> host_;
  CudaDevice& device_;
  Buffer signals_;               // empty: by events
  uint64_t* sums_ns_ = nullptr;  // see Peers
  // Two take turns: a rank is at most one meeting ahead of another, which may not have waited for the last one yet.
  cudaEvent_t events_[2] = {};
  int turn_ = 0;
  std::vector<Shown> shown_;
  Peers peers_;
  PeerPartials shown_partials_;
  std::vector<int32_t> ones_;
};

}  // namespace hylas::cuda
