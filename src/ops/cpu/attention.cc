#include <algorithm>
#include <bit>

#include "ops/cpu/other_kernels.h"
#include "ops/cpu/other_ops.h"
#include "ops/cpu/views.h"

namespace hylas::cpu {
namespace {

constexpr int32_t kQueriesAtOnce = 64;  // (token, head) pairs over one conversion of keys and values

int64_t splits_of(int64_t positions) { return (positions + kSplit - 1) / kSplit; }

// Work by row, kv head and range of tokens; the longest contexts of a row come first. The context of a single token is
// cut too if there are few heads for the threads: the result is the same.
void cut_items(const Batch& batch, int32_t kv_heads, int32_t tokens_at_once, int threads,
               std::vector<WorkItem>& items) {
  items.clear();
  const bool cut_contexts = batch.rows * kv_heads < 4 * threads;
  const int32_t* row_begin = batch.row_begin.as<int32_t>();
  for (int32_t r = 0; r < batch.rows; ++r) {
    if (batch.state_write.as<int32_t>()[r] < 0) continue;
    int64_t splits = splits_of(batch.kv_len.as<int32_t>()[r]);
    if (cut_contexts && row_begin[r + 1] - row_begin[r] == 1 && splits > 1) {
      for (int32_t head = 0; head < kv_heads; ++head) {
        for (int32_t i = 0; i < splits; ++i) items.push_back({r, head, row_begin[r], row_begin[r + 1], i});
      }
      continue;
    }
    for (int32_t end = row_begin[r + 1]; end > row_begin[r]; end -= tokens_at_once) {
      for (int32_t head = 0; head < kv_heads; ++head) {
        items.push_back({r, head, std::max(row_begin[r], end - tokens_at_once), end});
      }
    }
  }
}

void check_pages(const Batch& batch, const Tensor& pages) {
  for (int32_t r = 0; r < batch.rows; ++r) {
    if (batch.state_write.as<int32_t>()[r] < 0) continue;
    int64_t needed = (batch.kv_len.as<int32_t>()[r] + batch.page_size - 1) / batch.page_size;
    HYLAS_CHECK(needed <= batch.page_table.dim(1), "{} pages in a table of {}", needed, batch.page_table.dim(1));
    const int32_t* table = batch.page_table.row<int32_t>(r);
    for (int64_t j = 0; j < needed; ++j) {
      HYLAS_CHECK(table[j] >= 0 && table[j] < pages.dim(0), "row {} has page {} of {}", r, table[j], pages.dim(0));
    }
  }
}

}  // namespace

void attention(ThreadPool& pool, Scratch& scratch, const Tensor& q, const Tensor& qg, const Batch& batch,
               const KvPool& kv, float scale, const Tensor& out) {
  int32_t dim = static_cast<int32_t>(kv.k.dim(3)), kv_heads = static_cast<int32_t>(kv.k.dim(1));
  int32_t heads = static_cast<int32_t>(q.row_elements()) / dim;
  check_act(q);
  HYLAS_CHECK(qg.dtype == q.dtype && out.dtype == q.dtype && kv.k.dtype == kv.v.dtype, "q, gate and out of one type");
  HYLAS_CHECK(dim % 8 == 0 && dim <= kHeadDimMax && heads % kv_heads == 0 && kv.k.dim(2) == batch.page_size,
              "{} heads of {} over {} kv heads in pages of {}", heads, dim, kv_heads, kv.k.dim(2));
  HYLAS_CHECK(std::has_single_bit(static_cast<uint32_t>(batch.page_size)), "pages of {} positions", batch.page_size);
  check_pages(batch, kv.k);
  AttentionArgs args = {.q = rows_of(q),
                        .qg = rows_of(qg),
                        .out = rows_of(out),
                        .k_pages = kv.k.data,
                        .v_pages = kv.v.data,
                        .kv_dtype = kv.k.dtype,
                        .page_stride = kv.k.row_stride,
                        .page_size = batch.page_size,
                        .page_shift = std::countr_zero(static_cast<uint32_t>(batch.page_size)),
                        .heads = heads,
                        .kv_heads = kv_heads,
                        .head_dim = dim,
                        .scale = scale};
  int32_t tokens_at_once = std::max(1, kQueriesAtOnce / (heads / kv_heads));
  cut_items(batch, kv_heads, tokens_at_once, pool.size(), scratch.items);
  size_t floats = static_cast<size_t>(scratch.kernels->attention_floats(args, tokens_at_once));
  int64_t sums_floats = scratch.kernels->attention_sums_floats(args, 1);
  int64_t count = static_cast<int64_t>(scratch.items.size());
  bool are_cut =
      std::any_of(scratch.items.begin(), scratch.items.end(), [](const WorkItem& w) { return w.split >= 0; });
  float* sums = scratch.splits.take(are_cut ? static_cast<size_t>(count * sums_floats) : 0);
  const int32_t* row_begin = batch.row_begin.as<int32_t>();
  auto item_of = [&](int64_t index) {
    const WorkItem& work = scratch.items[static_cast<size_t>(index)];
    int64_t row_position = batch.kv_len.as<int32_t>()[work.row] - (row_begin[work.row + 1] - row_begin[work.row]);
    return AttentionItem{.kv_head = work.head,
                         .token_begin = work.token_begin,
                         .token_end = work.token_end,
                         .position = row_position + (work.token_begin - row_begin[work.row]),
                         .pages = batch.page_table.row<int32_t>(work.row),
                         .begin = std::max(work.split, 0) * int64_t{kSplit},
                         .sums = work.split >= 0 ? sums + index * sums_floats : nullptr};
  };
  auto memory = [&](int thread) { return scratch.threads[static_cast<size_t>(thread)].floats.take(floats); };
  pool.parallel_items(
      count, [&](int64_t index, int thread) { scratch.kernels->attention(args, item_of(index), memory(thread)); });
  if (!are_cut) return;
  pool.parallel_items(count, [&](int64_t index, int thread) {
    if (scratch.items[static_cast<size_t>(index)].split != 0) return;
    AttentionItem item = item_of(index);
    scratch.kernels->attention_combine(args, item, splits_of(item.position + 1), memory(thread));
  });
}

}  // namespace hylas::cpu
