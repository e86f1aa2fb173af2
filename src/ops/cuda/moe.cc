#include "ops/cuda/moe.h"

#include <algorithm>
#include <cstring>

#include "ops/cuda/gemm_fp8_few.h"
#include "ops/cuda/norm_experts.h"
#include "ops/cuda/route.h"
#include "ops/cuda/rows.h"

namespace hylas::cuda {
namespace {

// Tables of all layers: 96 bytes per expert and layer.
constexpr size_t kTableBytes = size_t{16} << 20;

bool takes(const WeightView& weight, DType dtype) {
  const int64_t unit = 16 / dtype_bytes(dtype);
  return dtype != DType::kF32 && reinterpret_cast<uintptr_t>(weight.data) % 16 == 0 && weight.stride % unit == 0;
}

void check_experts(const ExpertWeights& experts) {
  HYLAS_CHECK(experts.gate.size() == experts.up.size() && experts.gate.size() == experts.down.size() &&
                  experts.gate.size() <= static_cast<size_t>(kExpertsMax),
              "{} gate, {} up, {} down experts", experts.gate.size(), experts.up.size(), experts.down.size());
}

// Whether matrix i lies i * `rows` * stride elements behind `first`, and its scale as much.
bool is_behind(const WeightView& first, const WeightView& one, int64_t i, int64_t rows, int64_t inputs) {
  return first.stride == inputs && one.stride == inputs && first.scale && first.scale_stride == inputs / kFp8Block &&
         one.scale_stride == first.scale_stride &&
         one.data == static_cast<const std::byte*>(first.data) + i * rows * inputs &&
         one.scale == first.scale + i * (rows / kFp8Block) * first.scale_stride;
}

// ExpertTable::together, of `views` in the table's order.
bool are_together(const ExpertWeights& experts, const std::vector<WeightView>& views) {
  if (experts.gate.empty() || experts.gate[0].weight.dtype != DType::kF8E4M3) return false;
  const int64_t width = experts.gate[0].weight.dim(0), hidden = experts.gate[0].weight.dim(1);
  if (width % kFp8Block != 0 || hidden % kFp8Block != 0) return false;
  const auto count = static_cast<int64_t>(experts.gate.size());
  for (int64_t e = 0; e < count; ++e) {
    const WeightView &gate = views[static_cast<size_t>(e)], &up = views[static_cast<size_t>(count + e)];
    const WeightView& down = views[static_cast<size_t>(2 * count + e)];
    if (!is_behind(views[0], gate, 2 * e, width, hidden) || !is_behind(views[0], up, 2 * e + 1, width, hidden) ||
        !is_behind(views[static_cast<size_t>(2 * count)], down, e, hidden, width)) {
      return false;
    }
  }
  return true;
}

// Of a token: products in the activations' type and in FP8, sums in f32, lists.
int64_t rows_elements_bytes(const Tensor& x, int64_t width, int slices, int64_t choices) {
  const int64_t fp8 = width + width / 32 + x.dim(1) + x.dim(1) / 32;
  return choices *
         (2 * width * dtype_bytes(x.dtype) + fp8 + slices * x.dim(1) * static_cast<int64_t>(sizeof(float)) + 32);
}

}  // namespace

Result<std::unique_ptr<Moe>> Moe::make(CudaDevice& device, Fork& fork, const CudaFp8Options& fp8) {
  std::unique_ptr<Moe> moe(new Moe(device, fork, fp8));
  HYLAS_ASSIGN(moe->memory_, Buffer::make(device, kTableBytes));
  const std::vector<int32_t> zeros(2 * kFewCounters);
  moe->used_ = zeros.size() * sizeof(int32_t);
  device.copy_from_host(moe->memory_.data(), zeros.data(), moe->used_);
  return moe;
}

const ExpertTable& Moe::table(const ExpertWeights& experts) {
  check_experts(experts);
  const size_t count = experts.gate.size();
  std::vector<WeightView> wanted;
  wanted.reserve(3 * count);
  ExpertTable made;
  made.tensor_cores = true;
  for (const std::vector<LinearWeight>* kind : {&experts.gate, &experts.up, &experts.down}) {
    for (const LinearWeight& weight : *kind) {
      check_weight(weight);
      HYLAS_CHECK(weight.weight.dtype == kind->front().weight.dtype, "experts of several types");
      wanted.push_back(view(weight));
      made.tensor_cores = made.tensor_cores && takes(wanted.back(), weight.weight.dtype);
    }
  }
  ExpertTable& found = tables_[experts.gate.data()];
  const size_t bytes = wanted.size() * sizeof(WeightView);
  if (found.host.size() == wanted.size() && std::memcmp(found.host.data(), wanted.data(), bytes) == 0) return found;
  HYLAS_CHECK(used_ + bytes <= memory_.bytes(), "{} bytes for tables of experts are too few", memory_.bytes());
  std::byte* to = static_cast<std::byte*>(memory_.data()) + used_;
  used_ += (bytes + 255) / 256 * 256;
  device_.copy_from_host(to, wanted.data(), bytes);
  made.together = made.tensor_cores && are_together(experts, wanted);
  made.host = std::move(wanted);
  made.device = reinterpret_cast<const WeightView*>(to);
  found = std::move(made);
  return found;
}

// Down products of the tokens' experts; they may go to `out`, in the order of the tokens and their choices.
Moe::Rows Moe::routed(Workspace& workspace, const Tensor& x, const Tensor& ids, const ExpertWeights& experts,
                      int slices, const Tensor* out) {
  const ExpertTable& table = this->table(experts);
  const auto count = static_cast<int64_t>(experts.gate.size());
  const int64_t tokens = x.dim(0), k = ids.dim(1), pairs = tokens * k, hidden = x.dim(1);
  const int64_t width = experts.gate[0].weight.dim(0);
  const int32_t run_rows = gemm_run_rows(pairs_here(tokens, k, experts) / count);
  const int64_t runs_max = sort_runs_max(pairs, count, run_rows);
  auto* pair_token = workspace.take<int32_t>(pairs);
  auto* pair_of = workspace.take<int32_t>(pairs);
  auto* pair_choice = out ? workspace.take<int32_t>(pairs) : nullptr;
  auto* runs = workspace.take<RowRun>(runs_max);
  auto* run_count = workspace.take<int32_t>(1);
  moe_sort({.ids = view(ids),
            .tokens = tokens,
            .k = static_cast<int>(k),
            .expert_begin = experts.expert_begin,
            .experts = static_cast<int32_t>(count),
            .run_rows = run_rows,
            .pair_token = pair_token,
            .pair_of = pair_of,
            .pair_choice = pair_choice,
            .runs = runs,
            .run_count = run_count},
           device_.stream());
  Product up;
  up.x = view(x);
  up.x_index = pair_token;
  up.weight_dtype = experts.gate[0].weight.dtype;
  up.paired = true;
  up.weights = table.device;
  up.others = table.device + count;
  up.runs = runs;
  up.run_count = run_count;
  up.runs_max = static_cast<int32_t>(runs_max);
  up.run_rows = run_rows;
  up.inputs = hidden;
  up.outputs = width;
  up.out = {workspace.take<std::byte>(pairs * width * dtype_bytes(x.dtype)), x.dtype, width};
  set_slices(up, 1);
  Product down = up;
  down.x = up.out;
  down.x_index = nullptr;
  down.runs_are_known = true;
  down.weight_dtype = experts.down[0].weight.dtype;
  down.paired = false;
  down.weights = table.device + 2 * count;
  down.inputs = width;
  down.outputs = hidden;
  set_slices(down, slices);
  down.slice_stride = out ? out->row_stride : pairs * hidden;
  down.out = {out ? out->data : workspace.take<float>(slices * pairs * hidden), DType::kF32, hidden};
  down.out_index = pair_choice;
  for (const Product* product : {&up, &down}) {
    if (table.tensor_cores && gemm_bf16_takes(*product)) {
      gemm_bf16(*product, device_.stream());
    } else {
      gemm_f32(*product, device_.stream());
    }
  }
  return {down.out, down.slice_stride, pair_of};
}

Moe::Rows Moe::shared(Workspace& workspace, const Tensor& x, const SharedExpertWeights& experts, int slices,
                      Stream stream, const Tensor* out) {
  const int64_t tokens = x.dim(0), hidden = x.dim(1), width = experts.gate.weight.dim(0);
  HYLAS_CHECK(experts.gate.weight.dtype == experts.up.weight.dtype, "gate and up of two types");
  Product up;
  up.x = view(x);
  up.weight_dtype = experts.gate.weight.dtype;
  up.paired = true;
  up.weight = view(experts.gate);
  up.other = view(experts.up);
  up.rows = tokens;
  up.inputs = hidden;
  up.outputs = width;
  up.out = {workspace.take<std::byte>(tokens * width * dtype_bytes(x.dtype)), x.dtype, width};
  set_slices(up, 1);
  multiply(up, stream);
  Product down;
  down.x = up.out;
  down.weight_dtype = experts.down.weight.dtype;
  down.weight = view(experts.down);
  down.rows = tokens;
  down.inputs = width;
  down.outputs = hidden;
  set_slices(down, slices);
  down.slice_stride = out ? out->row_stride : tokens * hidden;
  down.out = {out ? out->data : workspace.take<float>(slices * tokens * hidden), DType::kF32, hidden};
  multiply(down, stream);
  return {down.out, down.slice_stride, nullptr};
}

namespace {

// Tokens whose rows fit the workspace.
int64_t block_tokens(const Workspace& workspace, int64_t bytes_per_token, int64_t tokens) {
  constexpr int64_t kRoom = 1 << 20;  // lists of runs, padding
  const int64_t fitting =
      (static_cast<int64_t>(workspace.bytes_left()) - kRoom) / std::max<int64_t>(bytes_per_token, 1);
  HYLAS_CHECK(fitting > 0, "a token needs {} bytes of the workspace's {}", bytes_per_token, workspace.bytes_left());
  // A block begins where rows in e4m3 can (ActRows::rows).
  return fitting < tokens && fitting > 4 ? fitting / 4 * 4 : std::min(fitting, tokens);
}

int64_t shared_bytes(const SharedExpertWeights* shared, const Tensor& x, int slices) {
  return shared ? rows_elements_bytes(x, shared->gate.weight.dim(0), slices, 1) : 0;
}

CombineArgs combine_args(const Tensor& weights, const Tensor& shared_logit, const Tensor& partials, int64_t begin,
                         int64_t tokens) {
  CombineArgs args;
  args.weights = view(weights.rows(begin, tokens));
  args.k = static_cast<int>(weights.dim(1));
  if (shared_logit) args.shared_logit = view(shared_logit.rows(begin, tokens));
  args.partials = partials.as<float>() + begin * partials.dim(2);
  args.partials_slice_stride = partials.row_stride;
  args.slices = static_cast<int>(partials.dim(0));
  args.tokens = tokens;
  args.columns = partials.dim(2);
  return args;
}

}  // namespace

void Moe::moe(Workspace& workspace, const ActRows& rows, const Tensor& ids, const Tensor& weights,
              const ExpertWeights& experts, const SharedExpertWeights* shared, const Tensor& shared_logit,
              const Tensor& partials, const AddNormArgs* behind) {
  const Tensor& x = rows.values;
  const int slices = static_cast<int>(partials.dim(0));
  check_act(x);
  HYLAS_CHECK(partials.rank == 3 && partials.dim(1) == x.dim(0) && partials.dim(2) == x.dim(1),
              "partials [{}, {}, {}] for x [{}, {}]", partials.dim(0), partials.dim(1), partials.dim(2), x.dim(0),
              x.dim(1));
  const bool any = !experts.gate.empty();
  const int64_t width = any ? experts.gate[0].weight.dim(0) : 0;
  const int64_t bytes = rows_elements_bytes(x, width, slices, ids.dim(1)) + shared_bytes(shared, x, slices);
  for (int64_t begin = 0; begin < x.dim(0);) {
    workspace.reset();
    const int64_t left = x.dim(0) - begin;
    const int64_t fp8 = slices == 1 ? fp8_tokens(workspace, x, left, ids.dim(1), experts, shared) : 0;
    const int64_t tokens = fp8 > 0 ? fp8 : block_tokens(workspace, bytes, left);
    const ActRows block_rows = rows.rows_or_values(begin, tokens);
    const Tensor &block = block_rows.values, block_ids = ids.rows(begin, tokens);
    CombineArgs args = combine_args(weights, shared ? shared_logit : Tensor(), partials, begin, tokens);
    const Stream main = device_.stream();
    const bool few = any && fp8 == 0 && slices == 1 && takes_few(block, ids.dim(1), experts);
    const bool joined = few && shared && takes_as_expert(*shared, experts);
    const bool alone = few && shared && !joined && takes_fp8(block, *shared), beside = shared && !joined && !alone;
    if (shared && !joined) {
      const Stream side = beside ? fork_.begin(main) : main;  // all of its kernels are small
      const Rows rows =
          alone     ? fp8_shared_alone(workspace, block_rows, *shared, shared_way(tokens, ids.dim(1)), side, nullptr)
          : fp8 > 0 ? fp8_shared(workspace, block_rows, *shared, side)
                    : this->shared(workspace, block, *shared, slices, side, nullptr);
      args.shared = rows.data;
      args.shared_slice_stride = rows.slice_stride;
    }
    if (any) {
      const Rows rows = few       ? fp8_few(workspace, block_rows, block_ids, experts, joined ? shared : nullptr,
                                            chosen_fp8_takes(tokens, ids.dim(1)), nullptr, main)
                        : fp8 > 0 ? fp8_routed(workspace, block_rows, block_ids, experts, nullptr, nullptr)
                                  : routed(workspace, block, block_ids, experts, slices, nullptr);
      args.rows = rows.data;
      args.rows_slice_stride = rows.slice_stride;
      args.index = rows.pair_of;
      args.index_stride = args.k;
      args.ids = view(block_ids);
      args.expert_begin = experts.expert_begin;
      args.experts = static_cast<int32_t>(experts.gate.size());
      if (joined) {
        args.shared = {static_cast<float*>(rows.data.data) + tokens * args.k * x.dim(1), DType::kF32, x.dim(1)};
      }
    } else {
      args.k = 0;
    }
    if (beside) fork_.end(main);
    sum_experts(args, behind, begin, main);
    begin += tokens;
  }
}

void Moe::shared_rows(Workspace& workspace, const SharedRows& shared, const SharedWay& way, int64_t begin,
                      int64_t tokens, Stream stream) {
  const ActRows x = shared.x.rows_or_values(begin, tokens);
  const int slices = static_cast<int>(shared.rows.dim(0));
  Tensor out = shared.rows;
  out.data = shared.rows.as<float>() + begin * shared.rows.dim(2);
  if (slices == 1 && takes_fp8(x.values, *shared.weights)) {
    const Rows rows = fp8_shared_alone(workspace, x, *shared.weights, way, stream, &out);
    if (rows.data.data == out.data) return;
    const int64_t hidden = x.values.dim(1);
    take_rows(rows.data, tokens, nullptr, 0, tokens, hidden, {out.data, DType::kF32, hidden}, stream);
  } else {
    this->shared(workspace, x.values, *shared.weights, slices, stream, &out);
  }
}

Moe::RowsWay Moe::rows_way(Workspace& workspace, const Tensor& x, int64_t k, const ExpertWeights& experts, int slices) {
  workspace.reset();
  RowsWay way;
  if (slices != 1 || experts.gate.empty() || x.dim(0) == 0) return way;
  way.tile_tokens = fp8_tokens(workspace, x, x.dim(0), k, experts, nullptr);
  if (way.tile_tokens >= x.dim(0)) way.sorted_rows = fp8_sorted_rows(x.dim(0), k, experts);
  way.few = way.tile_tokens == 0 && takes_few(x, k, experts);
  way.chosen = way.few && chosen_fp8_takes(x.dim(0), k);
  return way;
}

ExpertRowForms Moe::row_forms(Workspace& workspace, const Tensor& x, int64_t k, const ExpertWeights& experts,
                              int slices) {
  const RowsWay way = rows_way(workspace, x, k, experts, slices);
  return {way.takes_fp8() ? RowForm::kFp8 : RowForm::kValues, way.tile_tokens > 0 ? DType::kBF16 : DType::kF32,
          way.sorted_rows};
}

// The shared expert beside the others if they are small and all fit the workspace at once, else before them.
void Moe::expert_rows(Workspace& workspace, const ActRows& all, const Tensor& ids, const ExpertWeights& experts,
                      const Tensor& rows, const Tensor& index, const SharedRows& shared) {
  const Tensor& x = all.values;
  check_act(x);
  const int64_t k = ids.dim(1), hidden = x.dim(1), count = experts.gate.empty() ? 0 : x.dim(0);
  const int slices = static_cast<int>(rows.dim(0));
  const RowsWay way = rows_way(workspace, x, k, experts, slices);
  HYLAS_CHECK(ids.dim(0) == x.dim(0) && rows.dim(1) == (index ? way.sorted_rows : x.dim(0) * k) &&
                  rows.dim(2) == hidden && (!index || index.dim(0) == x.dim(0)),
              "rows [{}, {}, {}] of x [{}, {}] and ids [{}, {}], {} sorted", slices, rows.dim(1), rows.dim(2), x.dim(0),
              hidden, ids.dim(0), k, way.sorted_rows);
  const int64_t fp8 = way.tile_tokens;
  SharedWay of_shared = shared_way(x.dim(0), k);
  if (fp8 > 0 || way.few) of_shared.tiles = fp8 > 0;  // as one rank's, beside the others
  HYLAS_CHECK(index ? rows.dtype == DType::kBF16 : fp8 > 0 || rows.dtype == DType::kF32);
  HYLAS_CHECK(all.has_values() || count == 0 || way.takes_fp8(), "{} tokens in e4m3 alone", count);
  const int64_t bytes = count > 0 ? rows_elements_bytes(x, experts.gate[0].weight.dim(0), 0, k) : 0;
  const int64_t own = shared.weights ? shared.x.values.dim(0) : 0, own_bytes = shared_bytes(shared.weights, x, 1);
  const bool beside =
      fp8 == 0 && own > 0 && count > 0 && block_tokens(workspace, 1, INT64_MAX) >= count * bytes + own * own_bytes;
  for (int64_t begin = 0; begin < own && !beside;) {
    workspace.reset();
    const int64_t tokens = block_tokens(workspace, own_bytes, own - begin);
    shared_rows(workspace, shared, of_shared, begin, tokens, device_.stream());
    begin += tokens;
  }
  for (int64_t begin = 0; begin < count;) {
    workspace.reset();
    const Stream main = device_.stream();
    if (beside) shared_rows(workspace, shared, of_shared, 0, own, fork_.begin(main));
    const int64_t left = count - begin;
    const int64_t tokens = fp8 > 0 ? std::min(fp8, left) : beside ? left : block_tokens(workspace, bytes, left);
    Tensor out = rows;
    out.data = static_cast<std::byte*>(rows.data) + begin * k * hidden * dtype_bytes(rows.dtype);
    const ActRows block = all.rows_or_values(begin, tokens);
    const Tensor block_ids = ids.rows(begin, tokens);
    if (index) {
      fp8_routed(workspace, block, block_ids, experts, &rows, &index);
    } else if (fp8 > 0) {
      const Rows found = fp8_routed(workspace, block, block_ids, experts, nullptr, nullptr);
      take_rows_there(found.data, found.slice_stride / hidden, found.pair_of, tokens * k, hidden,
                      {out.data, out.dtype, hidden}, main);
    } else if (way.few) {
      fp8_few(workspace, block, block_ids, experts, nullptr, way.chosen, &out, main);
    } else {
      routed(workspace, block.values, block_ids, experts, slices, &out);
    }
    if (beside) fork_.end(main);
    begin += tokens;
  }
}

void Moe::combine(Workspace& workspace, const Tensor& rows, const Tensor& index, const Tensor& weights, const Tensor& x,
                  const SharedExpertWeights* shared, const Tensor& shared_logit, const Tensor& partials) {
  const int slices = static_cast<int>(partials.dim(0));
  const int64_t bytes = shared_bytes(shared, x, slices);
  for (int64_t begin = 0; begin < index.dim(0);) {
    workspace.reset();
    const int64_t tokens = block_tokens(workspace, bytes, index.dim(0) - begin);
    CombineArgs args = combine_args(weights, shared ? shared_logit : Tensor(), partials, begin, tokens);
    args.rows = {rows.data, DType::kF32, rows.dim(2)};
    args.rows_slice_stride = rows.row_stride;
    const Tensor block = index.rows(begin, tokens);
    args.index = block.as<int32_t>();
    args.index_stride = block.row_stride;
    if (shared) {
      const Tensor block_x = x.rows(begin, tokens);
      const Rows of_shared = slices == 1 && takes_fp8(block_x, *shared)
                                 ? fp8_shared_alone(workspace, block_x, *shared, shared_way(tokens, index.dim(1)),
                                                    device_.stream(), nullptr)
                                 : this->shared(workspace, block_x, *shared, slices, device_.stream(), nullptr);
      args.shared = of_shared.data;
      args.shared_slice_stride = of_shared.slice_stride;
    }
    moe_sum(args, device_.stream());
    begin += tokens;
  }
}

}  // namespace hylas::cuda
