#pragma once
// BF16 or F32 weights to FP8 blocks of 128 x 128 (model.md section 3.5), in the layout of the released FP8 checkpoints.
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/result.h"
#include "tensor/tensor.h"
#include "weights/checkpoint.h"

namespace hylas {

// w = value * scale, one scale per block: the largest magnitude of the block becomes 448. A block of zeros has scale 1.
struct Fp8Matrix {
  std::vector<uint8_t> values;  // [out, in] fp8_e4m3
  std::vector<uint16_t> scale;  // [ceil(out / 128), ceil(in / 128)] bf16
};
// weight: [out, in] f32 | bf16.
Fp8Matrix quantize_blocks(const Tensor& weight, int threads);

// Writes `from` into `out_dir` as safetensors shards (with an index if there is more than one). Tensors that
// `is_projection` names become FP8 with a scale; fused experts become one matrix per expert; the others are copied.
// Returns the names of the copied tensors. Memory: one matrix at a time.
struct QuantizeOptions {
  std::function<bool(const std::string& name)> is_projection;
  size_t shard_bytes_max = size_t{4} << 30;
  int threads = 1;
};
Result<std::vector<std::string>> quantize_checkpoint(const Checkpoint& from, const std::string& out_dir,
                                                     const QuantizeOptions& options, const LoadProgress& progress);

}  // namespace hylas
