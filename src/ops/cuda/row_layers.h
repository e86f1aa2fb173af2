#pragma once
// One decode row through neighbouring layers in one launch (Ops::row_layers): row_layers.cu. Of shapes that are known
// when it is compiled: Qwen3.5-35B-A3B's.
#include "ops/cuda/views.h"

namespace hylas::cuda {

// Shapes of the model's layers.
namespace row_shape {
constexpr int kHidden = 2048;
constexpr int kKeyHeads = 16, kValueHeads = 32, kDim = 128;
constexpr int kChannels = (2 * kKeyHeads + kValueHeads) * kDim;
constexpr int kValues = kValueHeads * kDim;  // and the columns of an attention's result
constexpr int kExperts = 256, kChoices = 8, kWidth = 512;
constexpr int kQueryRows = 8192, kKvRows = 512;  // of an attention's first products: queries with their gates, k, v
}  // namespace row_shape

// An FP8 matrix [outputs, inputs] without gaps, its scales [outputs / 128, inputs / 128] too.
struct RowMatrix {
  const unsigned char* data = nullptr;
  const float* scale = nullptr;
};

// A vector of f32 or bf16.
struct RowVector {
  const void* data = nullptr;
  DType dtype = DType::kF32;
};

// The part of a layer behind its mixer's result, before it a Gated DeltaNet mixer if `qkv` is there.
struct RowLayerArgs {
  const void* input_norm = nullptr;  // [hidden] bf16, as all that follows without a type
  RowMatrix qkv, z;
  const void *a = nullptr, *b = nullptr;
  RowVector conv, a_log, dt_bias, norm;
  float norm_eps = 0;
  void* conv_pool = nullptr;
  int64_t conv_stride = 0;
  void* delta_pool = nullptr;
  int64_t delta_stride = 0;  // of elements
  RowMatrix out;
  const void* post_norm = nullptr;
  const void *router = nullptr, *shared_gate = nullptr;
  RowMatrix experts;  // gate and up of each, one behind the other
  RowMatrix experts_down;
  RowMatrix shared_gate_rows, shared_up, shared_down;
};

constexpr int kRowLayersMax = 4;  // of a launch

// What an attention layer behind them makes of the normed residual: q with its gates, k, v, to [rows] bf16.
struct RowProducts {
  RowMatrix matrix[3];  // none: without data
  void* out[3] = {};
};

struct RowLayersArgs {
  RowLayerArgs layer[kRowLayersMax];
  int layers = 0;
  void* hidden = nullptr;           // [hidden] bf16, in place
  const void* mixed = nullptr;      // [values] bf16: the result of the first layer's mixer, where it has none here
  const void* next_norm = nullptr;  // null: none
  void* normed = nullptr;           // [hidden] bf16, unless there are products of it
  RowProducts products;
  float eps = 0;
  DType state_dtype = DType::kF16;
  const int32_t* state_read = nullptr;
  const int32_t* state_write = nullptr;
  // Zeros at first, then what a launch leaves for the next one.
  void* scratch = nullptr;       // kRowLayersScratch bytes
  unsigned* counters = nullptr;  // kRowLayersCounters bytes
};
constexpr size_t kRowLayersScratch = 160 << 10, kRowLayersCounters = 256;

// The blocks all have to run at the same time: whether the thread's device has the room, with so many multiprocessors.
bool row_layers_fit(int multiprocessors);
void row_layers(const RowLayersArgs& args, Stream stream);

}  // namespace hylas::cuda
