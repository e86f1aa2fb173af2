#include "ops/cuda/ops_cuda.h"

#include <cstdlib>
#include <vector>

#include "ops/cuda/fp8_gemm.h"
#include "ops/cuda/gemm_fp8_rows.h"
#include "ops/cuda/norm.h"
#include "ops/cuda/route.h"
#include "ops/cuda/rows.h"

namespace hylas::cuda {

Result<std::unique_ptr<Ops>> OpsCuda::make(const CudaOpsOptions& options) {
  HYLAS_ASSIGN(std::unique_ptr<CudaDevice> device, CudaDevice::make(options.device));
  std::unique_ptr<OpsCuda> ops(new OpsCuda(std::move(device), options));
  HYLAS_ASSIGN(ops->memory_, Buffer::make(*ops->device_, options.workspace_bytes));
  ops->workspace_ = Workspace(ops->memory_.data(), ops->memory_.bytes());
  HYLAS_ASSIGN(ops->moe_, Moe::make(*ops->device_, ops->fork_, options.fp8));
  HYLAS_ASSIGN(ops->large_, LargeGemm::make());
  return std::unique_ptr<Ops>(std::move(ops));
}

void OpsCuda::embed(const Tensor& ids, const Tensor& table, int32_t vocab_begin, const Tensor& out) {
  check_act(table);
  check_act(out);
  HYLAS_CHECK(table.row_elements() == out.row_elements() && ids.dim(0) >= out.dim(0), "rows of {} values into {}",
              table.row_elements(), out.row_elements());
  take_rows(view(table), table.dim(0), ids.as<int32_t>(), vocab_begin, out.dim(0), out.row_elements(), view(out),
            stream());
}

void OpsCuda::gather_rows(const Tensor& x, const Tensor& index, const Tensor& out) {
  HYLAS_CHECK(x.dtype == out.dtype && x.row_elements() == out.row_elements() && index.dim(0) >= out.dim(0),
              "rows of {} values into {}", x.row_elements(), out.row_elements());
  take_rows(view(x), x.dim(0), index.as<int32_t>(), 0, out.dim(0), out.row_elements(), view(out), stream());
}

void OpsCuda::convert(const Tensor& x, const Tensor& out) {
  check_act(x);
  check_act(out);
  HYLAS_CHECK(x.dim(0) == out.dim(0) && x.row_elements() == out.row_elements(), "[{}, {}] into [{}, {}]", x.dim(0),
              x.row_elements(), out.dim(0), out.row_elements());
  copy_columns(view(x), x.dim(0), x.row_elements(), view(out), stream());
}

void OpsCuda::concat_columns(const Tensor& a, const Tensor& b, const Tensor& out) {
  const int64_t left = a.dim(1), right = b.dim(1);
  HYLAS_CHECK(out.dim(1) == left + right && a.dim(0) == b.dim(0), "[{} | {}] into {}", left, right, out.dim(1));
  copy_columns(view(a), a.dim(0), left, view(out.columns(0, left)), stream());
  copy_columns(view(b), b.dim(0), right, view(out.columns(left, right)), stream());
}

void OpsCuda::rms_norm(const Tensor& x, const Tensor& weight, float eps, const Tensor& out) {
  check_act(x);
  HYLAS_CHECK(out.dtype == x.dtype && weight.dim(0) == x.row_elements() && out.row_elements() == x.row_elements(),
              "a norm of {} values with {} weights", x.row_elements(), weight.dim(0));
  add_rms_norm_rows({.residual = view(x),
                     .weight = weight.data,
                     .weight_dtype = weight.dtype,
                     .eps = eps,
                     .out = view(out),
                     .rows = x.dim(0),
                     .columns = x.row_elements()},
                    stream());
}

void OpsCuda::add_rms_norm(const Tensor& partials, const Tensor& residual, const Tensor& weight, float eps,
                           const Tensor& out) {
  check_act(residual);
  const auto slices = static_cast<int>(partials.dim(0));
  HYLAS_CHECK(slices == 1 || slices == 2 || slices == 4, "a tree of {} partial sums", slices);
  HYLAS_CHECK(partials.dim(1) == residual.dim(0) && partials.dim(2) == residual.dim(1) &&
                  (!out || (out.dtype == residual.dtype && weight.dim(0) == residual.dim(1))),
              "partial sums [{}, {}] for a residual [{}, {}]", partials.dim(1), partials.dim(2), residual.dim(0),
              residual.dim(1));
  add_rms_norm_rows({.partials = partials.as<float>(),
                     .slices = slices,
                     .slice_stride = partials.row_stride,
                     .residual = view(residual),
                     .weight = weight.data,
                     .weight_dtype = weight.dtype,
                     .eps = eps,
                     .out = out ? view(out) : View(),
                     .rows = residual.dim(0),
                     .columns = residual.dim(1)},
                    stream());
}

void OpsCuda::add_rms_norm_over(const PeerPartials& partials, const Tensor& residual, const Tensor& weight, float eps,
                                const Tensor& out) {
  check_act(residual);
  HYLAS_CHECK(!out || (out.dtype == residual.dtype && weight.dim(0) == residual.dim(1)), "a norm of {} values",
              residual.dim(1));
  const int32_t ranks = partials.peers.size;
  HYLAS_CHECK(ranks == 2 || ranks == 4 || ranks == 8, "partial sums of {} ranks", ranks);
  add_rms_norm_rows({.partials = partials.partials[partials.peers.rank],
                     .slices = partials.slices,
                     .slice_stride = partials.slice_stride,
                     .peers = &partials,
                     .residual = view(residual),
                     .weight = weight.data,
                     .weight_dtype = weight.dtype,
                     .eps = eps,
                     .out = out ? view(out) : View(),
                     .rows = residual.dim(0),
                     .columns = residual.dim(1)},
                    stream());
}

void OpsCuda::gated_rms_norm(const Tensor& x, const Tensor& z, const Tensor& weight, float eps, const Tensor& out) {
  check_act(x);
  const int64_t dim = weight.dim(0);
  HYLAS_CHECK(
      z.dtype == x.dtype && out.dtype == x.dtype && z.row_elements() == x.row_elements() && x.row_elements() % dim == 0,
      "a gate of {} for {}", z.row_elements(), x.row_elements());
  gated_rms_norm_rows(view(x), view(z), weight.data, weight.dtype, eps, view(out), x.dim(0),
                      static_cast<int>(x.row_elements() / dim), static_cast<int>(dim), stream());
}

// Whether the FP8 tensor cores can and should do it, and the workspace holds what it needs.
bool OpsCuda::takes_fp8(const Product& p) const {
  if (!fp8_.linear || p.rows < fp8_.rows_min || !fp8_takes(p)) return false;
  const size_t out_bytes = Workspace::padded(static_cast<size_t>(p.rows * p.outputs) * 2);
  return fp8_rows_bytes(p.rows, p.inputs) + out_bytes <= memory_.bytes();
}

// Fewer rows: their own kernel quantizes them on the way.
bool OpsCuda::takes_fp8_rows(const Product& p) const {
  return fp8_.linear && p.rows < fp8_.rows_min && gemm_fp8_rows_takes(p);
}

void OpsCuda::multiply(const Product& product) {
  workspace_.reset();
  if (takes_fp8(product)) return fp8_run(product, nullptr, workspace_, stream());
  if (takes_fp8_rows(product)) return fp8_run_few(product, stream());
  if (large_->takes(product, workspace_)) return large_->run(product, workspace_, stream());
  cuda::multiply(product, stream());
}

// The matrices of one type in one launch; small bf16 ones beside those of FP8, so that the next kernel has one to
// follow.
void OpsCuda::multiply_together(const Together& together) {
  const bool beside = together.fp8_rows.parts > 0 && together.bf16.parts > 0 && gemm_small_takes(together.bf16);
  if (together.fp8_rows.parts > 0) gemm_fp8_rows(together.fp8_rows, beside ? together.bf16 : Product(), stream());
  if (together.bf16.parts > 0 && !beside) gemm_bf16(together.bf16, stream());
  if (together.fp8.parts > 0) gemm_bf16(together.fp8, stream());
}

void OpsCuda::linear(const Tensor& x, std::span<const LinearWeight> weights, std::span<const Tensor> outs) {
  check_act(x);
  HYLAS_CHECK(weights.size() == outs.size(), "{} weights, {} outs", weights.size(), outs.size());
  Together few;
  std::vector<Product> quantized;  // that share their quantized rows
  for (size_t i = 0; i < weights.size(); ++i) {
    check_weight(weights[i]);
    check_act(outs[i]);
    HYLAS_CHECK(outs[i].dim(0) == x.dim(0) && outs[i].dim(1) == weights[i].weight.dim(0) &&
                    weights[i].weight.dim(1) == x.dim(1),
                "out [{}, {}] for x [{}, {}], weight [{}, {}]", outs[i].dim(0), outs[i].dim(1), x.dim(0), x.dim(1),
                weights[i].weight.dim(0), weights[i].weight.dim(1));
    Product product;
    product.x = view(x);
    product.weight_dtype = weights[i].weight.dtype;
    product.weight = view(weights[i]);
    product.rows = x.dim(0);
    product.inputs = x.dim(1);
    product.outputs = outs[i].dim(1);
    product.out = view(outs[i]);
    set_slices(product, 1);
    workspace_.reset();
    if (takes_fp8(product)) {
      quantized.push_back(product);
      continue;
    }
    const bool fp8_rows = takes_fp8_rows(product);
    Product& together = fp8_rows ? few.fp8_rows : product.weight_dtype == DType::kF8E4M3 ? few.fp8 : few.bf16;
    const bool fits = fp8_rows || (!large_->takes(product, workspace_) && gemm_bf16_takes(product));
    if (fits && together.parts < kPartsMax) {
      add_part(together, product);
    } else {
      multiply(product);
    }
  }
  multiply_together(few);
  if (quantized.empty()) return;
  workspace_.reset();
  const Fp8Rows rows = take_fp8_rows(workspace_, x.dim(0), x.dim(1));
  quantize_rows(view(x), nullptr, rows, stream());
  for (const Product& product : quantized) {
    Workspace room = workspace_;  // each may use all that is left
    fp8_run(product, &rows, room, stream());
  }
}

void OpsCuda::linear_partial(const Tensor& x, const LinearWeight& weight, const Tensor& partials) {
  check_act(x);
  check_weight(weight);
  HYLAS_CHECK(partials.rank == 3 && partials.dtype == DType::kF32 && partials.dim(1) == x.dim(0) &&
                  partials.dim(2) == weight.weight.dim(0) && weight.weight.dim(1) == x.dim(1),
              "partials [{}, {}, {}] for x [{}, ..], weight [{}, ..]", partials.dim(0), partials.dim(1),
              partials.dim(2), x.dim(0), weight.weight.dim(0));
  Product product;
  product.x = view(x);
  product.weight_dtype = weight.weight.dtype;
  product.weight = view(weight);
  product.rows = x.dim(0);
  product.inputs = x.dim(1);
  product.outputs = partials.dim(2);
  product.out = {partials.data, DType::kF32, partials.dim(2)};
  product.slice_stride = partials.row_stride;
  set_slices(product, static_cast<int>(partials.dim(0)));
  multiply(product);
}

void OpsCuda::silu_mul(const Tensor& gate, const Tensor& up, const Tensor& out) {
  check_act(gate);
  HYLAS_CHECK(up.dtype == gate.dtype && out.dtype == gate.dtype && up.row_elements() == gate.row_elements(),
              "a gate of {} values for {}", gate.row_elements(), up.row_elements());
  silu_mul_rows(view(gate), view(up), view(out), gate.dim(0), gate.row_elements(), stream());
}

// Few rows: both products and silu in one launch.
void OpsCuda::linear_silu_mul(const Tensor& x, const LinearWeight& gate, const LinearWeight& up, const Tensor& out,
                              const Tensor& scratch) {
  check_act(x);
  check_weight(gate);
  check_weight(up);
  HYLAS_CHECK(out.dtype == x.dtype && out.dim(0) == x.dim(0) && gate.weight.dim(1) == x.dim(1) &&
                  up.weight.dim(1) == x.dim(1) && gate.weight.dim(0) == out.dim(1) && up.weight.dim(0) == out.dim(1),
              "out [{}, {}] for x [{}, {}]", out.dim(0), out.dim(1), x.dim(0), x.dim(1));
  Product product;
  product.x = view(x);
  product.weight_dtype = gate.weight.dtype;
  product.weight = view(gate);
  product.rows = x.dim(0);
  product.inputs = x.dim(1);
  product.outputs = out.dim(1);
  product.out = view(out);
  set_slices(product, 1);
  workspace_.reset();
  const bool many = takes_fp8(product) || large_->takes(product, workspace_);
  product.paired = true;
  product.other = view(up);
  const bool one_type = gate.weight.dtype == up.weight.dtype;
  if (one_type && !many && takes_fp8_rows(product)) return gemm_fp8_rows(product, {}, stream());
  if (one_type && !many && gemm_bf16_takes(product)) return gemm_bf16(product, stream());
  Ops::linear_silu_mul(x, gate, up, out, scratch);
}

void OpsCuda::moe_route(const Tensor& logits, const Tensor& ids, const Tensor& weights) {
  const int64_t experts = logits.dim(1), k = ids.dim(1);
  HYLAS_CHECK(k <= experts && weights.dim(1) == k && experts <= kExpertsMax, "{} of {} experts", k, experts);
  route_rows(view(logits), view(ids), view(weights), logits.dim(0), static_cast<int>(experts), static_cast<int>(k),
             stream());
}

void OpsCuda::moe(const Tensor& x, const Tensor& ids, const Tensor& weights, const ExpertWeights& experts,
                  const SharedExpertWeights* shared, const Tensor& shared_logit, const Tensor& partials) {
  moe_->moe(workspace_, x, ids, weights, experts, shared, shared_logit, partials);
}

DType OpsCuda::expert_rows_type(const Tensor& x, const Tensor& ids, const ExpertWeights& experts, int32_t slices) {
  return moe_->rows_type(workspace_, x, ids, experts, slices);
}

void OpsCuda::moe_expert_rows(const Tensor& x, const Tensor& ids, const ExpertWeights& experts, const Tensor& rows,
                              const SharedRows& shared) {
  moe_->expert_rows(workspace_, x, ids, experts, rows, shared);
}

void OpsCuda::moe_combine(const Tensor& rows, const Tensor& index, const Tensor& weights, const Tensor& x,
                          const SharedExpertWeights* shared, const Tensor& shared_logit, const Tensor& partials) {
  moe_->combine(workspace_, rows, index, weights, x, shared, shared_logit, partials);
}

void OpsCuda::sample(const Tensor& logits, int32_t vocab_tokens, std::span<const SampleRow> rows,
                     std::span<SampleResult> results) {
  sampler_.sample(workspace_, logits, vocab_tokens, rows, results);
}

void OpsCuda::sample_ahead(const Tensor& logits, int32_t vocab_tokens, std::span<const SampleRow> rows,
                           std::span<const int32_t> slots, const Tensor& last_tokens, const Tensor& drawn) {
  sampler_.sample_ahead(workspace_, logits, vocab_tokens, rows, slots, last_tokens, drawn);
}

void OpsCuda::feed(const Tensor& ids, const Tensor& last_tokens) {
  feed_tokens(ids.as<int32_t>(), ids.dim(0), last_tokens.as<int32_t>(), stream());
}

void OpsCuda::logprobs(const Tensor& logits, std::span<const int32_t> targets, int32_t top,
                       std::span<SampleResult> results) {
  sampler_.logprobs(workspace_, logits, targets, top, results);
}

}  // namespace hylas::cuda

namespace hylas {

Result<std::unique_ptr<Ops>> make_cuda_ops(const CudaOpsOptions& options) { return cuda::OpsCuda::make(options); }

void cuda_load_all_kernels() { setenv("CUDA_MODULE_LOADING", "EAGER", 0); }

int cuda_device_count() {
  int count = 0;
  if (cudaGetDeviceCount(&count) == cudaSuccess) return count;
  cudaGetLastError();  // it says why in the next call, where a GPU is asked for
  return 0;
}

}  // namespace hylas
