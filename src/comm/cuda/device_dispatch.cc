#include "comm/cuda/device_dispatch.h"

#include <type_traits>

namespace hylas::cuda {
namespace {

void check_place(const Tensor& rows) {
  HYLAS_CHECK(!peer_combine_is_wide(rows.dim(2)) || reinterpret_cast<uintptr_t>(rows.data) % 16 == 0,
              "rows of experts at {}", rows.data);
}

// Rows of one kind, with scales where they are in e4m3.
void check_rows(const ExpertTokens& tokens, int64_t own) {
  const Tensor &x = tokens.x, &all_x = tokens.all_x, &scales = tokens.scales, &all_scales = tokens.all_scales;
  HYLAS_CHECK(x.dim(0) == own && x.contiguous() && all_x.contiguous() && all_x.dtype == x.dtype &&
                  all_x.dim(1) == x.row_elements(),
              "rows [{}, {}] of type {} to [{}, {}] of {}", x.dim(0), x.row_elements(), dtype_name(x.dtype),
              all_x.dim(0), all_x.dim(1), dtype_name(all_x.dtype));
  if (x.dtype != DType::kF8E4M3) return;
  HYLAS_CHECK(all_scales && scales.dim(0) == all_scales.dim(0) && scales.dim(0) * kScaleGroup == x.dim(1) &&
                  scales.dim(1) >= own && all_scales.dim(1) >= all_x.dim(0),
              "scales [{}, {}] to [{}, {}]", scales.dim(0), scales.dim(1), all_scales.dim(0), all_scales.dim(1));
}

}  // namespace

DeviceDispatch::DeviceDispatch(Comm& group, CudaDevice& device)
    : group_(group), device_(device), shown_(group.size()), ones_(group.size(), 1) {
  static_assert(std::is_trivially_copyable_v<Shown>);
  HYLAS_CHECK(group.size() <= kPeersMax, "{} GPUs of a group", group.size());
  auto made = Buffer::make(device_, sizeof(Signals));
  HYLAS_CHECK(made.ok(), "{}", made.error().message);
  signals_ = std::move(*made);
  uint32_t word = 0;
  device_.copy_to_host(&word, signals_.data(), sizeof word);  // it is zero before anybody writes to it
}

void DeviceDispatch::dispatch(const ExpertTokens& tokens) {
  const int32_t ranks = group_.size(), rank = group_.rank();
  const int64_t k = tokens.all_ids.dim(1), own = tokens.counts[rank];
  HYLAS_CHECK(k <= kChoicesMax, "{} experts of a token", k);
  HYLAS_CHECK(tokens.ids.dim(0) == own && tokens.ids.contiguous() && tokens.all_ids.contiguous());
  if (tokens.all_x) check_rows(tokens, own);
  const bool scaled = tokens.all_x && tokens.x.dtype == DType::kF8E4M3;
  HYLAS_CHECK(tokens.returned.dim(1) == own * k && tokens.returned.contiguous());
  check_place(tokens.returned);
  Shown mine{static_cast<Signals*>(signals_.data()), tokens.ids.as<int32_t>(), {}, tokens.returned.data, {}};
  if (tokens.all_x) {
    mine.x.data = static_cast<const std::byte*>(tokens.x.data);
    mine.form.row_bytes = tokens.x.row_elements() * static_cast<int64_t>(dtype_bytes(tokens.x.dtype));
  }
  if (scaled) {
    mine.x.scale = tokens.scales.as<float>();
    mine.x.scale_stride = tokens.scales.row_stride;
    mine.form.groups = tokens.all_scales.dim(0);
  }
  mine.form.rows_are_bf16 = tokens.returned.dtype == DType::kBF16;
  const auto size = static_cast<int64_t>(sizeof mine);
  group_.all_gather_rows(Tensor(&mine, DType::kU8, {1, size}), ones_, Tensor(shown_.data(), DType::kU8, {ranks, size}));

  PeerRows rows;
  rows.peers.rank = rank;
  rows.peers.size = ranks;
  PeerDispatchArgs args;
  combine_ = {};
  for (int32_t r = 0; r < ranks; ++r) {
    const Form& theirs = shown_[r].form;
    HYLAS_CHECK(theirs == mine.form, "rows of {} bytes, {} scales, bf16 back: {}; rank {}: {} bytes, {}, {}",
                mine.form.row_bytes, mine.form.groups, mine.form.rows_are_bf16, r, theirs.row_bytes, theirs.groups,
                theirs.rows_are_bf16);
    rows.peers.signals[r] = shown_[r].signals;
    rows.begin[r + 1] = rows.begin[r] + tokens.counts[r];
    args.ids[r] = shown_[r].ids;
    args.x[r] = shown_[r].x;
    combine_.returned[r] = shown_[r].returned;
  }
  HYLAS_CHECK(tokens.all_ids.dim(0) == rows.begin[ranks], "room for {} tokens, there are {}", tokens.all_ids.dim(0),
              rows.begin[ranks]);
  args.rows = combine_.rows = rows;
  args.k = combine_.k = static_cast<int32_t>(k);
  args.held_begin = combine_.held_begin = tokens.held.begin;
  args.held_end = combine_.held_end = tokens.held.begin + tokens.held.count;
  args.all_ids = tokens.all_ids.as<int32_t>();
  combine_.all_ids = args.all_ids;
  args.row_bytes = mine.form.row_bytes;
  args.groups = mine.form.groups;
  if (tokens.all_x) args.all_x = static_cast<std::byte*>(tokens.all_x.data);
  if (scaled) {
    args.all_scale = tokens.all_scales.as<float>();
    args.all_scale_stride = tokens.all_scales.row_stride;
  }
  combine_.rows_are_bf16 = mine.form.rows_are_bf16;
  combine_.slices = static_cast<int32_t>(tokens.returned.dim(0));
  combine_.columns = tokens.returned.dim(2);
  peer_dispatch(args, device_.stream());
}

void DeviceDispatch::combine(const ExpertSums& sums) {
  const Tensor& rows = sums.rows;
  const int64_t all = combine_.rows.begin[group_.size()];
  const int64_t own = combine_.rows.begin[group_.rank() + 1] - combine_.rows.begin[group_.rank()];
  HYLAS_CHECK(rows.contiguous() && rows.dtype == (combine_.rows_are_bf16 ? DType::kBF16 : DType::kF32) &&
                  rows.dim(0) == combine_.slices && rows.dim(2) == combine_.columns &&
                  (sums.index || rows.dim(1) == all * combine_.k),
              "rows [{}, {}, {}]", rows.dim(0), rows.dim(1), rows.dim(2));
  check_place(rows);
  for (const Tensor& one : {sums.sums, sums.shared}) {
    check_place(one);
    HYLAS_CHECK(!one || (one.contiguous() && one.dim(0) == combine_.slices && one.dim(1) == own &&
                         one.dim(2) == combine_.columns),
                "sums [{}, {}, {}] of {} tokens", one.dim(0), one.dim(1), one.dim(2), own);
  }
  HYLAS_CHECK(sums.weights.contiguous() && sums.weights.dim(0) == own && sums.weights.dim(1) == combine_.k);
  HYLAS_CHECK(!sums.shared || (sums.shared_logit.contiguous() && sums.shared_logit.dim(0) == own));
  HYLAS_CHECK(!sums.index || (sums.index.contiguous() && combine_.slices == 1 && sums.index.dim(0) == all &&
                              sums.index.dim(1) == combine_.k),
              "indices [{}, {}] of {} tokens", sums.index.dim(0), sums.index.dim(1), all);
  combine_.in = rows.data;
  combine_.index = static_cast<const int32_t*>(sums.index.data);
  combine_.weights = sums.weights.as<float>();
  combine_.shared = sums.shared.as<float>();
  combine_.shared_logit = sums.shared_logit.as<float>();
  combine_.sums = sums.sums.as<float>();
  peer_combine(combine_, device_.stream());
}

}  // namespace hylas::cuda
