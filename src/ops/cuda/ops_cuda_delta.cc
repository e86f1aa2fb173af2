// OpsCuda: a delta layer whose rule leaves most of the GPU idle. FlashInfer's kernel has a block for each row and head,
// so a prompt alone takes a quarter of the multiprocessors for as long as all products of the layer take: the product
// for z runs beside it, and of a prompt alone, in parts, the next parts' convolution and the norm and the last product
// of the part before.
#include "ops/cuda/conv.h"
#include "ops/cuda/delta_flashinfer.h"
#include "ops/cuda/fp8_gemm.h"
#include "ops/cuda/ops_cuda.h"
#include "ops/prefill_parts.h"

namespace hylas::cuda {
namespace {

constexpr size_t kSideBytes = size_t{40} << 20;  // of the workspace, for what runs beside: what cuBLASLt asks for

static_assert(kPartRowsMin >= kLargeRows, "a part's products are the whole's");

Tensor rows_of(const Tensor& partials, int64_t begin, int64_t rows) {
  Tensor part = partials;
  part.data = static_cast<std::byte*>(partials.data) + begin * partials.dim(2) * dtype_bytes(partials.dtype);
  part.shape[1] = rows;
  return part;
}

// As linear_partial() makes it.
Product last_product(const ActRows& out, const LinearWeight& last, const Tensor& partials) {
  Product product = product_of(out, last);
  product.out = {partials.data, partials.dtype, partials.dim(2)};
  product.slice_stride = partials.row_stride;
  set_slices(product, static_cast<int>(partials.dim(0)));
  return product;
}

}  // namespace

// Products of many rows that need no more of the workspace than there is for the side.
bool OpsCuda::runs_beside(const Product& product) const {
  if (takes_fp8(product)) return fp8_run_bytes(product) <= kSideBytes;
  return large_->takes(product, Workspace(nullptr, kSideBytes));
}

void OpsCuda::on_side(Stream side, Workspace memory, const std::function<void()>& body) {
  std::swap(workspace_, memory);
  side_ = side;
  body();
  side_ = nullptr;
  std::swap(workspace_, memory);
}

void OpsCuda::delta_layer(const ActRows& x, const DeltaInputs& inputs, const DeltaWeights& weights,
                          const DeltaShape& shape, const Tensor& conv_pool, const Tensor& delta_pool,
                          const Batch& batch, const DeltaRows& rows, const LinearWeight& last, const Tensor& partials,
                          const NormBehind* behind) {
  const DeltaMixerArgs args = mixer_args(rows, weights, shape, conv_pool, delta_pool, batch);
  const PrefillParts parts =
      prefill_parts(batch.tokens, batch.rows, batch.decode_rows, shape.value_heads, device_->multiprocessors());
  bool beside = parts.beside && prefill_.delta && memory_.bytes() >= 4 * kSideBytes &&
                delta_flashinfer_takes(args.delta) && conv_normalises(args.conv);
  if (beside) {
    Product z = product_of(x, inputs.z);
    z.out = view(rows.z);
    beside = runs_beside(z) && (parts.count == 1 || runs_beside(last_product(rows.out, last, partials)));
  }
  workspace_.reset();
  Workspace memory = beside ? Workspace(workspace_.take<std::byte>(kSideBytes), kSideBytes) : Workspace();
  Workspace left = workspace_;
  const auto rule = beside ? DeltaParts::make(args.delta, parts, left) : std::nullopt;
  if (!rule) {
    return Ops::delta_layer(x, inputs, weights, shape, conv_pool, delta_pool, batch, rows, last, partials, behind);
  }
  const LinearWeight first[] = {inputs.qkv, inputs.a, inputs.b};
  const Tensor outs[] = {rows.u, rows.a, rows.b};
  linear(x, first, outs);
  const int64_t tokens = batch.tokens, heads = shape.value_heads;
  const auto finish = [&](int part) {
    const int64_t begin = parts.rows[part], count = parts.rows[part + 1] - begin;
    const ActRows out = rows.out.rows(begin, count);
    const ActRows heads_out = out.reshaped({count, heads, shape.value_dim});
    gated_rms_norm(heads_out.values, rows.z.rows(begin, count), weights.norm, weights.eps, heads_out);
    const Tensor sums = rows_of(partials, begin, count);
    linear_partial(out, last, sums);
    if (!behind) return;
    add_rms_norm(sums, behind->hidden.rows(begin, count), behind->weight, behind->eps,
                 behind->out.values ? behind->out.rows(begin, count) : ActRows());
  };
  const Stream main = stream();
  side_blocks_ = parts.free;
  ConvArgs conv = args.conv;
  conv.normalised = 2 * shape.key_heads;
  conv.tiles = parts.count > 1 ? batch.decode_rows + parts.cut[1] / kConvTile : 0;
  conv_rows(conv, main);
  delta_decode(args.delta, main);
  rule->begin(main);
  // The rule is launched first and its blocks find room; the side's kernels take what they leave.
  for (int part = 0; part < parts.count; ++part) {
    const Stream side = fork_.begin(main);
    rule->run(part, main);
    if (part > 0) {
      on_side(side, memory, [&] { finish(part - 1); });
      continue;
    }
    if (parts.count > 1) {  // the next part waits for the rest of the convolution, not for z
      conv.first_tile = conv.tiles;
      conv.tiles = 0;
      conv_rows(conv, side);
      fork_.end(main);
    }
    on_side(side, memory, [&] {
      const LinearWeight gate[] = {inputs.z};
      const Tensor to[] = {rows.z.reshaped({tokens, heads * shape.value_dim})};
      linear(x, gate, to);
    });
  }
  rule->end(main);
  fork_.end(main);
  finish(parts.count - 1);
}

}  // namespace hylas::cuda
