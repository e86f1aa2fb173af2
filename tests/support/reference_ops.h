#pragma once
// The operators of ops.h other than matrix products, in plain scalar code and double precision, and tensors and batches
// to try the CPU's on. Formulas: model.md section 3.
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "ops/cpu/other_ops.h"

namespace hylas::test {

// A tensor and its memory. Rows may lie further apart than they are long; what is between and behind them is poison.
struct HostTensor {
  HostTensor() = default;
  HostTensor(HostTensor&&) = default;
  HostTensor& operator=(HostTensor&&) = default;
  HostTensor(const HostTensor& other) : bytes(other.bytes), view(other.view) { view.data = bytes.data(); }
  std::vector<std::byte> bytes;
  Tensor view;
  operator const Tensor&() const { return view; }
};
// All bytes 0xff: NaN as f32, bf16, f16 and fp8, -1 as i32.
HostTensor poisoned(DType dtype, std::initializer_list<int64_t> dims, int64_t gap = 0);
// Normal values of standard deviation `size`, rounded to the type.
HostTensor random_tensor(std::mt19937& random, DType dtype, std::initializer_list<int64_t> dims, float size,
                         int64_t gap = 0);
HostTensor int_tensor(const std::vector<int32_t>& values, std::initializer_list<int64_t> dims);

// Element `index` of row `row`, counted over all dimensions but the first.
double get(const Tensor& tensor, int64_t row, int64_t index);
void set(const Tensor& tensor, int64_t row, int64_t index, float value);
// Every element, row after row.
std::vector<double> values(const Tensor& tensor);
std::vector<double> values(const Tensor& tensor, int64_t row_begin, int64_t rows);
// |got - wanted| <= absolute + relative |wanted| everywhere, and nothing is NaN.
testing::AssertionResult close(const std::vector<double>& got, const std::vector<double>& wanted, double absolute,
                               double relative);
// The tolerance of one rounding to `dtype`.
double rounding(DType dtype);

// One row of a batch.
struct RowSpec {
  int32_t tokens;
  int32_t context = 0;  // tokens before these
  int32_t read = -1;
  int32_t write = 0;
  std::vector<int32_t> pages = {};
};

// A Batch and its memory. Decode rows come first; positions count from `context`.
struct HostBatch {
  HostBatch(const std::vector<RowSpec>& rows, int32_t decode_rows, int32_t page_size = 64);
  std::vector<HostTensor> memory;
  Batch batch;
};

// The operators of one instruction set.
struct Machine {
  explicit Machine(cpu::Isa isa, int threads = 2) : pool(threads), scratch(threads, isa) {}
  cpu::ThreadPool pool;
  cpu::Scratch scratch;
};
// Those that this processor has.
std::vector<cpu::Isa> available_isas();
// Runs a test once per instruction set.
class PerIsa : public testing::TestWithParam<cpu::Isa> {
 protected:
  std::mt19937 random{20251};
};
std::string isa_test_name(const testing::TestParamInfo<cpu::Isa>& info);
#define HYLAS_PER_ISA(Suite) INSTANTIATE_TEST_SUITE_P(Isa, Suite, testing::ValuesIn(available_isas()), isa_test_name)

namespace reference {

double silu(double x);
double sigmoid(double x);
// Rows of `width` values, one weight each; plus_one: times 1 + w, else times w.
std::vector<double> rms_norm(const std::vector<double>& x, const Tensor& weight, double eps, bool plus_one);
// cos | sin of one token.
std::vector<double> rope_row(const Tensor& positions, int64_t token, const RopeConfig& rope);
// rope(norm1p(x)) of one head.
std::vector<double> norm_rope(const std::vector<double>& x, const Tensor& weight, double eps,
                              const std::vector<double>& table);
// One query head of `dim` values over `length` keys and values, times sigmoid(gate).
std::vector<double> attend(const std::vector<double>& query, const std::vector<std::vector<double>>& keys,
                           const std::vector<std::vector<double>>& values, const std::vector<double>& gate,
                           double scale);
// Conv of one row over its inputs [tokens][channels] and state [channels][3]; returns the outputs, updates the state.
std::vector<double> conv_silu(const std::vector<double>& u, const Tensor& weight, std::vector<double>& state);

// Gated delta rule of one row and value head, token by token. `state` [key_dim][value_dim] is updated.
struct DeltaInputs {
  std::vector<std::vector<double>> query, key, value;  // before normalisation
  std::vector<double> a, b;
  double a_log, dt_bias;
};
std::vector<double> delta_rule(const DeltaInputs& inputs, std::vector<double>& state);

}  // namespace reference
}  // namespace hylas::test
