#include <algorithm>
#include <cmath>
#include <thread>

#include "ops/weight.h"
#include "weights/quantize.h"

namespace hylas {
namespace {

constexpr float kFp8Max = 448.f;

float read(const Tensor& weight, int64_t row, int64_t column) {
  return weight.dtype == DType::kBF16 ? bf16_to_f32(weight.row<uint16_t>(row)[column]) : weight.row<float>(row)[column];
}

void quantize_block(const Tensor& weight, int64_t block_row, int64_t block_column, Fp8Matrix& out) {
  const int64_t columns = weight.dim(1), blocks_across = (columns + kFp8Block - 1) / kFp8Block;
  const int64_t row_begin = block_row * kFp8Block, row_end = std::min(row_begin + kFp8Block, weight.dim(0));
  const int64_t column_begin = block_column * kFp8Block, column_end = std::min(column_begin + kFp8Block, columns);
  float largest = 0;
  for (int64_t r = row_begin; r < row_end; ++r) {
    for (int64_t c = column_begin; c < column_end; ++c) largest = std::max(largest, std::fabs(read(weight, r, c)));
  }
  // The values are made with the scale as it is stored, so its rounding adds no error.
  const uint16_t stored = f32_to_bf16(largest > 0 ? largest / kFp8Max : 1.f);
  const float scale = bf16_to_f32(stored);
  out.scale[block_row * blocks_across + block_column] = stored;
  for (int64_t r = row_begin; r < row_end; ++r) {
    uint8_t* const to = out.values.data() + r * columns;
    for (int64_t c = column_begin; c < column_end; ++c) to[c] = f32_to_f8e4m3(read(weight, r, c) / scale);
  }
}

}  // namespace

Fp8Matrix quantize_blocks(const Tensor& weight, int threads) {
  const int64_t down = (weight.dim(0) + kFp8Block - 1) / kFp8Block,
                across = (weight.dim(1) + kFp8Block - 1) / kFp8Block;
  Fp8Matrix out;
  out.values.resize(static_cast<size_t>(weight.elements()));
  out.scale.resize(static_cast<size_t>(down * across));
  const int64_t parts = std::clamp<int64_t>(down, 1, std::max(threads, 1));
  const auto quantize_rows = [&](int64_t part) {
    for (int64_t r = down * part / parts; r < down * (part + 1) / parts; ++r) {
      for (int64_t c = 0; c < across; ++c) quantize_block(weight, r, c, out);
    }
  };
  std::vector<std::jthread> workers;
  for (int64_t part = 1; part < parts; ++part) workers.emplace_back(quantize_rows, part);
  quantize_rows(0);
  workers.clear();
  return out;
}

}  // namespace hylas
