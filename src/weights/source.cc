#include "weights/source.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace hylas {
namespace {

bool is_float(DType dtype) { return dtype == DType::kF32 || dtype == DType::kBF16; }

Error wrong_type(const std::string& name, DType dtype, std::string_view wanted) {
  return error(ErrorCode::kUnsupported, "tensor `{}` has type {}; {} is supported", name, dtype_name(dtype), wanted);
}

// FP8 scales belong to blocks of 128 x 128: a shard begins at one, and ends at one or with the matrix.
Status check_blocks(const std::string& name, const char* axis, Range range, int64_t size) {
  if (range.count < 0) return {};
  const int64_t end = range.begin + range.count;
  if (range.begin % kFp8Block == 0 && (end % kFp8Block == 0 || end == size)) return {};
  return error(ErrorCode::kUnsupported, "the FP8 matrix `{}` cannot be cut into {} [{}, {}): its blocks are {} wide",
               name, axis, range.begin, end, kFp8Block);
}

}  // namespace

std::string WeightSource::part_name(const std::string& name, const Part& part) {
  std::string text = name;
  if (part.rows.count >= 0) text += fmt::format("[rows {}:{}]", part.rows.begin, part.rows.begin + part.rows.count);
  if (part.columns.count >= 0) {
    text += fmt::format("[columns {}:{}]", part.columns.begin, part.columns.begin + part.columns.count);
  }
  return text;
}

Result<Tensor> WeightSource::tensor(const std::string& name, std::initializer_list<int64_t> shape) {
  const Range all;
  return tensor_rows(name, shape, {&all, 1});
}

Result<Tensor> WeightSource::tensor_rows(const std::string& name, std::initializer_list<int64_t> shape,
                                         std::span<const Range> ranges) {
  HYLAS_CHECK(shape.size() >= 1 && shape.size() <= 3, "{} has {} dimensions", name, shape.size());
  const std::span<const int64_t> dims(shape.begin(), shape.size());
  const int64_t inner = dims.size() == 3 ? dims[1] : 1;  // rows of the matrix view in one of dimension 0
  std::vector<Tensor> parts;
  for (const Range& range : ranges) {
    const Range rows{range.begin * inner, range.count < 0 ? -1 : range.count * inner};
    HYLAS_ASSIGN(const Tensor found, fetch(name, dims, Part{rows, {}}));
    if (!is_float(found.dtype)) return wrong_type(name, found.dtype, "float32 or bfloat16");
    parts.push_back(found);
  }
  HYLAS_ASSIGN(const Tensor stacked, stack(parts));
  HYLAS_ASSIGN(const Tensor whole, placed(stacked));
  if (dims.size() == 1) return whole.reshaped({whole.elements()});
  if (dims.size() == 2) return whole;
  return whole.reshaped({whole.dim(0) / inner, inner, dims[2]});
}

// Parts of the same width one below the other: where they are to lie if that is where some were made.
Result<Tensor> WeightSource::stack(std::span<const Tensor> parts) {
  if (parts.size() == 1) return parts[0];
  const auto is_placed = [&](const Tensor& part) { return made_placed_.contains(part.data); };
  const bool on_device = std::any_of(parts.begin(), parts.end(), is_placed);
  int64_t rows = 0;
  for (const Tensor& part : parts) rows += part.dim(0);
  const size_t bytes = static_cast<size_t>(rows * parts[0].dim(1)) * dtype_bytes(parts[0].dtype);
  HYLAS_ASSIGN(std::byte * to, on_device ? room(bytes) : store_.allocate(bytes));
  const Tensor whole(to, parts[0].dtype, {rows, parts[0].dim(1)});
  for (const Tensor& part : parts) {
    HYLAS_CHECK(part.contiguous() && part.dim(1) == whole.dim(1) && part.dtype == whole.dtype);
    if (is_placed(part)) {
      device_->copy(to, part.data, part.bytes());
    } else if (on_device) {
      device_->copy_from_host(to, part.data, part.bytes());
    } else {
      std::memcpy(to, part.data, part.bytes());
    }
    to += part.bytes();
  }
  if (on_device) made_placed_.insert(whole.data);
  return whole;
}

Result<LinearWeight> WeightSource::linear(const std::string& name, int64_t out, int64_t in) {
  HYLAS_ASSIGN(const LinearWeight weight, linear_part(name, out, in, Part{}));
  return placed(weight);
}

