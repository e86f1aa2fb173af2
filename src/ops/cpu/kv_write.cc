#include "ops/cpu/other_kernels.h"
#include "ops/cpu/other_ops.h"
#include "ops/cpu/views.h"

namespace hylas::cpu {
namespace {

// Where each token's keys go: element offset of kv head 0 in the pool; -1 for a padded row.
void find_offsets(const Batch& batch, const Tensor& pages, std::vector<int64_t>& offsets) {
  offsets.assign(static_cast<size_t>(batch.tokens), -1);
  const int32_t* row_begin = batch.row_begin.as<int32_t>();
  for (int32_t r = 0; r < batch.rows; ++r) {
    if (batch.state_write.as<int32_t>()[r] < 0) continue;
    int64_t position = batch.kv_len.as<int32_t>()[r] - (row_begin[r + 1] - row_begin[r]);
    for (int32_t t = row_begin[r]; t < row_begin[r + 1]; ++t, ++position) {
      int32_t page = batch.page_table.row<int32_t>(r)[position / batch.page_size];
      HYLAS_CHECK(page >= 0 && page < pages.dim(0), "row {} has page {} of {} at position {}", r, page, pages.dim(0),
                  position);
      offsets[static_cast<size_t>(t)] = page * pages.row_stride + position % batch.page_size * pages.dim(3);
    }
  }
}

}  // namespace

void qk_norm_rope_kv_write(ThreadPool& pool, Scratch& scratch, const Tensor& qg, const Tensor& k, const Tensor& v,
                           const Tensor& q_norm, const Tensor& k_norm, float eps, const Tensor& rope_table,
                           const Batch& batch, const KvPool& kv, const Tensor& q_out) {
  int64_t dim = q_norm.dim(0), heads = q_out.row_elements() / dim, kv_heads = k.row_elements() / dim;
  check_act(qg);
  HYLAS_CHECK(k.dtype == qg.dtype && v.dtype == qg.dtype && q_out.dtype == qg.dtype && k_norm.dtype == q_norm.dtype &&
                  kv.k.dtype == kv.v.dtype,
              "q, k and v of one element type");
  HYLAS_CHECK(dim % 8 == 0 && dim <= kHeadDimMax && kv.k.dim(1) == kv_heads && kv.k.dim(3) == dim &&
                  kv.k.dim(2) == batch.page_size && qg.row_elements() == 2 * heads * dim,
              "head dimension {} and pages [{}, {}, {}]", dim, kv.k.dim(1), kv.k.dim(2), kv.k.dim(3));
  find_offsets(batch, kv.k, scratch.offsets);
  QkNormRopeArgs args = {.qg = rows_of(qg),
                         .k = rows_of(k),
                         .v = rows_of(v),
                         .q_out = rows_of(q_out),
                         .q_norm = q_norm.data,
                         .k_norm = k_norm.data,
                         .norm_dtype = q_norm.dtype,
                         .eps = eps,
                         .rope = rows_of(rope_table),
                         .rotary_dim = rope_table.dim(1),
                         .heads = heads,
                         .kv_heads = kv_heads,
                         .head_dim = dim,
                         .k_pages = kv.k.data,
                         .v_pages = kv.v.data,
                         .kv_dtype = kv.k.dtype,
                         .kv_head_stride = batch.page_size * dim,
                         .offsets = scratch.offsets.data()};
  pool.parallel_for(batch.tokens, rows_at_least((heads + 2 * kv_heads) * dim),
                    [&](int64_t begin, int64_t end, int) { scratch.kernels->qk_norm_rope(args, begin, end); });
}

}  // namespace hylas::cpu
