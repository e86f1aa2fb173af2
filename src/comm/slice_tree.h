#pragma once
// The fixed order in which partial sums are added (comm.h).
#include <cstdint>
#include <vector>

namespace hylas {

// out[i - begin] = the balanced binary tree over slices[..][i] for i in [begin, end). The number of slices is a power
// of two. `out` may be slices[0] + begin.
void sum_slices(const std::vector<const float*>& slices, int64_t begin, int64_t end, float* out);

}  // namespace hylas
