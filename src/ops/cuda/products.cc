#include "ops/cuda/products.h"

#include <algorithm>

namespace hylas::cuda {

BatchView view(const Batch& batch) {
  return {.tokens = batch.tokens,
          .rows = batch.rows,
          .decode_rows = batch.decode_rows,
          .page_size = batch.page_size,
          .row_begin = batch.row_begin.as<int32_t>(),
          .kv_len = batch.kv_len.as<int32_t>(),
          .page_table = batch.page_table.as<int32_t>(),
          .page_table_stride = batch.page_table.row_stride,
          .pages_max = static_cast<int32_t>(batch.page_table.dim(1)),
          .state_read = batch.state_read.as<int32_t>(),
          .state_write = batch.state_write.as<int32_t>()};
}

WeightView view(const LinearWeight& weight) {
  WeightView view = {weight.weight.data, weight.weight.row_stride, nullptr, 0};
  if (weight.scale) {
    view.scale = weight.scale.as<float>();
    view.scale_stride = weight.scale.row_stride;
  }
  return view;
}

Fp8Rows fp8_view(const ActRows& rows) {
  if (!rows.has_fp8()) return {};
  HYLAS_CHECK(rows.fp8.dim(0) == rows.values.dim(0) && rows.fp8.dim(1) == rows.values.row_elements() &&
                  rows.fp8.contiguous() && rows.scales.dim(0) == rows.fp8.dim(1) / kFp8Block &&
                  rows.scales.dim(1) >= rows.fp8.dim(0) && rows.scales.row_stride % 4 == 0,
              "[{}, {}] in e4m3 for [{}, {}]", rows.fp8.dim(0), rows.fp8.dim(1), rows.values.dim(0),
              rows.values.row_elements());
  return {rows.fp8.data, rows.scales.as<float>(), rows.fp8.dim(0), rows.fp8.dim(1), rows.scales.row_stride};
}

Product product_of(const ActRows& x, const LinearWeight& weight) {
  check_act(x.values);
  check_weight(weight);
  Product product;
  product.x = view(x.values);
  product.x_fp8 = fp8_view(x);
  product.weight_dtype = weight.weight.dtype;
  product.weight = view(weight);
  product.rows = x.values.dim(0);
  product.inputs = x.values.row_elements();
  product.outputs = weight.weight.dim(0);
  set_slices(product, 1);
  return product;
}

void set_slices(Product& product, int slices) {
  HYLAS_CHECK(slices >= 1 && slices <= kSlicesMax, "{} slices", slices);
  const int64_t unit = product.weight_dtype == DType::kF8E4M3 ? kFp8Block : 8;
  product.slices = slices;
  for (int s = 0; s <= slices; ++s) product.slice_begin[s] = hylas::slice_begin(product.inputs, unit, s, slices);
}

void add_part(Product& together, const Product& product) {
  const int parts = together.parts;
  ProductPart part[kPartsMax];
  std::copy_n(together.part, parts, part);
  part[parts] = {product.weight, product.out, product.outputs};
  together = product;
  together.parts = parts + 1;
  std::copy_n(part, parts + 1, together.part);
}

void multiply(const Product& product, Stream stream) {
  if (gemm_bf16_takes(product)) {
    gemm_bf16(product, stream);
  } else {
    gemm_f32(product, stream);
  }
}

void check_act(const Tensor& tensor) {
  HYLAS_CHECK(tensor.dtype == DType::kF32 || tensor.dtype == DType::kBF16, "an activation of type {}",
              dtype_name(tensor.dtype));
}

void check_weight(const LinearWeight& weight) {
  const DType dtype = weight.weight.dtype;
  HYLAS_CHECK(dtype == DType::kF32 || dtype == DType::kBF16 || (dtype == DType::kF8E4M3 && weight.scale),
              "a weight of type {}", dtype_name(dtype));
}

}  // namespace hylas::cuda
