#include "ops/cuda/delta_flashinfer.h"

#include <algorithm>

namespace hylas::cuda {
namespace {

constexpr int64_t kBf16Bytes = 2;
constexpr int64_t kPaddings = 9 * 256;  // of the pieces that are taken

bool aligned(const View& view) { return view.stride % 8 == 0 && reinterpret_cast<uintptr_t>(view.data) % 16 == 0; }

int64_t token_bytes(int64_t keys, int64_t group) {
  return keys * (2 * kGdnDim * kBf16Bytes + 2 * group * static_cast<int64_t>(sizeof(float)));
}

// Of one launch. Heads and rows do not know of one another, so any cut gives the same bits.
struct Cut {
  int32_t keys = 0;  // key heads, with their value heads
  int32_t rows = 0;
};

Cut cut_for(const DeltaArgs& args, int64_t bytes) {
  const int64_t rows = args.batch.rows - args.batch.decode_rows, tokens = args.batch.tokens - args.batch.decode_rows;
  const int64_t group = args.value_heads / args.key_heads;
  const int64_t head_state_bytes = kGdnDim * kGdnDim * static_cast<int64_t>(sizeof(float));
  for (int64_t keys = args.key_heads;; keys = (keys + 1) / 2) {
    const int64_t left = bytes - kGdnMapBytes - kPaddings - tokens * token_bytes(keys, group);
    const int64_t fit = left / (keys * group * head_state_bytes);
    // A few rows are enough to keep the GPU busy; fewer only where the heads cannot be cut further.
    if (fit >= std::min<int64_t>(rows, 4) || keys == 1) {
      HYLAS_CHECK(fit > 0, "the workspace of {} bytes for {} tokens of the delta rule", bytes, tokens);
      return {static_cast<int32_t>(keys), static_cast<int32_t>(std::min(rows, fit))};
    }
  }
}

// Everything but the rows, in memory of `room`.
GdnArgs gdn_args(const DeltaArgs& args, bool normalised, const DeltaHeads& heads, int32_t rows_at_once, Workspace& room,
                 DeltaTokens& packed) {
  const BatchView& batch = args.batch;
  const int32_t tokens = batch.tokens - batch.decode_rows;
  GdnArgs gdn;
  const int64_t keys = int64_t{tokens} * heads.keys * kGdnDim, gates = int64_t{tokens} * heads.values;
  if (normalised) {
    const auto* first = static_cast<const uint16_t*>(args.qkv.data) + batch.decode_rows * args.qkv.stride;
    gdn.q = first + int64_t{heads.first_key} * kGdnDim;
    gdn.k = first + int64_t{args.key_heads + heads.first_key} * kGdnDim;
    gdn.qk_stride = args.qkv.stride;
  } else {
    gdn.q = packed.q = room.take<uint16_t>(keys);
    gdn.k = packed.k = room.take<uint16_t>(keys);
    gdn.qk_stride = int64_t{heads.keys} * kGdnDim;
  }
  gdn.alpha = packed.alpha = room.take<float>(gates);
  gdn.beta = packed.beta = room.take<float>(gates);
  gdn.maps = room.take<std::byte>(kGdnMapBytes);
  gdn.states = room.take<float>(int64_t{rows_at_once} * heads.values * kGdnDim * kGdnDim);
  gdn.v_stride = args.qkv.stride;
  gdn.v = static_cast<const uint16_t*>(args.qkv.data) + batch.decode_rows * args.qkv.stride +
          int64_t{2 * args.key_heads + heads.first_value} * kGdnDim;
  gdn.out_stride = args.out.stride;
  gdn.out = static_cast<uint16_t*>(args.out.data) + batch.decode_rows * args.out.stride +
            int64_t{heads.first_value} * kGdnDim;
  gdn.first_token = batch.decode_rows;
  gdn.tokens = tokens;
  gdn.key_heads = heads.keys;
  gdn.value_heads = heads.values;
  gdn.scale = 0.08838834764831845f;  // 128^-1/2
  return gdn;
}

void run_heads(const DeltaArgs& args, bool normalised, const DeltaHeads& heads, int32_t rows_at_once, Workspace room,
               Stream stream) {
  const BatchView& batch = args.batch;
  DeltaTokens packed;
  GdnArgs gdn = gdn_args(args, normalised, heads, rows_at_once, room, packed);
  if (gdn.tokens > 0) delta_pack_tokens(args, heads, packed, stream);
  for (int32_t first = batch.decode_rows; first < batch.rows; first += rows_at_once) {
    gdn.rows = std::min(rows_at_once, batch.rows - first);
    gdn.row_begin = batch.row_begin + first;
    gdn.state_write = batch.state_write + first;
    delta_take_states(args, heads, first, gdn.rows, gdn.states, stream);
    if (gdn.tokens > 0) flashinfer_gdn(gdn, stream);
    delta_put_states(args, heads, first, gdn.rows, gdn.states, stream);
  }
}

}  // namespace

bool delta_flashinfer_takes(const DeltaArgs& args) {
  return args.qkv.dtype == DType::kBF16 && args.key_dim == kGdnDim && args.value_dim == kGdnDim &&
         args.value_heads % args.key_heads == 0 && aligned(args.qkv) && aligned(args.out);
}

void delta_flashinfer(const DeltaArgs& args, bool normalised, Workspace& workspace, Stream stream) {
  if (args.batch.rows == args.batch.decode_rows) return;
  const Cut cut = cut_for(args, static_cast<int64_t>(workspace.bytes_left()));
  const int32_t group = args.value_heads / args.key_heads;
  for (int32_t first = 0; first < args.key_heads; first += cut.keys) {
    const int32_t keys = std::min(cut.keys, args.key_heads - first);
    const DeltaHeads heads = {.first_key = first, .keys = keys, .first_value = first * group, .values = keys * group};
    run_heads(args, normalised, heads, cut.rows, workspace, stream);
  }
}

std::optional<DeltaParts> DeltaParts::make(const DeltaArgs& args, const PrefillParts& cuts, Workspace& workspace) {
  const int32_t first = args.batch.decode_rows, rows = args.batch.rows - first;
  HYLAS_CHECK(rows == 1 || (rows > 0 && cuts.count == 1), "{} rows in {} parts", rows, cuts.count);
  const Cut all = cut_for(args, static_cast<int64_t>(workspace.bytes_left()));
  if (all.keys < args.key_heads || all.rows < rows) return std::nullopt;
  DeltaParts parts;
  parts.args_ = args;
  parts.heads_ = {.first_key = 0, .keys = args.key_heads, .first_value = 0, .values = args.value_heads};
  parts.gdn_ = gdn_args(args, true, parts.heads_, rows, workspace, parts.packed_);
  parts.gdn_.rows = rows;
  parts.gdn_.row_begin = args.batch.row_begin + first;
  parts.gdn_.state_write = args.batch.state_write + first;
  if (cuts.count > 1) {
    parts.packed_.bounds = workspace.take<int32_t>(cuts.count + 1);
    parts.packed_.parts = cuts.count;
    std::copy_n(cuts.cut, cuts.count, parts.packed_.cut);
    parts.gdn_.row_begin = parts.packed_.bounds;
  }
  return parts;
}

void DeltaParts::begin(Stream stream) const {
  delta_pack_tokens(args_, heads_, packed_, stream);
  delta_take_states(args_, heads_, args_.batch.decode_rows, gdn_.rows, gdn_.states, stream);
}

// Each part is a row of its own to the kernel; the state goes on where it was left.
void DeltaParts::run(int part, Stream stream) const {
  GdnArgs gdn = gdn_;
  gdn.row_begin += part;
  flashinfer_gdn(gdn, stream);
}

void DeltaParts::end(Stream stream) const {
  delta_put_states(args_, heads_, args_.batch.decode_rows, gdn_.rows, gdn_.states, stream);
}

}  // namespace hylas::cuda
