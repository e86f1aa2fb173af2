#pragma once
// DeviceDispatch: ExpertDispatch among ranks that each have a GPU of their own (peer_rows.h).
#include <vector>

#include "comm/comm.h"
#include "comm/cuda/peer_rows.h"
#include "comm/expert_dispatch.h"
#include "tensor/cuda/cuda_device.h"

namespace hylas::cuda {

class DeviceDispatch final : public ExpertDispatch {
 public:
  // `group` carries addresses on the host, once for each exchange. Both outlive it.
  DeviceDispatch(Comm& group, CudaDevice& device);

  void dispatch(const ExpertTokens& tokens) override;
  void combine(const ExpertSums& sums) override;

 private:
  // How rows travel: the same at all ranks, or their kernels would not meet, or read one type as another.
  struct Form {
    int64_t row_bytes = 0;       // none: no rows
    int64_t groups = 0;          // scales of a row
    bool rows_are_bf16 = false;  // on their way back
    bool operator==(const Form&) const = default;
  };
  // What a rank shows the others. Sent as bytes.
  struct Shown {
    Signals* signals = nullptr;
    const int32_t* ids = nullptr;
    RowsFrom x;
    void* returned = nullptr;
    Form form;
  };

  Comm& group_;
  CudaDevice& device_;
  Buffer signals_;
  std::vector<Shown> shown_;
  std::vector<int32_t> ones_;
  PeerCombineArgs combine_;  // of the exchange under way
};

}  // namespace hylas::cuda
