// Ops::moe on the FP8 tensor cores: rows quantized and laid by expert from whole tiles on, gate and up
// in one grouped product, silu and product quantized in one pass, down products in bf16, summed in f32.
#include <algorithm>

#include "ops/cuda/fp8_gemm.h"
#include "ops/cuda/gemm_fp8_few.h"
#include "ops/cuda/moe.h"
#include "ops/cuda/moe_kernels.h"

namespace hylas::cuda {
namespace {

bool fits(const LinearWeight& weight) {
  return weight.weight.dtype == DType::kF8E4M3 && weight.weight.dim(0) % kFp8Block == 0 &&
         weight.weight.dim(1) % kFp8Block == 0 && weight.weight.row_stride % 16 == 0 &&
         reinterpret_cast<uintptr_t>(weight.weight.data) % 16 == 0 &&
         weight.scale.row_stride == weight.weight.dim(1) / kFp8Block;
}

// Whether gate and up can be taken in one box of the copy engine, however they lie (few_weights).
bool fits_few(const SharedExpertWeights& shared) {
  const Tensor &gate = shared.gate.weight, &up = shared.up.weight;
  return fits(shared.gate) && fits(shared.up) && fits(shared.down) && gate.dim(0) == up.dim(0) &&
         gate.row_stride == up.row_stride && gate.data != up.data &&
         shared.gate.scale.row_stride == shared.up.scale.row_stride;
}

// `shared`: what lies beside them in the workspace, or null.
Fp8Experts shape_of(const ExpertWeights& experts, int64_t choices, int64_t hidden, const SharedExpertWeights* shared) {
  return {.choices = choices,
          .experts = static_cast<int64_t>(experts.gate.size()),
          .hidden = hidden,
          .width = experts.gate[0].weight.dim(0),
          .shared_width = shared ? shared->gate.weight.dim(0) : 0,
          .experts_total = experts.experts_total};
}

}  // namespace

int64_t Moe::fp8_tokens(const Workspace& workspace, const Tensor& x, int64_t tokens, int64_t k,
                        const ExpertWeights& experts, const SharedExpertWeights* shared) {
  if (!fp8_.experts || x.dtype != DType::kBF16 || experts.gate.empty()) return 0;
  const auto count = static_cast<int64_t>(experts.gate.size());
  if (pairs_here(tokens, k, experts) < fp8_.expert_rows_min * count || !table(experts).together) return 0;
  if (x.row_stride % 8 != 0 || reinterpret_cast<uintptr_t>(x.data) % 16 != 0) return 0;
  if (shared && !(fits(shared->gate) && fits(shared->up) && fits(shared->down))) return 0;
  return fp8_experts_tokens(tokens, shape_of(experts, k, x.dim(1), shared), workspace.bytes_left());
}

int64_t Moe::fp8_sorted_rows(int64_t tokens, int64_t k, const ExpertWeights& experts) {
  const auto count = static_cast<int64_t>(experts.gate.size());
  const Fp8Tile tile = fp8_grouped_tile(pairs_here(tokens, k, experts), count);
  const int64_t rows = fp8_grouped_rows(tokens * k, count, tile.rows);
  return rows <= 2 * tokens * k ? rows : 0;
}

Moe::Rows Moe::fp8_routed(Workspace& workspace, const ActRows& x, const Tensor& ids, const ExpertWeights& experts,
                          const Tensor* out, const Tensor* index) {
  const ExpertTable& table = this->table(experts);
  const Stream stream = device_.stream();
  const auto count = static_cast<int64_t>(experts.gate.size());
  const int64_t tokens = x.values.dim(0), k = ids.dim(1), pairs = tokens * k, hidden = x.values.dim(1);
  const int64_t width = experts.gate[0].weight.dim(0);
  const int32_t blocks = fp8_blocks(device_.multiprocessors());
  const Fp8Tile tile = fp8_grouped_tile(pairs_here(tokens, k, experts), count, blocks);
  const int64_t rows = fp8_grouped_rows(pairs, count, tile.rows);
  const Fp8Rows ready = fp8_view(x);
  auto* row_expert = workspace.take<int32_t>(rows + 1);
  auto* pair_of = index ? index->as<int32_t>() : workspace.take<int32_t>(pairs);
  auto* row_token = ready.data ? workspace.take<int32_t>(rows) : nullptr;
  moe_sort_padded({.ids = view(ids),
                   .tokens = tokens,
                   .k = static_cast<int>(k),
                   .expert_begin = experts.expert_begin,
                   .experts = static_cast<int32_t>(count),
                   .run_rows = tile.rows,
                   .pair_token = row_token,
                   .pair_of = pair_of,
                   .counters = workspace.take<int32_t>(count)},
                  row_expert, rows, stream);
  const Fp8Rows halves = take_fp8_rows(workspace, rows, width);
  const size_t piece_bytes = fp8_experts_piece(rows, shape_of(experts, k, hidden, nullptr));
  auto* piece = workspace.take<std::byte>(static_cast<int64_t>(piece_bytes));
  Workspace inner(piece, piece_bytes);
  const Fp8Rows quantized = take_fp8_rows(inner, rows, hidden);
  const View gate_up = {inner.take<uint16_t>(rows * 2 * width), DType::kBF16, 2 * width};
  const View down = {out ? out->data : piece, DType::kBF16, hidden};
  const RowPlaces places = {pair_of, static_cast<int>(k), tokens};
  if (ready.data) {
    take_fp8(ready, row_expert, row_token, quantized, stream);
  } else {
    quantize_rows(view(x.values), &places, quantized, stream);
  }
  fp8_multiply_grouped(quantized, table.host[0], 2 * width, count, tile, row_expert, gate_up, stream);
  silu_mul_quantize_rows(gate_up, row_expert, halves, stream);
  fp8_multiply_grouped(halves, table.host[static_cast<size_t>(2 * count)], hidden, count, tile, row_expert, down,
                       stream);
  return {down, rows * hidden, pair_of};
}

FewWeights few_weights(const WeightView& first, const WeightView* up, int64_t count, int64_t outputs, int64_t inputs) {
  const auto place = [](const WeightView& weight) { return static_cast<const std::byte*>(weight.data); };
  const bool in_order = !up || place(first) < place(*up);
  const WeightView &low = in_order ? first : *up, &high = in_order && up ? *up : first;
  const int64_t matrices = up ? 2 : 1;
  FewWeights weights;
  weights.map = tensor_map(RowGroupsMap{.data = low.data,
                                        .matrices = matrices * count,
                                        .groups = outputs / 8,
                                        .columns = inputs,
                                        .matrix_stride = up ? place(high) - place(low) : outputs * low.stride,
                                        .stride = low.stride,
                                        .box_matrices = static_cast<int32_t>(matrices),
                                        .box_groups = static_cast<int32_t>(kFewTileRows / 8 / matrices)});
  weights.data = place(low);
  weights.other = place(high);
  weights.stride = low.stride;
  weights.expert_bytes = matrices * outputs * low.stride;
  weights.scale = low.scale;
  weights.other_scale = high.scale;
  weights.other_is_gated = in_order;
  weights.scale_stride = low.scale_stride;
  weights.expert_stride = matrices * (outputs / kFp8Block) * low.scale_stride;
  return weights;
}

std::optional<std::pair<WeightView, WeightView>> Moe::together(const ExpertWeights& experts) {
  const ExpertTable& table = this->table(experts);
  if (!fp8_.experts || !table.together) return {};
  return std::pair(table.host.front(), table.host[2 * experts.gate.size()]);
}

bool Moe::takes_few(const Tensor& x, int64_t choices, const ExpertWeights& experts) {
  const auto count = static_cast<int64_t>(experts.gate.size());
  const int64_t pairs = x.dim(0) * choices;
  return fp8_.experts && x.dtype == DType::kBF16 && pairs_here(x.dim(0), choices, experts) / count <= kFewRows &&
         table(experts).together && few_fp8_takes(x.dim(1), experts.gate[0].weight.dim(0), pairs) &&
         x.row_stride % 8 == 0 && reinterpret_cast<uintptr_t>(x.data) % 16 == 0;
}

// Whether the shared expert looks like the others to the products of few rows.
bool Moe::takes_as_expert(const SharedExpertWeights& shared, const ExpertWeights& experts) {
  return fits_few(shared) && shared.gate.weight.dim(0) == experts.gate[0].weight.dim(0) &&
         shared.gate.weight.dim(1) == experts.gate[0].weight.dim(1);
}

Moe::Rows Moe::fp8_few(Workspace& workspace, const ActRows& x, const Tensor& ids, const ExpertWeights& experts,
                       const SharedExpertWeights* shared, bool chosen, const Tensor* out, Stream stream) {
  const auto count = static_cast<int64_t>(experts.gate.size()), k = count > 0 ? ids.dim(1) : 0;
  const int64_t tokens = x.values.dim(0), hidden = x.values.dim(1);
  const int64_t width = (shared ? shared->gate : experts.gate[0]).weight.dim(0);
  const int64_t pairs = tokens * (k + (shared ? 1 : 0));
  const WeightView* views = count > 0 ? table(experts).host.data() : nullptr;
  FewFp8Args args;
  args.ids = view(ids);
  args.tokens = tokens;
  args.k = static_cast<int>(k);
  args.expert_begin = experts.expert_begin;
  args.experts = static_cast<int32_t>(count);
  args.with_shared = shared != nullptr;
  args.up.inputs = args.down.outputs = hidden;
  args.up.outputs = args.down.inputs = width;
  args.halves = {workspace.take<uint16_t>(pairs * width), DType::kBF16, width};
  args.out = {out ? out->data : workspace.take<float>(pairs * hidden), DType::kF32, hidden};
  // The shared expert alone may run beside the others.
  args.counters = static_cast<int32_t*>(memory_.data()) + (count > 0 ? 0 : kFewCounters);
  if (count > 0) {
    args.up.weights = few_weights(views[0], views + count, count, width, hidden);
    args.down.weights = few_weights(views[2 * count], nullptr, count, hidden, width);
  }
  if (shared) {
    const WeightView other = view(shared->up);
    args.up.shared = few_weights(view(shared->gate), &other, 1, width, hidden);
    args.down.shared = few_weights(view(shared->down), nullptr, 1, hidden, width);
  }
  if (chosen) {
    HYLAS_CHECK(x.has_values(), "{} tokens in e4m3 alone", tokens);
    chosen_fp8(args, view(x.values), stream);
  } else {
    args.x = ready_or_quantized(workspace, fp8_view(x), view(x.values), tokens, hidden, stream);
    few_fp8(args, fp8_blocks(device_.multiprocessors()), stream);
  }
  return {args.out, out ? out->row_stride : pairs * hidden, nullptr};
}

View Moe::choice_rows(Workspace& workspace, const Tensor& x, const Tensor& ids, const ExpertWeights& experts,
                      const SharedExpertWeights* shared) {
  const auto count = static_cast<int64_t>(experts.gate.size());
  if (!shared || count == 0 || experts.expert_begin != 0 || experts.experts_total > count) return {};
  if (!chosen_fp8_takes(x.dim(0), ids.dim(1))) return {};  // of more tokens two kernels were not slower
  workspace.reset();
  if (fp8_tokens(workspace, x, x.dim(0), ids.dim(1), experts, shared) > 0) return {};
  if (!takes_few(x, ids.dim(1), experts) || !takes_as_expert(*shared, experts)) return {};
  return fp8_few(workspace, x, ids, experts, shared, true, nullptr, device_.stream()).data;
}

Moe::Rows Moe::fp8_shared(Workspace& workspace, const ActRows& x, const SharedExpertWeights& experts, Stream stream) {
  const int64_t tokens = x.values.dim(0), hidden = x.values.dim(1), width = experts.gate.weight.dim(0);
  const Fp8Rows quantized = ready_or_quantized(workspace, fp8_view(x), view(x.values), tokens, hidden, stream);
  const Fp8Rows halves = take_fp8_rows(workspace, tokens, width);
  const View gate_up = {workspace.take<uint16_t>(tokens * 2 * width), DType::kBF16, 2 * width};
  const View up = {static_cast<uint16_t*>(gate_up.data) + width, DType::kBF16, 2 * width};
  const View down = {workspace.take<uint16_t>(tokens * hidden), DType::kBF16, hidden};
  const Fp8Room room = {fp8_blocks(device_.multiprocessors())};
  fp8_multiply(quantized, view(experts.gate), width, gate_up, stream, room);
  fp8_multiply(quantized, view(experts.up), width, up, stream, room);
  silu_mul_quantize_rows(gate_up, nullptr, halves, stream);
  fp8_multiply(halves, view(experts.down), hidden, down, stream, room);
  return {down, tokens * hidden, nullptr};
}

bool Moe::takes_fp8(const Tensor& x, const SharedExpertWeights& shared) const {
  return fp8_.experts && x.dtype == DType::kBF16 && x.row_stride % 8 == 0 &&
         reinterpret_cast<uintptr_t>(x.data) % 16 == 0 && fits(shared.gate) && fits(shared.up) && fits(shared.down);
}

Moe::SharedWay Moe::shared_way(int64_t tokens_total, int64_t choices) {
  // Where moe() goes over to products of whole tiles, with the models' 8 of 256 and 10 of 512 experts for a token.
  constexpr int64_t kManyTokens = 512;
  return {tokens_total >= kManyTokens, chosen_fp8_takes(tokens_total, choices)};
}

Moe::Rows Moe::fp8_shared_alone(Workspace& workspace, const ActRows& x, const SharedExpertWeights& shared,
                                const SharedWay& way, Stream stream, const Tensor* out) {
  const int64_t width = shared.gate.weight.dim(0);
  if (way.tiles || !fits_few(shared) || !few_fp8_takes(x.values.dim(1), width, 0)) {
    return fp8_shared(workspace, x, shared, stream);
  }
  return fp8_few(workspace, x, Tensor(), ExpertWeights(), &shared, way.chosen, out, stream);
}

}  // namespace hylas::cuda
