#include <cmath>

#include "ops/cpu/other_ops.h"

namespace hylas::cpu {
namespace {

// Which of the three positions the angle `index` turns with (model.md section 3.1, interleaved mRoPE).
int axis_of(const RopeConfig& rope, int64_t index) {
  int axis = static_cast<int>(index % 3);
  return axis != 0 && index < 3 * rope.sections[axis] ? axis : 0;
}

}  // namespace

// Angles in double: position 262143 times a frequency rounded to float would be off by 1e-2.
void rope_table(ThreadPool& pool, const Tensor& positions, const RopeConfig& rope, const Tensor& table) {
  int64_t half = rope.rotary_dim / 2, tokens = table.dim(0);
  HYLAS_CHECK(positions.dim(0) == 1 || positions.dim(0) == 3, "positions of {} axes", positions.dim(0));
  HYLAS_CHECK(table.dim(1) == rope.rotary_dim && positions.dim(1) >= tokens && rope.rotary_dim % 2 == 0,
              "rope table of {} columns for {} dimensions", table.dim(1), rope.rotary_dim);
  pool.parallel_for(half, 4, [&](int64_t begin, int64_t end, int) {
    for (int64_t j = begin; j < end; ++j) {
      double frequency = std::pow(static_cast<double>(rope.theta), -2.0 * j / rope.rotary_dim);
      const int32_t* position = positions.row<int32_t>(positions.dim(0) == 3 ? axis_of(rope, j) : 0);
      for (int64_t t = 0; t < tokens; ++t) {
        double angle = position[t] * frequency;
        table.row<float>(t)[j] = static_cast<float>(std::cos(angle));
        table.row<float>(t)[half + j] = static_cast<float>(std::sin(angle));
      }
    }
  });
}

}  // namespace hylas::cpu
