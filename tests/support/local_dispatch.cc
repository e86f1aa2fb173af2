#include "support/local_dispatch.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <type_traits>

namespace hylas::test {

// What all ranks have written before can be read.
void LocalDispatch::meet(const Shown& mine) {
  static_assert(std::is_trivially_copyable_v<Shown>);
  const int32_t ranks = group_.size();
  const std::vector<int32_t> ones(static_cast<size_t>(ranks), 1);
  const auto size = static_cast<int64_t>(sizeof mine);
  Shown copy = mine;
  group_.all_gather_rows(Tensor(&copy, DType::kU8, {1, size}), ones, Tensor(shown_.data(), DType::kU8, {ranks, size}));
}

int64_t LocalDispatch::first_of(size_t rank) const {
  return std::accumulate(counts_.begin(), counts_.begin() + static_cast<int64_t>(rank), int64_t{0});
}

void LocalDispatch::dispatch(const ExpertTokens& tokens) {
  counts_.assign(tokens.counts.begin(), tokens.counts.end());
  held_ = tokens.held;
  all_ids_ = tokens.all_ids;
  returned_ = tokens.returned;
  meet({tokens.ids.as<int32_t>(), static_cast<const std::byte*>(tokens.x.data), returned_.as<float>()});
  const int64_t k = all_ids_.dim(1);
  const size_t row_bytes = tokens.all_x ? tokens.all_x.rows(0, 1).bytes() : 0;
  for (size_t r = 0; r < counts_.size(); ++r) {
    for (int64_t t = 0; t < counts_[r]; ++t) {
      const int32_t* ids = shown_[r].ids + t * k;
      std::copy_n(ids, k, all_ids_.row<int32_t>(first_of(r) + t));
      if (row_bytes == 0 || std::none_of(ids, ids + k, [&](int32_t id) { return held_.has(id); })) continue;
      std::memcpy(tokens.all_x.rows(first_of(r) + t, 1).data, shown_[r].x + t * row_bytes, row_bytes);
    }
  }
}

// Of choice t * k + j of this rank's tokens.
const float* LocalDispatch::row_of(const ExpertSums& sums, int64_t slice, int64_t choice) const {
  const int64_t k = all_ids_.dim(1), hidden = sums.rows.dim(2), first = first_of(group_.rank()) * k;
  const int32_t expert = all_ids_.as<int32_t>()[first + choice];
  const Tensor& from = held_.has(expert) ? sums.rows : returned_;
  return from.row<float>(slice) + (held_.has(expert) ? first + choice : choice) * hidden;
}

void LocalDispatch::combine(const ExpertSums& sums) {
  HYLAS_CHECK(!sums.index, "{} indices of sorted rows", sums.index.dim(0));
  const int64_t slices = sums.rows.dim(0), k = all_ids_.dim(1), hidden = sums.rows.dim(2);
  for (size_t r = 0; r < counts_.size(); ++r) {
    const int64_t first = first_of(r) * k, pairs = counts_[r] * k;
    if (static_cast<int32_t>(r) == group_.rank()) continue;
    for (int64_t s = 0; s < slices; ++s) {
      for (int64_t i = 0; i < pairs; ++i) {
        if (!held_.has(all_ids_.as<int32_t>()[first + i])) continue;
        std::copy_n(sums.rows.row<float>(s) + (first + i) * hidden, hidden,
                    shown_[r].returned + (s * pairs + i) * hidden);
      }
    }
  }
  meet({});
  // The shared expert is one more choice, of its gate's weight.
  const int64_t own = counts_[group_.rank()], choices = k + 1;
  std::vector<float> rows(static_cast<size_t>(slices * own * choices * hidden));
  std::vector<float> weights(static_cast<size_t>(own * choices));
  std::vector<int32_t> index(weights.size());
  std::iota(index.begin(), index.end(), 0);
  for (int64_t t = 0; t < own; ++t) {
    std::copy_n(sums.weights.row<float>(t), k, weights.data() + t * choices);
    weights[t * choices + k] = 1.f / (1.f + std::exp(-*sums.shared_logit.row<float>(t)));
    for (int64_t s = 0; s < slices; ++s) {
      float* to = rows.data() + (s * own + t) * choices * hidden;
      for (int64_t j = 0; j < k; ++j) std::copy_n(row_of(sums, s, t * k + j), hidden, to + j * hidden);
      std::copy_n(sums.shared.row<float>(s) + t * hidden, hidden, to + k * hidden);
    }
  }
  if (own == 0) return;
  const Tensor shape(sums.sums.data, DType::kF32, {own, hidden});  // of x: nobody reads it
  ops_.moe_combine(Tensor(rows.data(), DType::kF32, {slices, own * choices, hidden}),
                   Tensor(index.data(), DType::kI32, {own, choices}),
                   Tensor(weights.data(), DType::kF32, {own, choices}), shape, nullptr, Tensor(), sums.sums);
}

}  // namespace hylas::test
