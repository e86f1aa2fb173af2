#include "support/reference_ops.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/check.h"

namespace hylas::test {

HostTensor poisoned(DType dtype, std::initializer_list<int64_t> dims, int64_t gap) {
  HostTensor tensor;
  tensor.view = Tensor(nullptr, dtype, dims);
  tensor.view.row_stride += gap;
  tensor.bytes.assign(static_cast<size_t>((tensor.view.dim(0) * tensor.view.row_stride + 1) * dtype_bytes(dtype)),
                      std::byte{0xff});
  tensor.view.data = tensor.bytes.data();
  return tensor;
}

HostTensor random_tensor(std::mt19937& random, DType dtype, std::initializer_list<int64_t> dims, float size,
                         int64_t gap) {
  HostTensor tensor = poisoned(dtype, dims, gap);
  std::normal_distribution<float> normal(0.f, size);
  for (int64_t r = 0; r < tensor.view.dim(0); ++r) {
    for (int64_t i = 0; i < tensor.view.row_elements(); ++i) set(tensor, r, i, normal(random));
  }
  return tensor;
}

HostTensor int_tensor(const std::vector<int32_t>& values, std::initializer_list<int64_t> dims) {
  HostTensor tensor = poisoned(DType::kI32, dims);
  HYLAS_CHECK(static_cast<int64_t>(values.size()) == tensor.view.elements(), "{} values", values.size());
  std::copy(values.begin(), values.end(), tensor.view.as<int32_t>());
  return tensor;
}

double get(const Tensor& tensor, int64_t row, int64_t index) {
  switch (tensor.dtype) {
    case DType::kF32:
      return tensor.row<float>(row)[index];
    case DType::kBF16:
      return bf16_to_f32(tensor.row<uint16_t>(row)[index]);
    case DType::kF16:
      return f16_to_f32(tensor.row<uint16_t>(row)[index]);
    case DType::kF8E4M3:
      return f8e4m3_to_f32(tensor.row<uint8_t>(row)[index]);
    case DType::kI32:
      return tensor.row<int32_t>(row)[index];
    default:
      return std::numeric_limits<double>::quiet_NaN();
  }
}

void set(const Tensor& tensor, int64_t row, int64_t index, float value) {
  switch (tensor.dtype) {
    case DType::kF32:
      tensor.row<float>(row)[index] = value;
      return;
    case DType::kBF16:
      tensor.row<uint16_t>(row)[index] = f32_to_bf16(value);
      return;
    case DType::kF16:
      tensor.row<uint16_t>(row)[index] = f32_to_f16(value);
      return;
    case DType::kF8E4M3:
      tensor.row<uint8_t>(row)[index] = f32_to_f8e4m3(value);
      return;
    default:
      HYLAS_CHECK(false, "no values of {}", dtype_name(tensor.dtype));
  }
}

std::vector<double> values(const Tensor& tensor) { return values(tensor, 0, tensor.dim(0)); }

std::vector<double> values(const Tensor& tensor, int64_t row_begin, int64_t rows) {
  std::vector<double> result;
  for (int64_t r = row_begin; r < row_begin + rows; ++r) {
    for (int64_t i = 0; i < tensor.row_elements(); ++i) result.push_back(get(tensor, r, i));
  }
  return result;
}

testing::AssertionResult close(const std::vector<double>& got, const std::vector<double>& wanted, double absolute,
                               double relative) {
  if (got.size() != wanted.size()) {
    return testing::AssertionFailure() << got.size() << " values, " << wanted.size() << " wanted";
  }
  for (size_t i = 0; i < got.size(); ++i) {
    if (!(std::abs(got[i] - wanted[i]) <= absolute + relative * std::abs(wanted[i]))) {
      return testing::AssertionFailure() << "value " << i << " is " << got[i] << ", not " << wanted[i];
    }
  }
  return testing::AssertionSuccess();
}

double rounding(DType dtype) {
  switch (dtype) {
    case DType::kBF16:
      return 0x1p-8;
    case DType::kF16:
      return 0x1p-11;
    case DType::kF8E4M3:
      return 0x1p-4;
    default:
      return 1e-6;
  }
}

HostBatch::HostBatch(const std::vector<RowSpec>& rows, int32_t decode_rows, int32_t page_size) {
  std::vector<int32_t> begin = {0}, length, read, write, positions, pages;
  size_t pages_max = 1;
  for (const RowSpec& row : rows) pages_max = std::max(pages_max, row.pages.size());
  for (const RowSpec& row : rows) {
    if (row.write < 0) continue;
    for (const RowSpec& other : rows) {
      if (&other == &row || other.write < 0) continue;
      HYLAS_CHECK(other.read != row.write && other.write != row.write,
                  "slot {} is written by one row and used by another", row.write);
    }
  }
  for (const RowSpec& row : rows) {
    for (int32_t i = 0; i < row.tokens; ++i) positions.push_back(row.context + i);
    begin.push_back(begin.back() + row.tokens);
    length.push_back(row.context + row.tokens);
    read.push_back(row.read);
    write.push_back(row.write);
    pages.insert(pages.end(), row.pages.begin(), row.pages.end());
    pages.resize(length.size() * pages_max, -1);
  }
  auto keep = [&](const std::vector<int32_t>& data, std::initializer_list<int64_t> dims) {
    memory.push_back(int_tensor(data, dims));
    return memory.back().view;
  };
  int64_t count = static_cast<int64_t>(rows.size());
  batch.tokens = begin.back();
  batch.rows = static_cast<int32_t>(rows.size());
  batch.decode_rows = decode_rows;
  batch.page_size = page_size;
  batch.positions = keep(positions, {1, begin.back()});
  batch.row_begin = keep(begin, {count + 1});
  batch.kv_len = keep(length, {count});
  batch.page_table = keep(pages, {count, static_cast<int64_t>(pages_max)});
  batch.state_read = keep(read, {count});
  batch.state_write = keep(write, {count});
}

std::vector<cpu::Isa> available_isas() {
  std::vector<cpu::Isa> isas;
  for (cpu::Isa isa : {cpu::Isa::kScalar, cpu::Isa::kAvx2, cpu::Isa::kAvx512}) {
    if (cpu::isa_available(isa)) isas.push_back(isa);
  }
  return isas;
}

std::string isa_test_name(const testing::TestParamInfo<cpu::Isa>& info) {
  return std::string(cpu::isa_name(info.param));
}

namespace reference {

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
double silu(double x) { return x * sigmoid(x); }

std::vector<double> rms_norm(const std::vector<double>& x, const Tensor& weight, double eps, bool plus_one) {
  size_t width = static_cast<size_t>(weight.dim(0));
  std::vector<double> out(x.size());
  for (size_t begin = 0; begin < x.size(); begin += width) {
    double squares = 0;
    for (size_t i = 0; i < width; ++i) squares += x[begin + i] * x[begin + i];
    double scale = 1 / std::sqrt(squares / static_cast<double>(width) + eps);
    for (size_t i = 0; i < width; ++i) {
      out[begin + i] = x[begin + i] * scale * (get(weight, static_cast<int64_t>(i), 0) + (plus_one ? 1 : 0));
    }
  }
  return out;
}

std::vector<double> rope_row(const Tensor& positions, int64_t token, const RopeConfig& rope) {
  int32_t half = rope.rotary_dim / 2;
  std::vector<double> table(static_cast<size_t>(rope.rotary_dim));
  for (int32_t j = 0; j < half; ++j) {
    int64_t axis = 0;
    if (positions.dim(0) == 3 && j % 3 == 1 && j < 3 * rope.sections[1]) axis = 1;
    if (positions.dim(0) == 3 && j % 3 == 2 && j < 3 * rope.sections[2]) axis = 2;
    double angle = get(positions, axis, token) * std::pow(static_cast<double>(rope.theta), -2.0 * j / rope.rotary_dim);
    table[static_cast<size_t>(j)] = std::cos(angle);
    table[static_cast<size_t>(half + j)] = std::sin(angle);
  }
  return table;
}

std::vector<double> norm_rope(const std::vector<double>& x, const Tensor& weight, double eps,
                              const std::vector<double>& table) {
  std::vector<double> normed = rms_norm(x, weight, eps, true), out = normed;
  size_t half = table.size() / 2;
  for (size_t i = 0; i < half; ++i) {
    out[i] = normed[i] * table[i] - normed[half + i] * table[half + i];
    out[half + i] = normed[half + i] * table[i] + normed[i] * table[half + i];
  }
  return out;
}

std::vector<double> attend(const std::vector<double>& query, const std::vector<std::vector<double>>& keys,
                           const std::vector<std::vector<double>>& values, const std::vector<double>& gate,
                           double scale) {
  std::vector<double> weights, out(query.size(), 0.0);
  for (const auto& key : keys) {
    weights.push_back(scale * std::inner_product(query.begin(), query.end(), key.begin(), 0.0));
  }
  double highest = *std::max_element(weights.begin(), weights.end()), total = 0;
  for (double& weight : weights) total += weight = std::exp(weight - highest);
  for (size_t d = 0; d < out.size(); ++d) {
    for (size_t j = 0; j < weights.size(); ++j) out[d] += weights[j] / total * values[j][d];
    out[d] *= sigmoid(gate[d]);
  }
  return out;
}

std::vector<double> conv_silu(const std::vector<double>& u, const Tensor& weight, std::vector<double>& state) {
  size_t channels = static_cast<size_t>(weight.dim(0)), tokens = u.size() / channels;
  std::vector<double> out(u.size());
  for (size_t c = 0; c < channels; ++c) {
    std::vector<double> line(state.begin() + static_cast<int64_t>(3 * c),
                             state.begin() + static_cast<int64_t>(3 * c + 3));
    for (size_t t = 0; t < tokens; ++t) line.push_back(u[t * channels + c]);
    for (size_t t = 0; t < tokens; ++t) {
      double sum = 0;
      for (size_t j = 0; j < 4; ++j) sum += get(weight, static_cast<int64_t>(c), static_cast<int64_t>(j)) * line[t + j];
      out[t * channels + c] = silu(sum);
    }
    std::copy(line.end() - 3, line.end(), state.begin() + static_cast<int64_t>(3 * c));
  }
  return out;
}

std::vector<double> delta_rule(const DeltaInputs& inputs, std::vector<double>& state) {
  size_t key_dim = inputs.key.empty() ? 0 : inputs.key[0].size();
  size_t value_dim = inputs.value.empty() ? 0 : inputs.value[0].size();
  auto normalise = [](std::vector<double> x, double factor) {
    double scale = factor / std::sqrt(std::inner_product(x.begin(), x.end(), x.begin(), 1e-6));
    for (double& value : x) value *= scale;
    return x;
  };
  std::vector<double> out;
  for (size_t t = 0; t < inputs.a.size(); ++t) {
    std::vector<double> query = normalise(inputs.query[t], 1 / std::sqrt(static_cast<double>(key_dim)));
    std::vector<double> key = normalise(inputs.key[t], 1);
    double decay = std::exp(-std::exp(inputs.a_log) * std::log1p(std::exp(inputs.a[t] + inputs.dt_bias)));
    for (double& value : state) value *= decay;
    for (size_t v = 0; v < value_dim; ++v) {
      double old = 0, read = 0;
      for (size_t i = 0; i < key_dim; ++i) old += state[i * value_dim + v] * key[i];
      double delta = sigmoid(inputs.b[t]) * (inputs.value[t][v] - old);
      for (size_t i = 0; i < key_dim; ++i) {
        state[i * value_dim + v] += key[i] * delta;
        read += state[i * value_dim + v] * query[i];
      }
      out.push_back(read);
    }
  }
  return out;
}

}  // namespace reference
}  // namespace hylas::test
