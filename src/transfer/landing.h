#pragma once
// Landing: whether what a prefilling instance says it wrote is there, whole and right.
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "base/result.h"
#include "transfer/messages.h"
#include "transfer/transfer_plan.h"

namespace hylas {

// Bytes that a prompt of `pages` pages has on the ranks of dp group `group`; `slot`: with the per-sequence state.
uint64_t bytes_needed(const InstanceLayout& layout, int32_t group, int64_t pages, bool slot);

// One thread at a time. `from` and `to` have passed check_pair().
class Landing {
 public:
  // `memory[rank]`: start of its pools here.
  Landing(InstanceLayout from, InstanceLayout to, std::vector<const void*> memory);

  // Ok: ranks of one dp group, each once, wrote all that `grant` needs, and the bytes have the sums that were written.
  Status check(const Grant& grant, const std::vector<SourceSum>& sources);

 private:
  Status check_sources(const Grant& grant, const std::vector<SourceSum>& sources) const;
  const TransferPlan& plan(int32_t from_rank, int32_t to_group);

  const InstanceLayout from_, to_;
  const std::vector<const void*> memory_;
  std::map<std::pair<int32_t, int32_t>, TransferPlan> plans_;
};

}  // namespace hylas
