#include <array>

#include "ops/cpu/other_kernels.h"
#include "ops/cpu/other_ops.h"
#include "ops/cpu/views.h"

namespace hylas::cpu {
namespace {

NormArgs norm_args(const Tensor& x, const Tensor& weight, float eps, const Tensor& out) {
  HYLAS_CHECK(!out || out.dtype == x.dtype, "a norm keeps the element type");
  return {.x = rows_of(x),
          .out = rows_of(out),
          .weight = weight.data,
          .weight_dtype = weight.dtype,
          .width = weight.dim(0),
          .heads = x.row_elements() / weight.dim(0),
          .eps = eps};
}

}  // namespace

void rms_norm(ThreadPool& pool, Scratch& scratch, const Tensor& x, const Tensor& weight, float eps, const Tensor& out) {
  HYLAS_CHECK(x.row_elements() == weight.dim(0), "a norm of {} over {}", weight.dim(0), x.row_elements());
  NormArgs args = norm_args(x, weight, eps, out);
  pool.parallel_for(x.dim(0), rows_at_least(args.width),
                    [&](int64_t begin, int64_t end, int) { scratch.kernels->rms_norm(args, begin, end); });
}

void add_rms_norm(ThreadPool& pool, Scratch& scratch, const Tensor& partials, const Tensor& residual,
                  const Tensor& weight, float eps, const Tensor& out) {
  // Without `out` only the sum is wanted, and there may be no weight either.
  NormArgs args = norm_args(residual, out ? weight : Tensor(nullptr, weight.dtype, {residual.dim(1)}), eps, out);
  args.slices = static_cast<int>(partials.dim(0));
  args.partial_stride = partials.dim(2);
  HYLAS_CHECK(args.slices == 1 || args.slices == 2 || args.slices == 4, "a tree of {} partial sums", args.slices);
  HYLAS_CHECK(partials.dim(1) == residual.dim(0) && partials.dim(2) == residual.dim(1) && residual.dim(1) == args.width,
              "partial sums [{}, {}] for a residual [{}, {}]", partials.dim(1), partials.dim(2), residual.dim(0),
              residual.dim(1));
  for (int s = 0; s < args.slices; ++s) args.partials[s] = partials.row<float>(s);
  pool.parallel_for(residual.dim(0), rows_at_least(args.width),
                    [&](int64_t begin, int64_t end, int) { scratch.kernels->add_rms_norm(args, begin, end); });
}

void gated_rms_norm(ThreadPool& pool, Scratch& scratch, const Tensor& x, const Tensor& z, const Tensor& weight,
                    float eps, const Tensor& out) {
  NormArgs args = norm_args(x, weight, eps, out);
  args.z = rows_of(z);
  HYLAS_CHECK(z.dtype == x.dtype && z.row_elements() == x.row_elements(), "a gate of {} for {}", z.row_elements(),
              x.row_elements());
  pool.parallel_for(x.dim(0), rows_at_least(x.row_elements()),
                    [&](int64_t begin, int64_t end, int) { scratch.kernels->gated_rms_norm(args, begin, end); });
}

}  // namespace hylas::cpu
