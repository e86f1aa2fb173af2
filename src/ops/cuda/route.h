#pragma once
// The experts of every token: route.cu. Formula: ops.h.
#include "ops/cuda/views.h"

namespace hylas::cuda {

constexpr int kExpertsMax = 1024;

// logits [T, experts] f32, ids [T, k] i32, weights [T, k] f32
void route_rows(const View& logits, const View& ids, const View& weights, int64_t tokens, int experts, int k,
                Stream stream);

}  // namespace hylas::cuda
