#include "ops/cuda/fp8_gemm.h"

#include <cuda_runtime_api.h>

#include "ops/cuda/deep_gemm.h"
#include "ops/cuda/gemm_fp8_rows.h"
#include "ops/cuda/rows.h"
#include "ops/cuda/tensor_map.h"
#include "tensor/cuda/cuda_error.h"

namespace hylas::cuda {
namespace {

constexpr int64_t kUnit = 16;  // bytes; of everything that a tensor map points at

bool at_unit(const void* data) { return reinterpret_cast<uintptr_t>(data) % kUnit == 0; }

DeepGemmArgs arguments(const Fp8Rows& x, const WeightView& weight, int64_t outputs, int64_t experts,
                       const Fp8Tile& tile, const View& out) {
  constexpr int32_t kOutColumns = 64;  // 128 bytes
  DeepGemmArgs args;
  args.tile = tile;
  args.rows = x.rows;
  args.outputs = outputs;
  args.inputs = x.inputs;
  args.x = tensor_map({.data = x.data,
                       .rows = x.rows,
                       .columns = x.inputs,
                       .stride = x.inputs,
                       .box_rows = tile.rows,
                       .box_columns = kFp8Depth});
  args.x_scale = tensor_map({.data = x.scale,
                             .dtype = DType::kF32,
                             .rows = x.inputs / kFp8Depth,
                             .columns = fp8_scale_stride(x.rows),
                             .stride = x.scale_stride,
                             .box_rows = 1,
                             .box_columns = tile.rows,
                             .swizzled = false});
  args.weight = tensor_map({.data = const_cast<void*>(weight.data),
                            .rows = outputs * experts,
                            .columns = x.inputs,
                            .stride = weight.stride,
                            .box_rows = tile.outputs,
                            .box_columns = kFp8Depth});
  args.out = tensor_map({.data = out.data,
                         .dtype = DType::kBF16,
                         .rows = x.rows,
                         .columns = outputs,
                         .stride = out.stride,
                         .box_rows = tile.rows,
                         .box_columns = kOutColumns});
  args.weight_scale = weight.scale;
  return args;
}

bool direct(const View& out) { return out.dtype == DType::kBF16 && out.stride % 8 == 0 && at_unit(out.data); }

}  // namespace

Fp8Rows take_fp8_rows(Workspace& workspace, int64_t rows, int64_t inputs) {
  Fp8Rows taken;
  taken.rows = rows;
  taken.inputs = inputs;
  taken.scale_stride = fp8_scale_stride(rows);
  taken.data = workspace.take<std::byte>(rows * inputs);
  taken.scale = workspace.take<float>(inputs / kFp8Depth * taken.scale_stride);
  return taken;
}

Fp8Rows ready_or_quantized(Workspace& workspace, const Fp8Rows& ready, const View& x, int64_t rows, int64_t inputs,
                           Stream stream) {
  if (ready.data) return ready;
  const Fp8Rows quantized = take_fp8_rows(workspace, rows, inputs);
  quantize_rows(x, nullptr, quantized, stream);
  return quantized;
}

bool fp8_takes(const Product& p) {
  return p.x.dtype == DType::kBF16 && p.weight_dtype == DType::kF8E4M3 && !p.weights && !p.paired && !p.x_index &&
         !p.out_index && p.parts == 0 && p.rows > 0 && p.outputs > 0 && p.inputs > 0 && p.inputs % kFp8Depth == 0 &&
         p.outputs % 8 == 0 && p.weight.stride % kUnit == 0 && at_unit(p.weight.data) &&
         p.weight.scale_stride == p.inputs / kFp8Depth &&
         (p.x_fp8.data ? at_unit(p.x_fp8.data) : p.x.stride % 8 == 0 && at_unit(p.x.data));
}

void fp8_multiply(const Fp8Rows& x, const WeightView& weight, int64_t outputs, const View& out, Stream stream,
                  int32_t blocks) {
  deep_gemm_dense(arguments(x, weight, outputs, 1, fp8_dense_tile(x.rows, outputs, blocks), out), stream);
}

void fp8_multiply_grouped(const Fp8Rows& x, const WeightView& weights, int64_t outputs, int64_t experts,
                          const Fp8Tile& tile, const int32_t* row_expert, const View& out, Stream stream) {
  DeepGemmArgs args = arguments(x, weights, outputs, experts, tile, out);
  args.row_expert = row_expert;
  deep_gemm_grouped(args, stream);
}

// They lie one behind the other, or apart.
void clear_other_slices(const Product& p, Stream stream) {
  if (p.slices == 1) return;
  const auto bytes = static_cast<size_t>(dtype_bytes(p.out.dtype));
  const size_t apart = static_cast<size_t>(p.slice_stride) * bytes;
  check(
      cudaMemset2DAsync(static_cast<std::byte*>(p.out.data) + apart, apart, 0,
                        static_cast<size_t>(p.rows * p.out.stride) * bytes, static_cast<size_t>(p.slices - 1), stream),
      "linear (fp8, the other slices)");
}

size_t fp8_run_bytes(const Product& p) {
  const size_t rows = p.x_fp8.data ? 0 : fp8_rows_bytes(p.rows, p.inputs);
  return rows + (direct(p.out) ? 0 : Workspace::padded(static_cast<size_t>(p.rows * p.outputs) * 2));
}

void fp8_run(const Product& p, Workspace& workspace, Stream stream, int32_t blocks) {
  const Fp8Rows rows = ready_or_quantized(workspace, p.x_fp8, p.x, p.rows, p.inputs, stream);
  if (direct(p.out)) return fp8_multiply(rows, p.weight, p.outputs, p.out, stream, blocks);
  const View whole = {workspace.take<uint16_t>(p.rows * p.outputs), DType::kBF16, p.outputs};
  fp8_multiply(rows, p.weight, p.outputs, whole, stream, blocks);
  copy_columns(whole, p.rows, p.outputs, p.out, stream);
  clear_other_slices(p, stream);
}

void fp8_run_few(const Product& p, Stream stream) {
  gemm_fp8_rows(p, {}, stream);
  clear_other_slices(p, stream);
}

}  // namespace hylas::cuda
