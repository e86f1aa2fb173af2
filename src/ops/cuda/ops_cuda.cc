#include "ops/cuda/ops_cuda.h"

#include <cstdlib>
#include <vector>

#include "ops/cuda/norm.h"
#include "ops/cuda/norm_experts.h"
#include "ops/cuda/route.h"
#include "ops/cuda/row_layers.h"
#include "ops/cuda/rows.h"

namespace hylas::cuda {
namespace {

// Scratch and counters of row_layers.
Result<Buffer> make_row_memory(CudaDevice& device) {
  const std::vector<std::byte> zeros(kRowLayersScratch + kRowLayersCounters);
  HYLAS_ASSIGN(Buffer memory, Buffer::make(device, zeros.size()));
  device.copy_from_host(memory.data(), zeros.data(), zeros.size());
  return memory;
}

}  // namespace

Result<std::unique_ptr<Ops>> OpsCuda::make(const CudaOpsOptions& options) {
  HYLAS_ASSIGN(std::unique_ptr<CudaDevice> device, CudaDevice::make(options.device, options.multiprocessors_max));
  std::unique_ptr<OpsCuda> ops(new OpsCuda(std::move(device), options));
  const size_t bytes = workspace_bytes_on(options, ops->device_->bytes_total());
  HYLAS_ASSIGN(ops->memory_, Buffer::make(*ops->device_, bytes));
  ops->workspace_ = Workspace(ops->memory_.data(), ops->memory_.bytes());
  ops->takes_row_layers_ = options.row_layers && options.fp8.linear && row_layers_fit(ops->device_->multiprocessors());
  if (ops->takes_row_layers_) {
    HYLAS_ASSIGN(ops->row_memory_, make_row_memory(*ops->device_));
  }
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

namespace {

// A norm over rows of `residual`; what is added before, and where from, is the caller's.
AddNormArgs norm_args(const Tensor& residual, const Tensor& weight, float eps, const ActRows& out) {
  check_act(residual);
  const Tensor& values = out.values;
  HYLAS_CHECK(!values || (values.dtype == residual.dtype && weight.dim(0) == residual.row_elements() &&
                          values.row_elements() == residual.row_elements()),
              "a norm of {} values with {} weights", residual.row_elements(), weight.dim(0));
  return {.residual = view(residual),
          .weight = weight.data,
          .weight_dtype = weight.dtype,
          .eps = eps,
          .out = values && out.has_values() ? view(values) : View(),
          .fp8 = fp8_view(out),
          .rows = residual.dim(0),
          .columns = residual.row_elements()};
}

AddNormArgs norm_args(const Tensor& partials, const Tensor& residual, const Tensor& weight, float eps,
                      const ActRows& out) {
  const auto slices = static_cast<int>(partials.dim(0));
  check_act(partials);
  HYLAS_CHECK(slices == 1 || slices == 2 || slices == 4, "a tree of {} partial sums", slices);
  HYLAS_CHECK(partials.dim(1) == residual.dim(0) && partials.dim(2) == residual.dim(1),
              "partial sums [{}, {}] for a residual [{}, {}]", partials.dim(1), partials.dim(2), residual.dim(0),
              residual.dim(1));
  AddNormArgs args = norm_args(residual, weight, eps, out);
  args.partials = partials.data;
  args.partial_dtype = partials.dtype;
  args.slices = slices;
  args.slice_stride = partials.row_stride;
  return args;
}

void check_norm(const AddNormArgs& args) {
  HYLAS_CHECK(!args.fp8.data || (args.residual.dtype == DType::kBF16 && add_rms_norm_is_wide(args)),
              "rows in e4m3 from rows of type {}", dtype_name(args.residual.dtype));
}

void run_norm(const AddNormArgs& args, Stream stream) {
  check_norm(args);
  add_rms_norm_rows(args, stream);
}

}  // namespace

void OpsCuda::rms_norm(const Tensor& x, const Tensor& weight, float eps, const ActRows& out) {
  run_norm(norm_args(x, weight, eps, out), stream());
}

void OpsCuda::add_rms_norm(const Tensor& partials, const Tensor& residual, const Tensor& weight, float eps,
                           const ActRows& out) {
  run_norm(norm_args(partials, residual, weight, eps, out), stream());
}

void OpsCuda::add_rms_norm_over(const PeerPartials& partials, const Tensor& residual, const Tensor& weight, float eps,
                                const ActRows& out) {
  const int32_t ranks = partials.peers.size;
  HYLAS_CHECK(ranks == 2 || ranks == 4 || ranks == 8, "partial sums of {} ranks", ranks);
  AddNormArgs args = norm_args(residual, weight, eps, out);
  args.partials = partials.partials[partials.peers.rank];
  args.slices = partials.slices;
  args.slice_stride = partials.slice_stride;
  args.peers = &partials;
  run_norm(args, stream());
}

void OpsCuda::gated_rms_norm(const Tensor& x, const Tensor& z, const Tensor& weight, float eps, const ActRows& out) {
  check_act(x);
  const int64_t dim = weight.dim(0);
  HYLAS_CHECK(z.dtype == x.dtype && out.values.dtype == x.dtype && z.row_elements() == x.row_elements() &&
                  x.row_elements() % dim == 0,
              "a gate of {} for {}", z.row_elements(), x.row_elements());
  const GatedNormArgs args = {.x = view(x),
                              .z = view(z),
                              .weight = weight.data,
                              .weight_dtype = weight.dtype,
                              .eps = eps,
                              .out = out.has_values() ? view(out.values) : View(),
                              .fp8 = fp8_view(out),
                              .rows = x.dim(0),
                              .heads = static_cast<int>(x.row_elements() / dim),
                              .dim = static_cast<int>(dim)};
  HYLAS_CHECK(!args.fp8.data || gated_rms_norm_is_wide(args), "rows in e4m3 from heads of {} {}", dim,
              dtype_name(x.dtype));
  gated_rms_norm_rows(args, stream());
}

void OpsCuda::silu_mul(const Tensor& gate, const Tensor& up, const ActRows& out) {
  check_act(gate);
  HYLAS_CHECK(up.dtype == gate.dtype && out.values.dtype == gate.dtype && up.row_elements() == gate.row_elements(),
              "a gate of {} values for {}", gate.row_elements(), up.row_elements());
  const SiluMulArgs args = {.gate = view(gate),
                            .up = view(up),
                            .out = out.has_values() ? view(out.values) : View(),
                            .fp8 = fp8_view(out),
                            .rows = gate.dim(0),
                            .columns = gate.row_elements()};
  HYLAS_CHECK(!args.fp8.data || (gate.dtype == DType::kBF16 && silu_mul_is_wide(args)), "rows in e4m3 from rows of {}",
              dtype_name(gate.dtype));
  silu_mul_rows(args, stream());
}

void OpsCuda::moe_route(const Tensor& logits, const Tensor& ids, const Tensor& weights) {
  const int64_t experts = logits.dim(1), k = ids.dim(1);
  HYLAS_CHECK(k <= experts && weights.dim(1) == k && experts <= kExpertsMax, "{} of {} experts", k, experts);
  route_rows(view(logits), view(ids), view(weights), logits.dim(0), static_cast<int>(experts), static_cast<int>(k),
             stream());
}

void OpsCuda::moe(const ActRows& x, const Tensor& ids, const Tensor& weights, const ExpertWeights& experts,
                  const SharedExpertWeights* shared, const Tensor& shared_logit, const Tensor& partials) {
  moe_->moe(workspace_, x, ids, weights, experts, shared, shared_logit, partials, nullptr);
}

void OpsCuda::moe_add_rms_norm(const ActRows& x, const Tensor& ids, const Tensor& weights, const ExpertWeights& experts,
                               const SharedExpertWeights* shared, const Tensor& shared_logit, const Tensor& partials,
                               const Tensor& residual, const Tensor& norm, float eps, const ActRows& out) {
  const AddNormArgs behind = norm_args(partials, residual, norm, eps, out);
  check_norm(behind);
  AddExpertsArgs args = {.weights = view(weights),
                         .k = static_cast<int>(ids.dim(1)),
                         .shared_logit = view(shared_logit),
                         .behind = behind};
  if (partials.dim(0) == 1 && add_experts_takes(args)) {
    args.rows = static_cast<const float*>(moe_->choice_rows(workspace_, x.values, ids, experts, shared).data);
    if (args.rows) return add_experts_rms_norm(args, stream());
  }
  moe_->moe(workspace_, x, ids, weights, experts, shared, shared_logit, partials, &behind);
}

ExpertRowForms OpsCuda::expert_row_forms(const Tensor& x, const Tensor& ids, const ExpertWeights& experts,
                                         int32_t slices) {
  return moe_->row_forms(workspace_, x, ids.dim(1), experts, slices);
}

void OpsCuda::moe_expert_rows(const ActRows& x, const Tensor& ids, const ExpertWeights& experts, const Tensor& rows,
                              const SharedRows& shared) {
  moe_->expert_rows(workspace_, x, ids, experts, rows, Tensor(), shared);
}

void OpsCuda::moe_sorted_expert_rows(const ActRows& x, const Tensor& ids, const ExpertWeights& experts,
                                     const Tensor& rows, const Tensor& index, const SharedRows& shared) {
  moe_->expert_rows(workspace_, x, ids, experts, rows, index, shared);
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
