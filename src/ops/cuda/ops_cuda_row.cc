// OpsCuda: a decode row through several layers at once.
#include <algorithm>

#include "ops/cuda/ops_cuda.h"
#include "ops/cuda/row_layers.h"
#include "ops/row_layer.h"

namespace hylas::cuda {
namespace {

bool at_16(const void* data) { return reinterpret_cast<uintptr_t>(data) % 16 == 0; }

// FP8, whole and without gaps.
bool fits(const LinearWeight& w, int64_t outputs, int64_t inputs) {
  return w.weight.dtype == DType::kF8E4M3 && w.weight.dim(0) == outputs && w.weight.dim(1) == inputs &&
         w.weight.contiguous() && w.scale.contiguous() && w.scale.dim(1) == inputs / kFp8Block &&
         at_16(w.weight.data) && at_16(w.scale.data);
}
bool fits_bf16(const Tensor& t, int64_t rows, int64_t columns) {
  return t.dtype == DType::kBF16 && t.elements() == rows * columns && t.dim(0) == rows && t.contiguous() &&
         at_16(t.data);
}
bool fits_norm(const Tensor& t) {
  return t.dtype == DType::kBF16 && t.elements() == row_shape::kHidden && at_16(t.data);
}

bool fits(const RowMixer& m) {
  return fits(m.qkv, row_shape::kChannels, row_shape::kHidden) && fits(m.z, row_shape::kValues, row_shape::kHidden) &&
         fits_bf16(m.a.weight, row_shape::kValueHeads, row_shape::kHidden) &&
         fits_bf16(m.b.weight, row_shape::kValueHeads, row_shape::kHidden) &&
         m.shape.key_heads == row_shape::kKeyHeads && m.shape.value_heads == row_shape::kValueHeads &&
         m.shape.key_dim == row_shape::kDim && m.shape.value_dim == row_shape::kDim && m.weights.conv.contiguous() &&
         m.conv_pool.dtype == DType::kBF16 && m.delta_pool.dtype != DType::kF32 && m.delta_pool.row_stride % 8 == 0 &&
         at_16(m.delta_pool.data);
}

RowMatrix matrix(const LinearWeight& w) {
  return {static_cast<const unsigned char*>(w.weight.data), w.scale.as<float>()};
}
RowVector vector(const Tensor& t) { return {t.data, t.dtype}; }

void set_mixer(const RowMixer& m, RowLayerArgs& to) {
  to.qkv = matrix(m.qkv);
  to.z = matrix(m.z);
  to.a = m.a.weight.data;
  to.b = m.b.weight.data;
  to.conv = vector(m.weights.conv);
  to.a_log = vector(m.weights.a_log);
  to.dt_bias = vector(m.weights.dt_bias);
  to.norm = vector(m.weights.norm);
  to.norm_eps = m.weights.eps;
  to.conv_pool = m.conv_pool.data;
  to.conv_stride = m.conv_pool.row_stride;
  to.delta_pool = m.delta_pool.data;
  to.delta_stride = m.delta_pool.row_stride;
}

}  // namespace

bool OpsCuda::takes_row_layer(const RowLayer& layer) {
  const ExpertWeights& experts = *layer.experts;
  if (layer.choices != row_shape::kChoices || experts.gate.size() != row_shape::kExperts || experts.expert_begin != 0)
    return false;
  const SharedExpertWeights& shared = *layer.shared;
  return (!layer.mixer || fits(*layer.mixer)) && fits_norm(layer.input_norm) && fits_norm(layer.post_norm) &&
         fits(layer.out, row_shape::kHidden, row_shape::kValues) &&
         fits_bf16(layer.router.weight, row_shape::kExperts, row_shape::kHidden) &&
         fits_bf16(layer.shared_gate.weight, 1, row_shape::kHidden) &&
         fits(experts.gate[0], row_shape::kWidth, row_shape::kHidden) &&
         fits(shared.gate, row_shape::kWidth, row_shape::kHidden) &&
         fits(shared.up, row_shape::kWidth, row_shape::kHidden) &&
         fits(shared.down, row_shape::kHidden, row_shape::kWidth) && moe_->together(experts);
}

size_t OpsCuda::row_layers_max() const { return takes_row_layers_ ? kRowLayersMax : 0; }

size_t OpsCuda::row_layers_taken(std::span<const RowLayer> layers, const Tensor& hidden, const Batch& batch) {
  const bool one = batch.tokens == 1 && batch.rows == 1 && batch.decode_rows == 1;
  if (!one || !fits_bf16(hidden, 1, row_shape::kHidden)) return 0;
  size_t taken = 0;
  while (taken < std::min(layers.size(), row_layers_max()) && (taken == 0 || layers[taken].mixer) &&
         takes_row_layer(layers[taken])) {
    ++taken;
  }
  return taken;
}

bool OpsCuda::row_products_taken(std::span<const LinearWeight> weights) {
  return weights.size() == 3 && fits(weights[0], row_shape::kQueryRows, row_shape::kHidden) &&
         fits(weights[1], row_shape::kKvRows, row_shape::kHidden) &&
         fits(weights[2], row_shape::kKvRows, row_shape::kHidden);
}

void OpsCuda::row_layers(std::span<const RowLayer> layers, const Tensor& mixed, const Tensor& hidden,
                         const RowBehind& behind, float eps, const Batch& batch) {
  RowLayersArgs args;
  args.layers = static_cast<int>(layers.size());
  for (size_t i = 0; i < layers.size(); ++i) {
    const RowLayer& layer = layers[i];
    RowLayerArgs& to = args.layer[i];
    if (layer.mixer) {
      set_mixer(*layer.mixer, to);
      args.state_dtype = layer.mixer->delta_pool.dtype;
    }
    const auto experts = *moe_->together(*layer.experts);
    to.input_norm = layer.input_norm.data;
    to.out = matrix(layer.out);
    to.post_norm = layer.post_norm.data;
    to.router = layer.router.weight.data;
    to.shared_gate = layer.shared_gate.weight.data;
    to.experts = {static_cast<const unsigned char*>(experts.first.data), experts.first.scale};
    to.experts_down = {static_cast<const unsigned char*>(experts.second.data), experts.second.scale};
    to.shared_gate_rows = matrix(layer.shared->gate);
    to.shared_up = matrix(layer.shared->up);
    to.shared_down = matrix(layer.shared->down);
  }
  const BatchView rows = view(batch);
  args.hidden = hidden.data;
  args.mixed = mixed.data;
  args.next_norm = behind.norm.data;
  args.normed = behind.normed.data;
  for (size_t i = 0; i < behind.weights.size(); ++i) {
    args.products.matrix[i] = matrix(behind.weights[i]);
    args.products.out[i] = behind.outs[i].data;
  }
  args.eps = eps;
  args.state_read = rows.state_read;
  args.state_write = rows.state_write;
  args.scratch = row_memory_.data();
  args.counters = reinterpret_cast<unsigned*>(static_cast<std::byte*>(row_memory_.data()) + kRowLayersScratch);
  cuda::row_layers(args, stream());
  row_layers_run_ += args.layers;
}

}  // namespace hylas::cuda
