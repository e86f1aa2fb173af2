#include "ops/cuda/gemm_decode.h"

#include <algorithm>
#include <cstdlib>
#include <functional>

namespace hylas::cuda {
namespace {

constexpr int64_t kScaleInputs = 128;  // of a scale

bool at(const void* data, uintptr_t unit) { return reinterpret_cast<uintptr_t>(data) % unit == 0; }
bool is_fp8(const Product& p) { return p.weight_dtype == DType::kF8E4M3; }
int64_t value_bytes(const Product& p) { return is_fp8(p) ? 1 : 2; }
bool lies_before(const void* a, const void* b) { return std::less<>()(a, b); }

int parts_of(const Product& p) { return p.parts > 0 ? p.parts : 1; }
ProductPart part_of(const Product& p, int i) {
  return p.parts > 0 ? p.part[i] : ProductPart{p.weight, p.out, p.outputs};
}

bool fits(const Product& p, const WeightView& weight) {
  return weight.stride * value_bytes(p) % 16 == 0 && at(weight.data, 16);
}
bool fits(const Product& p, const ProductPart& part) {
  return part.outputs > 0 && part.outputs % kDecodeGroup == 0 && part.out.stride % 4 == 0 && fits(p, part.weight) &&
         at(part.out.data, 16) && (part.out.dtype == DType::kBF16 || (part.out.dtype == DType::kF32 && !p.paired));
}
bool fits_beside(const Product& p, const WeightView& other) {
  return p.parts == 0 && !is_fp8(p) && fits(p, other) && other.data != p.weight.data && other.stride == p.weight.stride;
}

}  // namespace

size_t DecodeGemm::Hash::operator()(const Key& key) const {
  size_t hash = 0;
  for (const size_t word :
       {reinterpret_cast<size_t>(key.data), reinterpret_cast<size_t>(key.other), static_cast<size_t>(key.outputs),
        static_cast<size_t>(key.bytes), static_cast<size_t>(key.stride_bytes), static_cast<size_t>(key.groups)}) {
    hash = (hash ^ word) * 0x9e3779b97f4a7c15u;
    hash ^= hash >> 32;
  }
  return hash;
}

bool DecodeGemm::takes(const Product& p) const {
  if (p.x.dtype != DType::kBF16 || (p.weight_dtype != DType::kBF16 && !is_fp8(p)) || p.weights || p.x_index ||
      p.out_index || p.rows == 0 || p.rows > (is_fp8(p) ? kDecodeFp8RowsMax : kDecodeRowsMax) ||
      p.inputs % (is_fp8(p) ? kScaleInputs : 8) != 0 || p.slice_stride % 4 != 0) {
    return false;
  }
  if (!is_fp8(p)) {
    if (p.x.stride % 8 != 0 || !at(p.x.data, 16)) return false;
    for (int s = 0; s < p.slices; ++s) {
      const bool whole = p.slice_begin[s] * value_bytes(p) % kDecodeStep == 0;
      if (!whole || p.slice_begin[s] == p.slice_begin[s + 1]) return false;
    }
  }
  if (p.paired && !fits_beside(p, p.other)) return false;
  for (int i = 0; i < parts_of(p); ++i) {
    if (!fits(p, part_of(p, i))) return false;
  }
  return !is_fp8(p) || tile(p, kDecodeFp8RowsMax).groups >= kDecodeFp8GroupsMin;  // whatever the number of rows
}

DecodeTile DecodeGemm::tile(const Product& p, int64_t rows) const {
  int64_t outputs[kPartsMax];
  for (int i = 0; i < parts_of(p); ++i) outputs[i] = part_of(p, i).outputs;
  return decode_tile({.fp8 = is_fp8(p),
                      .rows = rows,
                      .slices = is_fp8(p) ? 1 : p.slices,
                      .paired = p.paired,
                      .outputs = {outputs, static_cast<size_t>(parts_of(p))},
                      .multiprocessors = multiprocessors_});
}

const CUtensorMap& DecodeGemm::map(const Key& key) {
  const auto [found, is_new] = maps_.try_emplace(key);
  if (is_new) {
    const auto* first = static_cast<const std::byte*>(key.data);
    const auto* second = static_cast<const std::byte*>(key.other);
    found->second =
        tensor_map(RowGroupsMap{.data = second && lies_before(second, first) ? second : first,
                                .matrices = second ? 2 : 1,
                                .groups = key.outputs / kDecodeGroup,
                                .columns = key.bytes,
                                .matrix_stride = second ? std::abs(second - first) : key.outputs * key.stride_bytes,
                                .stride = key.stride_bytes,
                                .box_matrices = second ? 2 : 1,
                                .box_groups = second ? key.groups / 2 : key.groups});
  }
  return found->second;
}

void DecodeGemm::run(const Product& p, const DecodeTile& tile, Stream stream) {
  DecodeArgs args = {};
  args.fp8 = is_fp8(p);
  args.x = tensor_map(MatrixMap{.data = args.fp8 ? p.x_fp8.data : p.x.data,
                                .dtype = args.fp8 ? DType::kU8 : DType::kBF16,
                                .rows = p.rows,
                                .columns = p.inputs,
                                .stride = args.fp8 ? p.inputs : p.x.stride,
                                .box_rows = tile.columns,
                                .box_columns = static_cast<int32_t>(kDecodeStep / value_bytes(p))});
  if (args.fp8) {
    const Fp8Rows& rows = p.x_fp8;
    args.x_scale = tensor_map(MatrixMap{.data = rows.scale,
                                        .dtype = DType::kF32,
                                        .rows = p.inputs / kScaleInputs,
                                        .columns = (p.rows + 3) / 4 * 4,
                                        .stride = rows.scale_stride,
                                        .box_rows = 1,
                                        .box_columns = tile.columns,
                                        .swizzled = false});
  }
  args.parts = parts_of(p);
  args.paired = p.paired;
  args.other_is_gated = p.paired && lies_before(p.other.data, p.weight.data);
  for (int i = 0; i < args.parts; ++i) {
    const ProductPart part = part_of(p, i);
    DecodePart& to = args.part[i];
    to.map = map({part.weight.data, p.paired ? p.other.data : nullptr, part.outputs, p.inputs * value_bytes(p),
                  part.weight.stride * value_bytes(p), tile.groups});
    to.out = part.out;
    to.outputs = part.outputs;
    to.scale = part.weight.scale;
    to.scale_stride = part.weight.scale_stride;
  }
  args.rows = p.rows;
  args.slices = args.fp8 ? 1 : p.slices;
  std::copy_n(p.slice_begin, p.slices + 1, args.slice_begin);
  if (args.fp8) args.slice_begin[1] = p.inputs;
  args.slice_stride = p.slice_stride;
  decode_product(args, tile, stream);
}

}  // namespace hylas::cuda
