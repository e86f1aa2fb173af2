#pragma once
// Products x W^T on packed rows of x: the values that linear.cc and moe.cc hand to the kernels of one instruction set.
// Includes nothing, because the files of every instruction set do (isa.h).
//
// Order of a sum, the same on every path. A product is cut into slices of K (one for a plain linear layer). Within a
// slice the elements are taken in groups of P x L, P = 1, 2, 4 for f32, bf16 and fp8 weights, L lanes of the vector. A
// step of a group multiplies the elements e, P + e, 2P + e, ... of the group, lane by lane, into ONE vector accumulator
// by fma, in the order e = 0, 1 or, for fp8, 0, 2, 1, 3; a group beyond the end is filled with zeros; at the end the
// lanes are summed by V::sum4's tree. So an output depends on its row of x, its row of W and the slice's bounds: not on
// the tile, the thread or the other rows. Why P: 32-bit words of a row then turn into P vectors of floats by a shift
// and a mask each, without a shuffle.
//
// fp8: w = q * scale; the product is (x * scale) * q, the first rounded to f32: one scale holds for 128 outputs, so
// that costs them one multiplication of x. The bytes are widened by moving sign, exponent and mantissa to their place
// in an f32, which leaves a factor 2^-120; half of its inverse goes into the packed x, half into the result, so that
// nothing overflows. NaN bytes (0x7f, 0xff) read as +-480.
#include <cstdint>

namespace hylas::cpu {

constexpr int kSlicesMax = 4;
constexpr int64_t kScaleBlock = 128;   // rows and columns of an fp8 weight under one scale
constexpr int kRowTile = 3;            // rows of x in a packed group and in a register tile, at most
constexpr int kColumnTile = 4;         // outputs in a register tile
constexpr int kColumnTileOne = 8;      // and in one of a single row, whose multiply-adds would wait for each other
constexpr int64_t kRowsDirect = 2;     // up to here fp8 weights are widened in registers, above into memory
constexpr int64_t kRowsFew = 24;       // up to here weights are widened for every group of rows, above for many
constexpr int64_t kColumnsFew = 16;    // columns that few rows take at a time
constexpr int64_t kPartValues = 3072;  // of a group of few rows of x that stay in the first-level cache
constexpr int64_t kRowsMany = 63;      // many rows are taken in blocks of these, whole groups
constexpr int64_t kPartMany = 1024;    // and in parts of these inputs: a panel of W in the first-level cache
constexpr int64_t kNearBytes = 8192;   // of weights that are asked for into the first-level cache
constexpr float kFp8Half = 0x1p60f;    // the square root of the factor that widening leaves

enum class WeightFormat : uint8_t { kF32, kBF16, kFp8 };

constexpr int format_phases(WeightFormat format) {
  return format == WeightFormat::kF32 ? 1 : format == WeightFormat::kBF16 ? 2 : 4;
}

// The element within each word of a row that step `step` of a group takes.
template <int phases>
constexpr int element_of_step(int step) {
  return phases == 4 && (step == 1 || step == 2) ? 3 - step : step;
}

// Rows of the first group of `rows` rows. Never one row behind three: it would wait for its own multiply-adds.
__attribute__((always_inline)) constexpr int row_group_size(int64_t rows) {
  return rows == 4 ? 2 : rows < kRowTile ? static_cast<int>(rows) : kRowTile;
}
// Floats for the sums of one group of rows over `outputs` outputs.
__attribute__((always_inline)) constexpr int64_t multiply_totals(int64_t outputs, int lanes) {
  return (outputs + kColumnTileOne - 1) / kColumnTileOne * kColumnTileOne * kRowTile * lanes;
}

// Inputs of a part of a slice of `size` inputs, for many rows: parts of about the same size, of whole blocks.
__attribute__((always_inline)) constexpr int64_t part_inputs(int64_t size) {
  const int64_t parts = (size + kPartMany - 1) / kPartMany;
  return parts <= 1 ? kPartMany : ((size + parts - 1) / parts + kScaleBlock - 1) / kScaleBlock * kScaleBlock;
}

// Slices of the input dimension: slice s is [begin[s], begin[s + 1]). In packed rows every slice starts at a new group.
struct SliceTable {
  int count = 1;
  int64_t begin[kSlicesMax + 1] = {};
  __attribute__((always_inline)) int64_t size(int slice) const { return begin[slice + 1] - begin[slice]; }
  // Vector steps of one slice.
  __attribute__((always_inline)) int64_t steps(int slice, int phases, int lanes) const {
    return (size(slice) + phases * lanes - 1) / (phases * lanes) * phases;
  }
};

// Rows of x as the kernels read them, in groups of row_group_size(rows left); a group of R rows is [steps][R][lanes]
// f32, all slices one after another.
struct PackedRows {
  float* data = nullptr;
  int64_t rows = 0;
  int64_t steps = 0;  // of all slices
  int64_t first = 0;  // the row of the product that row 0 belongs to
};

// Where rows of x come from: row i of the packed rows is row (index ? index[i] : i) of x.
struct RowSource {
  const void* data = nullptr;
  int64_t stride = 0;  // elements
  bool bf16 = false;
  const int32_t* index = nullptr;
};

// One matrix and where its products go: value (row, slice, output n) lands at
// out[slice * slice_stride + row * row_stride + n - first_output].
struct Product {
  WeightFormat format = WeightFormat::kF32;
  const void* weight = nullptr;
  int64_t weight_stride = 0;  // bytes
  const float* scale = nullptr;
  int64_t scale_stride = 0;  // elements
  SliceTable slices;
  void* out = nullptr;
  bool out_bf16 = false;
  int64_t row_stride = 0;
  int64_t slice_stride = 0;
  int64_t first_output = 0;
};

struct GemmKernels {
  int lanes;
  // Packs rows [begin, end) of `to`, begin a multiple of kRowTile, for weights of `format`.
  void (*pack)(const RowSource& from, WeightFormat format, const SliceTable& slices, const PackedRows& to,
               int64_t begin, int64_t end);
  // Outputs [begin, end) for all packed rows. begin is a multiple of kColumnTile.
  void (*multiply)(const Product& product, const PackedRows& x, int64_t begin, int64_t end, float* scratch);
  // h = silu(gate) * up, element-wise, each of the three rounded to bf16 if `bf16`; writes f32 or bf16.
  void (*silu_mul)(const float* gate, const float* up, int64_t count, bool bf16, void* out);
  // sum[i] += weight * y[i]
  void (*add_scaled)(const float* y, float weight, int64_t count, float* sum);
};

}  // namespace hylas::cpu