Result<LinearWeight> WeightSource::linear_rows(const std::string& name, int64_t out, int64_t in,
                                               std::span<const Range> ranges) {
  std::vector<Tensor> weights, scales;
  for (const Range& range : ranges) {
    HYLAS_ASSIGN(const LinearWeight part, linear_part(name, out, in, Part{range, {}}));
    weights.push_back(part.weight);
    if (part.scale) scales.push_back(part.scale);
  }
  LinearWeight linear;
  HYLAS_ASSIGN(linear.weight, stack(weights));
  if (!scales.empty()) {
    HYLAS_ASSIGN(linear.scale, stack(scales));
  }
  return placed(linear);
}

Result<LinearWeight> WeightSource::linear_columns(const std::string& name, int64_t out, int64_t in, Range columns) {
  HYLAS_ASSIGN(const LinearWeight weight, linear_part(name, out, in, Part{{}, columns}));
  return placed(weight);
}

Result<LinearWeight> WeightSource::linear_part(const std::string& name, int64_t out, int64_t in, const Part& part) {
  const std::string weight_name = name + ".weight";
  const int64_t shape[] = {out, in};
  LinearWeight linear;
  HYLAS_ASSIGN(linear.weight, fetch(weight_name, shape, part));
  if (is_float(linear.weight.dtype)) return linear;
  if (linear.weight.dtype != DType::kF8E4M3) {
    return wrong_type(weight_name, linear.weight.dtype, "float32, bfloat16 or fp8_e4m3");
  }
  HYLAS_TRY(check_blocks(weight_name, "rows", part.rows, out));
  HYLAS_TRY(check_blocks(weight_name, "columns", part.columns, in));
  HYLAS_ASSIGN(linear.scale, fetch_scale(weight_name, out, in, part));
  return linear;
}

Result<ExpertWeights> WeightSource::experts(const std::string& prefix, Range wanted, int64_t hidden, int64_t width,
                                            Range widths) {
  ExpertWeights experts;
  experts.expert_begin = static_cast<int32_t>(wanted.begin);
  const auto add = [&](const LinearWeight& gate, const LinearWeight& up, const LinearWeight& down) -> Status {
    HYLAS_ASSIGN(const LinearWeight gate_placed, placed(gate));
    HYLAS_ASSIGN(const LinearWeight up_placed, placed(up));
    HYLAS_ASSIGN(const LinearWeight down_placed, placed(down));
    experts.gate.push_back(gate_placed);
    experts.up.push_back(up_placed);
    experts.down.push_back(down_placed);
    return {};
  };
  const std::string fused = prefix + ".gate_up_proj";
  if (!has(fused)) {
    const int64_t held = widths.count < 0 ? width : widths.count;
    HYLAS_ASSIGN(const Places gates_ups, expert_places(2 * wanted.count, held, hidden));
    HYLAS_ASSIGN(const Places downs, expert_places(wanted.count, hidden, held));
    for (int64_t i = 0; i < wanted.count; ++i) {
      const std::string expert = fmt::format("{}.{}.", prefix, wanted.begin + i);
      const Part rows{widths, {}}, columns{{}, widths};
      HYLAS_ASSIGN(LinearWeight gate, expert_part(expert + "gate_proj", width, hidden, rows, gates_ups.at(2 * i)));
      HYLAS_ASSIGN(LinearWeight up, expert_part(expert + "up_proj", width, hidden, rows, gates_ups.at(2 * i + 1)));
      HYLAS_ASSIGN(LinearWeight down, expert_part(expert + "down_proj", hidden, width, columns, downs.at(i)));
      experts.gate.push_back(gate);
      experts.up.push_back(up);
      experts.down.push_back(down);
    }
    return experts;
  }
  const int64_t gate_up_shape[] = {-1, 2 * width, hidden};
  const int64_t down_shape[] = {-1, hidden, width};
  const int64_t count = widths.count < 0 ? width : widths.count;
  for (int64_t e = wanted.begin; e < wanted.begin + wanted.count; ++e) {
    const auto half = [&](int64_t begin) {
      return fetch(fused, gate_up_shape, Part{{e * 2 * width + begin + widths.begin, count}, {}});
    };
    HYLAS_ASSIGN(const Tensor gate, half(0));
    HYLAS_ASSIGN(const Tensor up, half(width));
    HYLAS_ASSIGN(const Tensor down, fetch(prefix + ".down_proj", down_shape, Part{{e * hidden, hidden}, widths}));
    for (const Tensor* stored : {&gate, &down}) {
      if (!is_float(stored->dtype)) return wrong_type(fused, stored->dtype, "of fused experts, float32 or bfloat16");
    }
    HYLAS_TRY(add({gate, {}}, {up, {}}, {down, {}}));
  }
  return experts;
}

