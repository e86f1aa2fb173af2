// OpsCuda: products, and in which form they read their rows.
#include <algorithm>
#include <vector>

#include "ops/cuda/fp8_gemm.h"
#include "ops/cuda/gemm_fp8_few.h"
#include "ops/cuda/gemm_fp8_rows.h"
#include "ops/cuda/ops_cuda.h"
#include "ops/decode_plan.h"

namespace hylas::cuda {
namespace {

// A matrix with no more outputs is a gate of many rows, whoever reads it.
constexpr int64_t kGateOutputs = 8;

// As the arena's rows will come.
Product planned(const LinearWeight& weight, DType act, int64_t rows) {
  return product_of(Tensor(nullptr, act, {rows, weight.weight.dim(1)}), weight);
}

}  // namespace

// Whether the FP8 tensor cores can and should do it, and the workspace holds what it needs.
bool OpsCuda::takes_fp8(const Product& p) const {
  if (!fp8_.linear || p.rows < fp8_.rows_min || !fp8_takes(p)) return false;
  const size_t out_bytes = Workspace::padded(static_cast<size_t>(p.rows * p.outputs) * 2);
  return fp8_rows_bytes(p.rows, p.inputs) + out_bytes <= memory_.bytes();
}

// Fewer rows: their own kernel, which quantizes them on the way if need be.
bool OpsCuda::takes_fp8_rows(const Product& p) const {
  return fp8_.linear && p.rows < fp8_.rows_min && gemm_fp8_rows_takes(p);
}

RowForm OpsCuda::row_form(const LinearWeight& weight, DType act, int64_t rows) const {
  const Product product = planned(weight, act, rows);
  const bool few = rows > kFp8OwnRowsMax && takes_fp8_rows(product);
  return few || takes_fp8(product) ? RowForm::kFp8 : RowForm::kValues;
}

// They go to experts as they are quantized; a few choices' products quantize for themselves.
RowForm OpsCuda::row_form(const ExpertWeights& experts, int64_t choices, DType act, int64_t rows) const {
  const bool fp8 = fp8_.experts && act == DType::kBF16 && !experts.gate.empty() &&
                   experts.gate[0].weight.dtype == DType::kF8E4M3 && !chosen_fp8_takes(rows, choices);
  return fp8 ? RowForm::kBoth : RowForm::kValues;
}

// Few rows of gate and up meet in blocks of fewer than 128 outputs.
RowForm OpsCuda::silu_mul_form(const LinearWeight& down, DType act, int64_t rows) const {
  return takes_fp8(planned(down, act, rows)) ? RowForm::kFp8 : RowForm::kValues;
}

// More rows than gemm_decode takes come from DeepGEMM, which rounds them.
DType OpsCuda::partial_type(const LinearWeight& weight, DType act, int64_t rows, SumOver over) const {
  if (over == SumOver::kRanks && rows <= kDecodeFp8RowsMax) return DType::kF32;
  return takes_fp8(planned(weight, act, rows)) ? DType::kBF16 : DType::kF32;
}

bool OpsCuda::takes_decode(const Product& p) const { return p.weight_dtype == DType::kBF16 && DecodeGemm::takes(p); }

void OpsCuda::multiply(const Product& product) {
  workspace_.reset();
  if (takes_fp8(product)) {
    Product copy = product;
    return multiply_quantized({&copy, 1});
  }
  if (takes_fp8_rows(product)) return fp8_run_few(product, stream());
  if (takes_decode(product)) return decode_.run(product, stream());
  if (large_->takes(product, workspace_)) return large_->run(product, workspace_, stream());
  cuda::multiply(product, stream());
}

// The matrices of one type in one launch; small ones beside FP8's, so that the next kernel has one to follow.
void OpsCuda::multiply_together(Together& together) {
  const Product &small = together.small, &large = together.bf16;
  const bool beside = together.fp8_rows.parts > 0 && gemm_small_takes(small);
  if (together.fp8_rows.parts > 0) gemm_fp8_rows(together.fp8_rows, beside ? small : Product(), stream());
  if (small.parts > 0 && !beside) gemm_bf16(small, stream());
  if (together.gates.parts > 0) gemm_gates(together.gates, stream());
  if (large.parts > 0) takes_decode(large) ? decode_.run(large, stream()) : gemm_bf16(large, stream());
  if (together.fp8.parts > 0) gemm_bf16(together.fp8, stream());
}

// Products over the same rows on the FP8 tensor cores.
void OpsCuda::multiply_quantized(std::span<Product> products) {
  workspace_.reset();
  const Product& first = products[0];
  const Fp8Rows rows = ready_or_quantized(workspace_, first.x_fp8, first.x, first.rows, first.inputs, stream());
  Product together;
  for (Product& product : products) {
    product.x_fp8 = rows;
    if (products.size() <= kPartsMax) add_part(together, product);
  }
  if (DecodeGemm::takes(together)) {
    decode_.run(together, stream());
    return clear_other_slices(together, stream());
  }
  for (const Product& product : products) {
    Workspace room = workspace_;  // each may use all that is left
    fp8_run(product, room, stream(), side_ ? side_blocks_ : kFp8Blocks);
  }
}

// Rows that came as e4m3 alone go to products that row_form promised.
void OpsCuda::check_form(const ActRows& x, const Product& product) const {
  const bool few = product.rows > kFp8OwnRowsMax && takes_fp8_rows(product);
  HYLAS_CHECK(x.has_values() || few || takes_fp8(product), "rows [{}, {}] in e4m3 alone for a weight of type {}",
              product.rows, product.inputs, dtype_name(product.weight_dtype));
}

void OpsCuda::linear(const ActRows& x, std::span<const LinearWeight> weights, std::span<const Tensor> outs) {
  HYLAS_CHECK(weights.size() == outs.size(), "{} weights, {} outs", weights.size(), outs.size());
  const bool all_small =
      std::ranges::all_of(weights, [&](const LinearWeight& weight) { return gemm_small_takes(product_of(x, weight)); });
  const bool rounds_some = std::ranges::any_of(outs, [](const Tensor& out) { return out.dtype == DType::kBF16; });
  Together few;
  std::vector<Product> quantized;  // that share their quantized rows
  for (size_t i = 0; i < weights.size(); ++i) {
    check_act(outs[i]);
    Product product = product_of(x, weights[i]);
    HYLAS_CHECK(outs[i].dim(0) == product.rows && outs[i].dim(1) == product.outputs &&
                    weights[i].weight.dim(1) == product.inputs,
                "out [{}, {}] for x [{}, {}], weight [{}, {}]", outs[i].dim(0), outs[i].dim(1), product.rows,
                product.inputs, product.outputs, weights[i].weight.dim(1));
    check_form(x, product);
    product.out = view(outs[i]);
    workspace_.reset();
    if (takes_fp8(product)) {
      quantized.push_back(product);
      continue;
    }
    const bool fp8_rows = takes_fp8_rows(product);
    // Results in f32 beside others are one for each head (a and b of a delta layer): a rank may have too few of them
    // for gemm_decode, whose sums have another order.
    const bool of_heads = rounds_some && outs[i].dtype == DType::kF32, small = all_small || of_heads;
    const bool gates = (of_heads || product.outputs <= kGateOutputs) && gemm_gates_takes(product);
    Product& together = gates                                    ? few.gates
                        : fp8_rows                               ? few.fp8_rows
                        : product.weight_dtype == DType::kF8E4M3 ? few.fp8
                        : small                                  ? few.small
                                                                 : few.bf16;
    // Of few rows only such matrices stand together as gemm_decode takes, or as it does not take.
    const bool alike = &together != &few.bf16 || together.parts == 0 || takes_decode(product) == takes_decode(together);
    const bool fits = gates || fp8_rows || (alike && !large_->takes(product, workspace_) && gemm_bf16_takes(product));
    if (fits && together.parts < kPartsMax) {
      add_part(together, product);
    } else {
      multiply(product);
    }
  }
  multiply_together(few);
  if (!quantized.empty()) multiply_quantized(quantized);
}

void OpsCuda::linear_partial(const ActRows& x, const LinearWeight& weight, const Tensor& partials) {
  Product product = product_of(x, weight);
  check_act(partials);
  HYLAS_CHECK(partials.rank == 3 && partials.dim(1) == product.rows && partials.dim(2) == product.outputs &&
                  weight.weight.dim(1) == product.inputs,
              "partials [{}, {}, {}] for x [{}, ..], weight [{}, ..]", partials.dim(0), partials.dim(1),
              partials.dim(2), product.rows, product.outputs);
  HYLAS_CHECK(partials.dtype == DType::kF32 || (partials.dim(0) == 1 && takes_fp8(product)),
              "partials of type bf16 in {} slices", partials.dim(0));
  check_form(x, product);
  product.out = {partials.data, partials.dtype, partials.dim(2)};
  product.slice_stride = partials.row_stride;
  set_slices(product, static_cast<int>(partials.dim(0)));
  multiply(product);
}

// Rows [begin, ...) whose values have been made.
void OpsCuda::quantize(const ActRows& rows, int64_t begin) {
  Fp8Rows to = fp8_view(rows);
  View x = view(rows.values);
  if (!to.data || begin == to.rows) return;
  x.data = static_cast<uint16_t*>(x.data) + begin * x.stride;
  to.data = static_cast<std::byte*>(to.data) + begin * to.inputs;
  to.scale += begin;
  to.rows -= begin;
  quantize_rows(x, nullptr, to, stream());
}

// Few rows: both products and silu in one launch.
void OpsCuda::linear_silu_mul(const ActRows& x, const LinearWeight& gate, const LinearWeight& up, const ActRows& out,
                              const Tensor& scratch) {
  Product product = product_of(x, gate);
  check_weight(up);
  const Tensor& values = out.values;
  HYLAS_CHECK(values.dtype == x.values.dtype && values.dim(0) == product.rows && gate.weight.dim(1) == product.inputs &&
                  up.weight.dim(1) == product.inputs && product.outputs == values.dim(1) &&
                  up.weight.dim(0) == values.dim(1),
              "out [{}, {}] for x [{}, {}]", values.dim(0), values.dim(1), product.rows, product.inputs);
  product.out = view(values);
  workspace_.reset();
  const bool many = takes_fp8(product) || large_->takes(product, workspace_);
  product.paired = true;
  product.other = view(up);
  const bool fp8_rows = takes_fp8_rows(product), one_type = gate.weight.dtype == up.weight.dtype;
  if (!one_type || many || !(fp8_rows || gemm_bf16_takes(product))) {
    return Ops::linear_silu_mul(x, gate, up, out, scratch);
  }
  check_form(x, product);
  if (fp8_rows) {
    gemm_fp8_rows(product, {}, stream());
  } else {
    takes_decode(product) ? decode_.run(product, stream()) : gemm_bf16(product, stream());
  }
  quantize(out, 0);
}

}  // namespace hylas::cuda
