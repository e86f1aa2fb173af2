#include "ops/cpu/gemm.h"

#include <algorithm>

namespace hylas::cpu {

extern const GemmKernels kGemmScalar;
#if defined(__x86_64__)
extern const GemmKernels kGemmAvx2;
extern const GemmKernels kGemmAvx512;
#endif

const GemmKernels& gemm_kernels(Isa isa) {
#if defined(__x86_64__)
  if (isa == Isa::kAvx512) return kGemmAvx512;
  if (isa == Isa::kAvx2) return kGemmAvx2;
#endif
  HYLAS_CHECK(isa == Isa::kScalar, "no {} kernels in this build", isa_name(isa));
  return kGemmScalar;
}

SliceTable make_slices(int64_t inputs, WeightFormat format, int count) {
  HYLAS_CHECK(count >= 1 && count <= kSlicesTotal, "{} slices", count);
  SliceTable slices;
  slices.count = count;
  for (int i = 0; i < count; ++i) {
    slices.begin[i] = slice_begin(inputs, format == WeightFormat::kFp8 ? kFp8Block : 8, i, count);
  }
  slices.begin[count] = inputs;
  return slices;
}

Product make_product(const LinearWeight& weight, int slices) {
  const Tensor& matrix = weight.weight;
  HYLAS_CHECK(matrix.rank == 2, "a weight has two dimensions, not {}", matrix.rank);
  Product product;
  switch (matrix.dtype) {
    case DType::kF32:
      product.format = WeightFormat::kF32;
      break;
    case DType::kBF16:
      product.format = WeightFormat::kBF16;
      break;
    case DType::kF8E4M3:
      product.format = WeightFormat::kFp8;
      break;
    default:
      HYLAS_CHECK(false, "a weight of {}", dtype_name(matrix.dtype));
  }
  product.weight = matrix.data;
  product.weight_stride = matrix.row_stride * dtype_bytes(matrix.dtype);
  if (product.format == WeightFormat::kFp8) {
    HYLAS_CHECK(weight.scale.dtype == DType::kF32, "scales of {}", dtype_name(weight.scale.dtype));
    HYLAS_CHECK(weight.scale.dim(0) * kFp8Block >= matrix.dim(0) && weight.scale.dim(1) * kFp8Block >= matrix.dim(1),
                "scales [{}, {}] for a weight [{}, {}]", weight.scale.dim(0), weight.scale.dim(1), matrix.dim(0),
                matrix.dim(1));
    product.scale = weight.scale.as<float>();
    product.scale_stride = weight.scale.row_stride;
  }
  product.slices = make_slices(matrix.dim(1), product.format, slices);
  return product;
}

namespace {

int64_t inputs_of(const Product& product) { return product.slices.begin[product.slices.count]; }

int64_t scratch_few(const Product& product, int64_t rows, int64_t outputs, int lanes) {
  int64_t floats = multiply_totals(outputs, lanes);
  if (product.format != WeightFormat::kFp8) return floats;
  int64_t row_values = 0;
  for (int s = 0; s < product.slices.count; ++s) row_values += product.slices.steps(s, 4, lanes) * lanes;
  floats += kRowsFew * row_values;
  return rows > kRowsDirect ? floats + std::min(outputs, kScaleBlock) * row_values / 2 : floats;
}

// A panel, the rows of a block times a scale, and the sums of the block.
int64_t scratch_many(int64_t outputs, int lanes) {
  int64_t columns = (outputs + kColumnTile - 1) / kColumnTile * kColumnTile;
  return kPartMany * (kColumnTile + kRowsMany + 1) + (kRowsMany + 1) * columns * lanes;
}

}  // namespace

int64_t multiply_scratch(const Product& product, int64_t rows, int64_t outputs, int lanes) {
  return rows > kRowsFew ? scratch_many(outputs, lanes) : scratch_few(product, rows, outputs, lanes);
}

int64_t piece_outputs(const Product& product, int64_t rows, int64_t bytes) {
  if (rows > kRowsFew) return product.format == WeightFormat::kFp8 ? kScaleBlock : kScaleBlock / 2;
  int64_t element = product.format == WeightFormat::kF32 ? 4 : product.format == WeightFormat::kBF16 ? 2 : 1;
  if (product.format == WeightFormat::kFp8 && rows > kRowsDirect) element = 2;
  int64_t tiles = bytes / std::max<int64_t>(inputs_of(product) * element, 1) / kColumnTile;
  return std::max<int64_t>(tiles, 1) * kColumnTile;
}

}  // namespace hylas::cpu