WeightSource::Place WeightSource::Places::at(int64_t index) const {
  if (!first.weight) return {};
  return {first.weight + index * weight_bytes, first.scale + index * scale_bytes};
}

Result<WeightSource::Places> WeightSource::expert_places(int64_t count, int64_t rows, int64_t columns) {
  Places places;
  if (!device_ || !experts_together_ || rows % kFp8Block != 0 || columns % kFp8Block != 0) return places;
  places.weight_bytes = static_cast<size_t>(rows * columns);
  places.scale_bytes = static_cast<size_t>(rows / kFp8Block * (columns / kFp8Block)) * sizeof(float);
  HYLAS_ASSIGN(places.first.weight, device_store_->allocate(count * places.weight_bytes));
  HYLAS_ASSIGN(places.first.scale, device_store_->allocate(count * places.scale_bytes));
  return places;
}

// Only FP8 weights go to the place: it was measured for them.
Result<LinearWeight> WeightSource::expert_part(const std::string& name, int64_t out, int64_t in, const Part& part,
                                               Place place) {
  next_place_ = place.weight;
  HYLAS_ASSIGN(LinearWeight weight, linear_part(name, out, in, part));
  if (weight.weight.dtype != DType::kF8E4M3) next_place_ = nullptr;
  HYLAS_ASSIGN(weight.weight, placed(weight.weight));
  next_place_ = weight.scale ? place.scale : nullptr;
  if (weight.scale) {
    HYLAS_ASSIGN(weight.scale, placed(weight.scale));
  }
  next_place_ = nullptr;
  return weight;
}

Result<std::byte*> WeightSource::room(size_t bytes) {
  if (next_place_) return std::exchange(next_place_, nullptr);
  return device_store_->allocate(bytes);
}

void WeightSource::place_on(Device& device, bool experts_together) {
  constexpr size_t kBlockBytes = size_t{256} << 20;
  device_ = &device;
  experts_together_ = experts_together;
  device_store_.emplace(device, kBlockBytes);
}

Result<Tensor> WeightSource::make_placed(DType dtype, int64_t rows, int64_t columns,
                                         const std::function<bool(Device&, const Tensor&)>& make) {
  if (!device_) return Tensor();
  const size_t bytes = static_cast<size_t>(rows * columns) * dtype_bytes(dtype);
  HYLAS_ASSIGN(std::byte* const memory, room(bytes));
  const Tensor tensor(memory, dtype, {rows, columns});
  if (!make(*device_, tensor)) return Tensor();
  made_placed_.insert(memory);
  return tensor;
}

Result<Tensor> WeightSource::placed(const Tensor& tensor) {
  if (!device_ || tensor.elements() == 0 || made_placed_.contains(tensor.data)) return tensor;
  HYLAS_ASSIGN(std::byte* const memory, room(tensor.bytes()));
  Tensor copy = tensor;
  copy.data = memory;
  copy.row_stride = tensor.row_elements();
  if (tensor.contiguous()) {
    device_->copy_from_host(memory, tensor.data, tensor.bytes());
    return copy;
  }
  const size_t row_bytes = copy.row_elements() * dtype_bytes(copy.dtype);
  std::vector<std::byte> rows(copy.bytes());
  for (int64_t row = 0; row < copy.dim(0); ++row) {
    std::memcpy(rows.data() + row * row_bytes, tensor.rows(row, 1).data, row_bytes);
  }
  device_->copy_from_host(memory, rows.data(), rows.size());
  return copy;
}

Result<LinearWeight> WeightSource::placed(const LinearWeight& weight) {
  LinearWeight copy;
  HYLAS_ASSIGN(copy.weight, placed(weight.weight));
  if (!weight.scale) return copy;
  HYLAS_ASSIGN(copy.scale, placed(weight.scale));
  return copy;
}

bool WeightSource::count(const std::string& name, size_t bytes) {
  const bool added = names_used_.insert(name).second;
  if (added) bytes_used_ += bytes;
  if (added && on_taken_) on_taken_(bytes);
  return added;
}

}  // namespace hylas
