#include "weights/source.h"

namespace hylas {
namespace {

bool is_float(DType dtype) { return dtype == DType::kF32 || dtype == DType::kBF16; }

Error wrong_type(const std::string& name, DType dtype, std::string_view wanted) {
  return error(ErrorCode::kUnsupported, "tensor `{}` has type {}; {} is supported", name, dtype_name(dtype), wanted);
}

// FP8 scales belong to blocks of 128 x 128: a shard may only begin at one.
Status check_block(const LinearWeight& whole, const char* axis, int64_t begin) {
  if (whole.weight.dtype != DType::kF8E4M3 || begin % kFp8Block == 0) return {};
  return error(ErrorCode::kUnsupported, "an FP8 matrix cannot be cut at {} {}, only at multiples of {}", axis, begin,
               kFp8Block);
}

int64_t blocks(int64_t size) { return (size + kFp8Block - 1) / kFp8Block; }

}  // namespace

Result<Tensor> WeightSource::tensor(const std::string& name, std::initializer_list<int64_t> shape) {
  HYLAS_ASSIGN(const Tensor found, fetch(name, std::span(shape.begin(), shape.size()), Part{}));
  if (!is_float(found.dtype)) return wrong_type(name, found.dtype, "float32 or bfloat16");
  return found;
}

Result<LinearWeight> WeightSource::linear(const std::string& name, int64_t out, int64_t in) {
  const std::string weight_name = name + ".weight";
  const int64_t shape[] = {out, in};
  LinearWeight linear;
  HYLAS_ASSIGN(linear.weight, fetch(weight_name, shape, Part{}));
  if (is_float(linear.weight.dtype)) return linear;
  if (linear.weight.dtype != DType::kF8E4M3) {
    return wrong_type(weight_name, linear.weight.dtype, "float32, bfloat16 or fp8_e4m3");
  }
  HYLAS_ASSIGN(linear.scale, fetch_scale(weight_name, out, in));
  return linear;
}

Result<ExpertWeights> WeightSource::experts(const std::string& prefix, int64_t expert_begin, int64_t expert_count,
                                            int64_t hidden, int64_t width) {
  ExpertWeights experts;
  experts.expert_begin = static_cast<int32_t>(expert_begin);
  const std::string fused = prefix + ".gate_up_proj";
  if (!has(fused)) {
    for (int64_t e = expert_begin; e < expert_begin + expert_count; ++e) {
      const std::string expert = fmt::format("{}.{}.", prefix, e);
      HYLAS_ASSIGN(LinearWeight gate, linear(expert + "gate_proj", width, hidden));
      HYLAS_ASSIGN(LinearWeight up, linear(expert + "up_proj", width, hidden));
      HYLAS_ASSIGN(LinearWeight down, linear(expert + "down_proj", hidden, width));
      experts.gate.push_back(gate);
      experts.up.push_back(up);
      experts.down.push_back(down);
    }
    return experts;
  }
  const Part part{expert_begin, expert_count};
  const int64_t gate_up_shape[] = {-1, 2 * width, hidden};
  const int64_t down_shape[] = {-1, hidden, width};
  HYLAS_ASSIGN(const Tensor gate_up, fetch(fused, gate_up_shape, part));
  HYLAS_ASSIGN(const Tensor down, fetch(prefix + ".down_proj", down_shape, part));
  for (const Tensor* stored : {&gate_up, &down}) {
    if (!is_float(stored->dtype)) return wrong_type(fused, stored->dtype, "of fused experts, float32 or bfloat16");
  }
  for (int64_t e = 0; e < expert_count; ++e) {
    const Tensor both = gate_up.rows(e, 1).reshaped({2 * width, hidden});
    experts.gate.push_back(LinearWeight{both.rows(0, width), {}});
    experts.up.push_back(LinearWeight{both.rows(width, width), {}});
    experts.down.push_back(LinearWeight{down.rows(e, 1).reshaped({hidden, width}), {}});
  }
  return experts;
}

bool WeightSource::count(const std::string& name, size_t bytes) {
  const bool added = names_used_.insert(name).second;
  if (added) bytes_used_ += bytes;
  return added;
}

Result<LinearWeight> weight_rows(const LinearWeight& whole, int64_t begin, int64_t count) {
  HYLAS_TRY(check_block(whole, "row", begin));
  LinearWeight shard{whole.weight.rows(begin, count), {}};
  if (whole.scale) shard.scale = whole.scale.rows(begin / kFp8Block, blocks(count));
  return shard;
}

Result<LinearWeight> weight_columns(const LinearWeight& whole, int64_t begin, int64_t count) {
  HYLAS_TRY(check_block(whole, "column", begin));
  LinearWeight shard{whole.weight.columns(begin, count), {}};
  if (whole.scale) shard.scale = whole.scale.columns(begin / kFp8Block, blocks(count));
  return shard;
}

}  // namespace hylas
