#include "weights/dummy_source.h"

#include <algorithm>
#include <thread>

#include "weights/dummy_fill.h"
#include "weights/part.h"

namespace hylas {

DummySource::DummySource(const std::vector<TensorSpec>& specs, int threads)
    : threads_(threads > 0 ? threads : std::max(1, static_cast<int>(std::thread::hardware_concurrency()))) {
  for (const TensorSpec& spec : specs) specs_.emplace(spec.name, spec);
}

Result<Tensor> DummySource::fetch(const std::string& name, std::span<const int64_t> shape, const Part& part) {
  const auto found = specs_.find(name);
  if (found == specs_.end()) return error(ErrorCode::kNotFound, "the model has no tensor `{}`", name);
  const TensorSpec& spec = found->second;
  std::vector<int64_t> wanted(shape.begin(), shape.end());
  if (wanted[0] == -1) wanted[0] = spec.shape[0];
  if (wanted != spec.shape) {
    return error(ErrorCode::kInvalid, "tensor `{}` has shape [{}] instead of [{}]", name, fmt::join(spec.shape, ", "),
                 fmt::join(wanted, ", "));
  }
  const MatrixShape matrix = matrix_shape(spec.shape);
  const Range rows = resolve(part.rows, matrix.rows), columns = resolve(part.columns, matrix.columns);
  if (!within(rows, matrix.rows) || !within(columns, matrix.columns)) {
    return error(ErrorCode::kInvalid, "tensor `{}` is a matrix of {} x {}; rows [{}, {}), columns [{}, {}) are wanted",
                 name, matrix.rows, matrix.columns, rows.begin, rows.begin + rows.count, columns.begin,
                 columns.begin + columns.count);
  }
  const std::string key = part_name(name, part);
  if (const auto filled = filled_.find(key); filled != filled_.end()) return filled->second;
  const size_t bytes = static_cast<size_t>(rows.count * columns.count) * dtype_bytes(spec.dtype);
  const int64_t begin = rows.begin * matrix.columns + columns.begin;
  HYLAS_ASSIGN(Tensor tensor,
               make_placed(spec.dtype, rows.count, columns.count, [&](Device& device, const Tensor& out) {
                 return fill_dummy_on(device, name, begin, matrix.columns, out);
               }));
  if (!tensor) {
    HYLAS_ASSIGN(std::byte* const memory, store_.allocate(bytes));
    tensor = Tensor(memory, spec.dtype, {rows.count, columns.count});
    fill_dummy(name, begin, matrix.columns, tensor, threads_);
  }
  filled_.emplace(key, tensor);
  count(key, bytes);
  return tensor;
}

Result<Tensor> DummySource::fetch_scale(const std::string& weight_name, int64_t out, int64_t in, const Part& part) {
  const int64_t rows_total = (out + kFp8Block - 1) / kFp8Block, columns_total = (in + kFp8Block - 1) / kFp8Block;
  const Part blocks{scale_range(part.rows), scale_range(part.columns)};
  const Range rows = resolve(blocks.rows, rows_total), columns = resolve(blocks.columns, columns_total);
  const std::string key = part_name(scale_name(weight_name), blocks);
  if (const auto filled = filled_.find(key); filled != filled_.end()) return filled->second;
  const size_t bytes = static_cast<size_t>(rows.count * columns.count) * sizeof(float);
  HYLAS_ASSIGN(std::byte* const memory, store_.allocate(bytes));
  const Tensor scale(memory, DType::kF32, {rows.count, columns.count});
  for (int64_t row = 0; row < rows.count; ++row) {
    for (int64_t column = 0; column < columns.count; ++column) {
      scale.row<float>(row)[column] =
          dummy_scale(weight_name, (rows.begin + row) * columns_total + columns.begin + column);
    }
  }
  filled_.emplace(key, scale);
  count(key, bytes);
  return scale;
}

void DummySource::prefetch(const LoadProgress& progress) {
  if (progress) progress(bytes_used(), bytes_used());
}

}  // namespace hylas
