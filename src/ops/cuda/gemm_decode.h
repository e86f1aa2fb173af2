#pragma once
// Products of a decode step's rows on Hopper's tensor cores, bf16 with bf16 or e4m3 with e4m3. Weights are the
// instruction's 64 rows, the rows of x its columns, so that few of them leave nothing idle; both come to shared memory
// by the copy engine.
#include <unordered_map>

#include "ops/cuda/gemm.h"
#include "ops/cuda/tensor_map.h"
#include "ops/decode_plan.h"

namespace hylas::cuda {

struct DecodePart {
  CUtensorMap map;
  View out;  // f32 or bf16; paired: bf16
  int64_t outputs = 0;
  const float* scale = nullptr;  // FP8
  int64_t scale_stride = 0;      // between blocks of 128 outputs
};

struct DecodeArgs {
  CUtensorMap x, x_scale;  // FP8: scales by block of inputs and row
  DecodePart part[kPartsMax];
  int parts = 0;
  bool fp8 = false;
  bool paired = false;          // bf16 only: out = silu(x W^T) * (x V^T), each rounded to bf16; maps have both matrices
  bool other_is_gated = false;  // the maps' second matrix is W
  int64_t rows = 0;
  int slices = 1;
  int64_t slice_begin[kSlicesMax + 1] = {};
  int64_t slice_stride = 0;  // elements between slices of out
};

// Asynchronous; the launch is checked.
void decode_product(const DecodeArgs& args, const DecodeTile& tile, Stream stream);

// Not thread-safe.
class DecodeGemm {
 public:
  explicit DecodeGemm(int32_t multiprocessors) : multiprocessors_(multiprocessors) {}
  // Whether it can and should be this one. FP8: of products of fp8_takes; up to 64 rows of many outputs, otherwise
  // DeepGEMM is as fast.
  bool takes(const Product& product) const;
  // With `rows` rows instead of its own.
  DecodeTile tile(const Product& product, int64_t rows) const;
  // FP8: with rows that are quantized. An output is summed over K in ascending order: its bits depend on neither the
  // rows nor the tile. FP8: of several slices the first gets the whole sum, the others stay as they are.
  void run(const Product& product, Stream stream) { run(product, tile(product, product.rows), stream); }
  void run(const Product& product, const DecodeTile& tile, Stream stream);

 private:
  struct Key {
    const void* data;
    const void* other;
    int64_t outputs, bytes, stride_bytes;
    int32_t groups;
    bool operator==(const Key&) const = default;
  };
  struct Hash {
    size_t operator()(const Key& key) const;
  };
  const CUtensorMap& map(const Key& key);

  int32_t multiprocessors_;
  std::unordered_map<Key, CUtensorMap, Hash> maps_;  // of weights, made once
};

}  // namespace hylas::cuda
