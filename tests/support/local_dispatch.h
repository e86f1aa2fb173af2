#pragma once
// LocalDispatch: ExpertDispatch among ranks that are threads over host memory, so that what goes on around it runs
// where no GPU is. The sums are those of the rank's own operators.
#include <vector>

#include "comm/comm.h"
#include "comm/expert_dispatch.h"
#include "ops/ops.h"

namespace hylas::test {

class LocalDispatch final : public ExpertDispatch {
 public:
  // Both outlive it.
  LocalDispatch(Comm& group, Ops& ops) : group_(group), ops_(ops), shown_(group.size()) {}

  void dispatch(const ExpertTokens& tokens) override;
  void combine(const ExpertSums& sums) override;

 private:
  struct Shown {
    const int32_t* ids = nullptr;
    const std::byte* x = nullptr;
    float* returned = nullptr;
  };
  void meet(const Shown& mine);
  int64_t first_of(size_t rank) const;
  const float* row_of(const ExpertSums& sums, int64_t slice, int64_t choice) const;

  Comm& group_;
  Ops& ops_;
  std::vector<Shown> shown_;
  // Of the exchange under way.
  std::vector<int32_t> counts_;
  ExpertRange held_;
  Tensor all_ids_, returned_;
};

}  // namespace hylas::test
