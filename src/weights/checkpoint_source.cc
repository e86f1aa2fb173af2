#include "weights/checkpoint_source.h"

#include <algorithm>
#include <cstring>

#include "weights/tensor_spec.h"

namespace hylas {
namespace {

// shape[0] == -1 takes any number of rows.
Status check_shape(const std::string& dir, const std::string& name, const std::vector<int64_t>& found,
                   std::span<const int64_t> wanted) {
  const bool any_rows = !wanted.empty() && wanted[0] == -1 && !found.empty();
  const size_t from = any_rows ? 1 : 0;
  if (found.size() == wanted.size() && std::equal(found.begin() + from, found.end(), wanted.begin() + from)) return {};
  return error(ErrorCode::kInvalid, "{}: tensor `{}` has shape [{}] instead of [{}]", dir, name, fmt::join(found, ", "),
               fmt::join(wanted, ", "));
}

}  // namespace

Result<Tensor> CheckpointSource::fetch(const std::string& name, std::span<const int64_t> shape, Part part) {
  const TensorInfo* info = checkpoint_->find(name);
  if (!info) return error(ErrorCode::kNotFound, "{}: tensor `{}` is missing", checkpoint_->dir(), name);
  HYLAS_TRY(check_shape(checkpoint_->dir(), name, info->shape, shape));
  HYLAS_ASSIGN(Tensor view, tensor_view(checkpoint_->file(info->file), name, *info));
  std::string counted = name;
  if (part.count >= 0) {
    if (part.begin < 0 || part.begin + part.count > view.dim(0)) {
      return error(ErrorCode::kInvalid, "{}: tensor `{}` has {} rows; [{}, {}) are wanted", checkpoint_->dir(), name,
                   view.dim(0), part.begin, part.begin + part.count);
    }
    view = view.rows(part.begin, part.count);
    counted = part_name(name, part);
  }
  const bool added = count(counted, view.bytes());
  if (reinterpret_cast<uintptr_t>(view.data) % dtype_bytes(view.dtype) != 0) {
    HYLAS_ASSIGN(std::byte* const aligned, store_.allocate(view.bytes()));
    std::memcpy(aligned, view.data, view.bytes());
    view.data = aligned;
  } else if (added) {
    pieces_.emplace_back(static_cast<const std::byte*>(view.data), view.bytes());
  }
  return view;
}

Result<Tensor> CheckpointSource::fetch_scale(const std::string& weight_name, int64_t out, int64_t in) {
  const std::string name = scale_name(weight_name);
  const int64_t shape[] = {(out + kFp8Block - 1) / kFp8Block, (in + kFp8Block - 1) / kFp8Block};
  if (!has(name)) {
    return error(ErrorCode::kInvalid, "{}: tensor `{}` is FP8 but has no `{}`", checkpoint_->dir(), weight_name, name);
  }
  HYLAS_ASSIGN(const Tensor stored, fetch(name, shape, Part{}));
  if (stored.dtype == DType::kF32) return stored;
  if (stored.dtype != DType::kBF16) {
    return error(ErrorCode::kUnsupported, "{}: tensor `{}` has type {}; float32 or bfloat16 is supported",
                 checkpoint_->dir(), name, dtype_name(stored.dtype));
  }
  HYLAS_ASSIGN(std::byte* const memory, store_.allocate(2 * stored.bytes()));
  const Tensor scale(memory, DType::kF32, {shape[0], shape[1]});
  for (int64_t i = 0; i < scale.elements(); ++i) scale.as<float>()[i] = bf16_to_f32(stored.as<uint16_t>()[i]);
  return scale;
}

void CheckpointSource::prefetch(const LoadProgress& progress) {
  std::ranges::sort(pieces_, {}, [](std::span<const std::byte> piece) { return piece.data(); });
  hylas::prefetch(pieces_, progress);
}

}  // namespace hylas
