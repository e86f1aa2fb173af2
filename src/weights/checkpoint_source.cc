#include "weights/checkpoint_source.h"

#include <algorithm>
#include <cstring>

#include "weights/part.h"
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

Result<Tensor> CheckpointSource::fetch(const std::string& name, std::span<const int64_t> shape, const Part& part) {
  const TensorInfo* info = checkpoint_->find(name);
  if (!info) return error(ErrorCode::kNotFound, "{}: tensor `{}` is missing", checkpoint_->dir(), name);
  HYLAS_TRY(check_shape(checkpoint_->dir(), name, info->shape, shape));
  HYLAS_ASSIGN(const Tensor whole, tensor_view(checkpoint_->file(info->file), name, *info));
  const MatrixShape matrix = matrix_shape(info->shape);
  const Range rows = resolve(part.rows, matrix.rows), columns = resolve(part.columns, matrix.columns);
  if (!within(rows, matrix.rows) || !within(columns, matrix.columns)) {
    return error(ErrorCode::kInvalid,
                 "{}: tensor `{}` is a matrix of {} x {}; rows [{}, {}), columns [{}, {}) are wanted",
                 checkpoint_->dir(), name, matrix.rows, matrix.columns, rows.begin, rows.begin + rows.count,
                 columns.begin, columns.begin + columns.count);
  }
  Tensor view = whole.reshaped({matrix.rows, matrix.columns}).rows(rows.begin, rows.count);
  view = view.columns(columns.begin, columns.count);
  const bool added = count(part_name(name, part), view.bytes());
  if (reinterpret_cast<uintptr_t>(view.data) % dtype_bytes(view.dtype) != 0) return aligned_copy(view);
  const size_t spanned = ((view.dim(0) - 1) * view.row_stride + view.dim(1)) * dtype_bytes(view.dtype);
  if (added && view.elements() > 0) pieces_.emplace_back(static_cast<const std::byte*>(view.data), spanned);
  return view;
}

Result<Tensor> CheckpointSource::aligned_copy(const Tensor& view) {
  HYLAS_ASSIGN(std::byte* const memory, store_.allocate(view.bytes()));
  const size_t element = dtype_bytes(view.dtype), row_bytes = view.dim(1) * element;
  for (int64_t row = 0; row < view.dim(0); ++row) {
    std::memcpy(memory + row * row_bytes, static_cast<const std::byte*>(view.data) + row * view.row_stride * element,
                row_bytes);
  }
  return Tensor(memory, view.dtype, {view.dim(0), view.dim(1)});
}

Result<Tensor> CheckpointSource::fetch_scale(const std::string& weight_name, int64_t out, int64_t in,
                                             const Part& part) {
  const std::string name = scale_name(weight_name);
  const int64_t shape[] = {(out + kFp8Block - 1) / kFp8Block, (in + kFp8Block - 1) / kFp8Block};
  if (!has(name)) {
    return error(ErrorCode::kInvalid, "{}: tensor `{}` is FP8 but has no `{}`", checkpoint_->dir(), weight_name, name);
  }
  HYLAS_ASSIGN(const Tensor stored, fetch(name, shape, Part{scale_range(part.rows), scale_range(part.columns)}));
  if (stored.dtype == DType::kF32) return stored;
  if (stored.dtype != DType::kBF16) {
    return error(ErrorCode::kUnsupported, "{}: tensor `{}` has type {}; float32 or bfloat16 is supported",
                 checkpoint_->dir(), name, dtype_name(stored.dtype));
  }
  HYLAS_ASSIGN(std::byte* const memory, store_.allocate(2 * stored.bytes()));
  const Tensor scale(memory, DType::kF32, {stored.dim(0), stored.dim(1)});
  for (int64_t row = 0; row < scale.dim(0); ++row) {
    for (int64_t column = 0; column < scale.dim(1); ++column) {
      scale.row<float>(row)[column] = bf16_to_f32(stored.row<uint16_t>(row)[column]);
    }
  }
  return scale;
}

void CheckpointSource::prefetch(const LoadProgress& progress) {
  std::ranges::sort(pieces_, {}, [](std::span<const std::byte> piece) { return piece.data(); });
  hylas::prefetch(pieces_, progress);
}

}  // namespace hylas
