#include "ops/cuda/attention_fa3.h"

#include <algorithm>

#include "ops/cuda/attention_gather.h"
#include "ops/cuda/flashinfer_fa3.h"

namespace hylas::cuda {
namespace {

constexpr int64_t kBf16Bytes = 2;
constexpr int64_t kPaddings = 2 * 256;  // of the pieces that are taken

bool aligned(const View& view) { return view.stride % 8 == 0 && reinterpret_cast<uintptr_t>(view.data) % 16 == 0; }

uint16_t* at(const View& view, int64_t row, int64_t column) {
  return static_cast<uint16_t*>(view.data) + row * view.stride + column;
}

void run_heads(const AttentionArgs& args, GatheredKv kv, int32_t rows_at_once, Stream stream) {
  const BatchView& batch = args.batch;
  const int64_t first_head = int64_t{kv.first_head} * (args.heads / args.kv_heads);
  Fa3Args fa3;
  fa3.q = at(args.q, batch.decode_rows, first_head * kFa3Dim);
  fa3.q_stride = args.q.stride;
  fa3.qg = at(args.qg, batch.decode_rows, 2 * first_head * kFa3Dim);
  fa3.qg_stride = args.qg.stride;
  fa3.out = at(args.out, batch.decode_rows, first_head * kFa3Dim);
  fa3.out_stride = args.out.stride;
  fa3.k = kv.k;
  fa3.v = kv.v;
  fa3.row_keys = kv.row_keys;
  fa3.first_token = batch.decode_rows;
  fa3.tokens = batch.tokens - batch.decode_rows;
  fa3.heads = kv.heads * (args.heads / args.kv_heads);
  fa3.kv_heads = kv.heads;
  fa3.scale = args.scale;
  for (int32_t first = batch.decode_rows; first < batch.rows; first += rows_at_once) {
    kv.first_row = first;
    kv.rows = fa3.rows = std::min(rows_at_once, batch.rows - first);
    fa3.row_begin = batch.row_begin + first;
    fa3.kv_len = batch.kv_len + first;
    fa3.state_write = batch.state_write + first;
    gather_kv(args, kv, stream);
    flashinfer_fa3(fa3, stream);
  }
}

}  // namespace

bool attention_fa3_takes(const AttentionArgs& args) {
  return args.q.dtype == DType::kBF16 && args.head_dim == kFa3Dim &&
         (args.kv_dtype == DType::kBF16 || args.kv_dtype == DType::kF8E4M3) && aligned(args.q) && aligned(args.qg) &&
         aligned(args.out);
}

void attention_fa3(const AttentionArgs& args, Workspace& workspace, Stream stream) {
  const BatchView& batch = args.batch;
  const int32_t rows = batch.rows - batch.decode_rows;
  if (rows == 0 || batch.tokens == batch.decode_rows) return;
  // How long each row is only the device knows: room for the longest.
  const int64_t row_keys = (int64_t{batch.pages_max} * batch.page_size + kFa3KeyTile - 1) / kFa3KeyTile * kFa3KeyTile;
  const int64_t row_bytes = 2 * row_keys * kFa3Dim * kBf16Bytes;
  const int64_t bytes = static_cast<int64_t>(workspace.bytes_left()) - kPaddings;
  int64_t heads = args.kv_heads;
  while (heads > 1 && heads * row_bytes > bytes) heads = (heads + 1) / 2;
  const int64_t fit = bytes / (heads * row_bytes);
  HYLAS_CHECK(fit > 0, "{} positions of attention in a workspace of {} bytes", row_keys, bytes);
  const int64_t rows_at_once = std::min<int64_t>(rows, fit);
  Workspace room = workspace;
  GatheredKv kv;
  kv.row_keys = static_cast<int32_t>(row_keys);
  kv.k = room.take<uint16_t>(rows_at_once * heads * row_keys * kFa3Dim);
  kv.v = room.take<uint16_t>(rows_at_once * heads * row_keys * kFa3Dim);
  for (int64_t first = 0; first < args.kv_heads; first += heads) {
    kv.first_head = static_cast<int32_t>(first);
    kv.heads = static_cast<int32_t>(std::min<int64_t>(heads, args.kv_heads - first));
    run_heads(args, kv, static_cast<int32_t>(rows_at_once), stream);
  }
}

}  // namespace hylas::cuda
