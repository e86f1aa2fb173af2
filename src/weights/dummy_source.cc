#include "weights/dummy_source.h"

#include <algorithm>
#include <thread>

#include "weights/dummy_fill.h"

namespace hylas {
namespace {

Tensor make_view(std::byte* memory, DType dtype, std::span<const int64_t> shape) {
  switch (shape.size()) {
    case 1:
      return Tensor(memory, dtype, {shape[0]});
    case 2:
      return Tensor(memory, dtype, {shape[0], shape[1]});
    default:
      HYLAS_CHECK(shape.size() == 3, "a manifest's tensors have 1 to 3 dimensions, not {}", shape.size());
      return Tensor(memory, dtype, {shape[0], shape[1], shape[2]});
  }
}

}  // namespace

DummySource::DummySource(const std::vector<TensorSpec>& specs, int threads)
    : threads_(threads > 0 ? threads : std::max(1, static_cast<int>(std::thread::hardware_concurrency()))) {
  for (const TensorSpec& spec : specs) specs_.emplace(spec.name, spec);
}

Result<Tensor> DummySource::fetch(const std::string& name, std::span<const int64_t> shape, Part part) {
  const auto found = specs_.find(name);
  if (found == specs_.end()) return error(ErrorCode::kNotFound, "the model has no tensor `{}`", name);
  const TensorSpec& spec = found->second;
  std::vector<int64_t> wanted(shape.begin(), shape.end());
  if (wanted[0] == -1) wanted[0] = spec.shape[0];
  if (wanted != spec.shape) {
    return error(ErrorCode::kInvalid, "tensor `{}` has shape [{}] instead of [{}]", name, fmt::join(spec.shape, ", "),
                 fmt::join(wanted, ", "));
  }
  const int64_t row_elements = spec.elements() / spec.shape[0];
  std::string key = name;
  if (part.count >= 0) {
    if (part.begin < 0 || part.begin + part.count > spec.shape[0]) {
      return error(ErrorCode::kInvalid, "tensor `{}` has {} rows; [{}, {}) are wanted", name, spec.shape[0], part.begin,
                   part.begin + part.count);
    }
    wanted[0] = part.count;
    key = part_name(name, part);
  }
  if (const auto filled = filled_.find(key); filled != filled_.end()) return filled->second;
  const size_t bytes = static_cast<size_t>(wanted[0] * row_elements) * dtype_bytes(spec.dtype);
  HYLAS_ASSIGN(std::byte* const memory, store_.allocate(bytes));
  const Tensor tensor = make_view(memory, spec.dtype, wanted);
  fill_dummy(name, part.begin * row_elements, tensor, threads_);
  filled_.emplace(key, tensor);
  count(key, bytes);
  return tensor;
}

Result<Tensor> DummySource::fetch_scale(const std::string& weight_name, int64_t out, int64_t in) {
  const std::string name = scale_name(weight_name);
  if (const auto filled = filled_.find(name); filled != filled_.end()) return filled->second;
  const int64_t rows = (out + kFp8Block - 1) / kFp8Block, columns = (in + kFp8Block - 1) / kFp8Block;
  const size_t bytes = static_cast<size_t>(rows * columns) * sizeof(float);
  HYLAS_ASSIGN(std::byte* const memory, store_.allocate(bytes));
  const Tensor scale(memory, DType::kF32, {rows, columns});
  for (int64_t i = 0; i < rows * columns; ++i) scale.as<float>()[i] = dummy_scale(weight_name, i);
  filled_.emplace(name, scale);
  count(name, bytes);
  return scale;
}

void DummySource::prefetch(const LoadProgress& progress) {
  if (progress) progress(bytes_used(), bytes_used());
}

}  // namespace hylas
