#include "comm/slice_tree.h"

#include <bit>

#include "base/check.h"

namespace hylas {
namespace {

float tree(const float* const* slices, size_t count, int64_t i) {
  if (count == 1) return slices[0][i];
  return tree(slices, count / 2, i) + tree(slices + count / 2, count / 2, i);
}

}  // namespace

void sum_slices(const std::vector<const float*>& slices, int64_t begin, int64_t end, float* out) {
  HYLAS_CHECK(std::has_single_bit(slices.size()), "{} slices", slices.size());
  const float* const* s = slices.data();
  switch (slices.size()) {
    case 2:
      for (int64_t i = begin; i < end; ++i) out[i - begin] = s[0][i] + s[1][i];
      return;
    case 4:
      for (int64_t i = begin; i < end; ++i) out[i - begin] = (s[0][i] + s[1][i]) + (s[2][i] + s[3][i]);
      return;
    default:
      for (int64_t i = begin; i < end; ++i) out[i - begin] = tree(s, slices.size(), i);
  }
}

}  // namespace hylas
