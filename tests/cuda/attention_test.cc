// Rotary embedding, the KV write and attention on the GPU, over ragged batches with padding and empty rows.
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "cuda/rows_side.h"

namespace hylas::test {
namespace {

struct AttentionCase {
  int64_t heads, kv_heads, dim;
  DType act, kv;
  int32_t page_size;
  int32_t rotary;
};

// A batch of rows with pages in a random order.
HostBatch make_batch(std::mt19937& random, std::vector<RowSpec> rows, int32_t decode_rows, const AttentionCase& c,
                     int64_t& pages) {
  pages = 3;
  for (const RowSpec& row : rows) pages += (row.context + row.tokens + c.page_size - 1) / c.page_size;
  std::vector<int32_t> free(static_cast<size_t>(pages));
  std::iota(free.begin(), free.end(), 0);
  std::shuffle(free.begin(), free.end(), random);
  for (RowSpec& row : rows) {
    for (int32_t p = 0; p < row.context + row.tokens; p += c.page_size) {
      row.pages.push_back(free.back());
      free.pop_back();
    }
  }
  return HostBatch(rows, decode_rows, c.page_size);
}

std::vector<std::vector<RowSpec>> batches() {
  return {{{1, 0, -1, 0}},                                                    // the first token of all
          {{1, 63, 0, 0}, {1, 64, 1, 1}, {1, 300, -1, -1}, {1, 1000, 2, 2}},  // decode, one padded
          {{1, 700, 0, 0}, {5, 0, -1, -1}, {130, 0, -1, 1}, {0, 0, -1, 2}, {3, 126, 3, 3}, {64, 64, 4, 4}},
          {{333, 200, 0, 0}}};
}

class CudaAttention : public testing::TestWithParam<AttentionCase> {
 protected:
  std::mt19937 random_{74};
};
INSTANTIATE_TEST_SUITE_P(Kinds, CudaAttention,
                         testing::Values(AttentionCase{16, 2, 256, DType::kBF16, DType::kBF16, 64, 64},
                                         AttentionCase{16, 2, 256, DType::kBF16, DType::kF8E4M3, 64, 64},
                                         AttentionCase{4, 1, 256, DType::kBF16, DType::kBF16, 128, 64},
                                         AttentionCase{32, 2, 256, DType::kBF16, DType::kF8E4M3, 64, 64},
                                         AttentionCase{16, 4, 256, DType::kBF16, DType::kF8E4M3, 128, 64},
                                         AttentionCase{3, 1, 256, DType::kBF16, DType::kF8E4M3, 64, 64},
                                         AttentionCase{16, 1, 256, DType::kBF16, DType::kBF16, 64, 64},
                                         AttentionCase{16, 4, 256, DType::kBF16, DType::kBF16, 16, 64},
                                         AttentionCase{8, 2, 32, DType::kF32, DType::kF32, 16, 8},
                                         AttentionCase{6, 1, 24, DType::kF32, DType::kF8E4M3, 1, 24},
                                         AttentionCase{8, 8, 256, DType::kF32, DType::kBF16, 64, 64},
                                         AttentionCase{4, 2, 40, DType::kBF16, DType::kF32, 64, 40}));

int32_t decode_rows(const std::vector<RowSpec>& rows) {
  int32_t count = 0;
  while (count < static_cast<int32_t>(rows.size()) && rows[static_cast<size_t>(count)].tokens == 1) ++count;
  return count;
}

TEST_P(CudaAttention, KeysAndValuesArriveAndQueriesSeeThem) {
  const AttentionCase& c = GetParam();
  for (const std::vector<RowSpec>& rows : batches()) {
    int64_t pages = 0;
    HostBatch batch = make_batch(random_, rows, decode_rows(rows), c, pages);
    const BatchOnDevice dbatch(batch);
    const int64_t tokens = batch.batch.tokens;
    HostTensor table = poisoned(DType::kF32, {tokens, c.rotary});
    OnDevice dtable(table);
    const RopeConfig rope{c.rotary, 1e7f, {11, 11, 10}};
    cpu_ops().rope_table(batch.batch.positions, rope, table);
    cuda_ops().rope_table(dbatch.batch.positions, rope, dtable);
    EXPECT_TRUE(equal(dtable, table, 1e-7, 1e-6));

    HostTensor qg = random_tensor(random_, c.act, {tokens, c.heads, 2 * c.dim}, 1.f),
               q = poisoned(c.act, {tokens, c.heads, c.dim});
    HostTensor k = random_tensor(random_, c.act, {tokens, c.kv_heads, c.dim}, 1.f, 8);
    HostTensor v = random_tensor(random_, c.act, {tokens, c.kv_heads, c.dim}, 1.f);
    HostTensor q_norm = random_tensor(random_, DType::kBF16, {c.dim}, 0.2f),
               k_norm = random_tensor(random_, DType::kBF16, {c.dim}, 0.2f);
    // What earlier steps wrote; rows overwrite their own positions.
    HostTensor k_pages = random_tensor(random_, c.kv, {pages, c.kv_heads, c.page_size, c.dim}, 1.f);
    HostTensor v_pages = random_tensor(random_, c.kv, {pages, c.kv_heads, c.page_size, c.dim}, 1.f);
    OnDevice dqg(qg), dq(q), dk(k), dv(v), dq_norm(q_norm), dk_norm(k_norm), dk_pages(k_pages), dv_pages(v_pages);
    cpu_ops().qk_norm_rope_kv_write(qg, k, v, q_norm, k_norm, 1e-6f, table, batch.batch, {k_pages, v_pages}, q);
    cuda_ops().qk_norm_rope_kv_write(dqg, dk, dv, dq_norm, dk_norm, 1e-6f, dtable, dbatch.batch, {dk_pages, dv_pages},
                                     dq);
    EXPECT_TRUE(equal(dq, q, 1e-5, 2 * rounding(c.act)));
    EXPECT_TRUE(equal(dk_pages, k_pages, 2e-3, 2 * rounding(c.kv)));
    EXPECT_TRUE(equal(dv_pages, v_pages, 0, 0));

    // Both sides on the CPU's keys: one key on the other side of a rounding would show.
    OnDevice dq_same(q), dk_same(k_pages), dv_same(v_pages);
    HostTensor out = poisoned(c.act, {tokens, c.heads, c.dim});
    OnDevice dout(out);
    const float scale = 1.f / std::sqrt(static_cast<float>(c.dim));
    cpu_ops().attention(q, qg, batch.batch, {k_pages, v_pages}, scale, out);
    cuda_ops().attention(dq_same, dqg, dbatch.batch, {dk_same, dv_same}, scale, dout);
    EXPECT_TRUE(near(dout, out, c.act == DType::kBF16 ? 6e-3 : 1e-5)) << tokens << " tokens";
    if (c.heads * c.dim % kFp8Block != 0 || c.act != DType::kBF16) continue;
    const RowsOnDevice drows({tokens, c.heads, c.dim});
    cuda_ops().attention(dq_same, dqg, dbatch.batch, {dk_same, dv_same}, scale, drows.in(RowForm::kBoth));
    EXPECT_TRUE(quantized_like(drows, dout.host().view, [&](int64_t t) { return std::isnan(get(out, t, 0)); }));
  }
}

// A row alone and among others: the same bits.
TEST_P(CudaAttention, ARowIsTheSameInEveryBatch) {
  const AttentionCase& c = GetParam();
  const std::vector<RowSpec> rows = {{1, 700, 0, 0}, {1, 90, 1, 1}, {100, 130, 2, 2}, {33, 0, -1, 3}};
  int64_t pages = 0;
  HostBatch batch = make_batch(random_, rows, 2, c, pages);
  const BatchOnDevice dbatch(batch);
  HostTensor qg = random_tensor(random_, c.act, {135, c.heads, 2 * c.dim}, 1.f),
             q = random_tensor(random_, c.act, {135, c.heads, c.dim}, 1.f);
  HostTensor k_pages = random_tensor(random_, c.kv, {pages, c.kv_heads, c.page_size, c.dim}, 1.f);
  HostTensor v_pages = random_tensor(random_, c.kv, {pages, c.kv_heads, c.page_size, c.dim}, 1.f);
  OnDevice dqg(qg), dq(q), dk(k_pages), dv(v_pages), dout(poisoned(c.act, {135, c.heads, c.dim}));
  cuda_ops().attention(dq, dqg, dbatch.batch, {dk, dv}, 0.06f, dout);
  const HostTensor whole = dout.host();
  for (size_t r = 0; r < rows.size(); ++r) {
    const int32_t begin = batch.batch.row_begin.as<int32_t>()[r];
    RowSpec row = rows[r];
    const Tensor table = batch.batch.page_table.rows(static_cast<int64_t>(r), 1);
    for (int32_t p = 0; p < row.context + row.tokens; p += c.page_size)
      row.pages.push_back(table.as<int32_t>()[p / c.page_size]);
    HostBatch alone({row}, r < 2 ? 1 : 0, c.page_size);
    const BatchOnDevice dalone(alone);
    OnDevice dmine(poisoned(c.act, {row.tokens, c.heads, c.dim}));
    cuda_ops().attention(dq.view.rows(begin, row.tokens), dqg.view.rows(begin, row.tokens), dalone.batch, {dk, dv},
                         0.06f, dmine);
    const HostTensor mine = dmine.host();
    EXPECT_EQ(std::memcmp(mine.view.data, whole.view.rows(begin, row.tokens).data, mine.view.bytes()), 0)
        << "row " << r;
  }
}

// Decode rows of any length whose pages are drawn from a few: more pieces of contexts than blocks on a GPU.
std::vector<RowSpec> decode_rows_over(std::mt19937& random, int32_t rows, int32_t length_max, int32_t page_size,
                                      int32_t pages) {
  std::vector<RowSpec> specs;
  for (int32_t r = 0; r < rows; ++r) {
    const auto context = static_cast<int32_t>(random() % static_cast<uint32_t>(length_max));
    RowSpec row = {1, r % 13 == 0 ? 128 * (r % 3) : context, -1, r % 7 == 3 ? -1 : r};
    for (int32_t p = 0; p <= row.context; p += page_size)
      row.pages.push_back(static_cast<int32_t>(random() % static_cast<uint32_t>(pages)));
    specs.push_back(row);
  }
  return specs;
}

TEST_P(CudaAttention, ManyDecodeRowsAreTheCpusAndTheSameAlone) {
  const AttentionCase& c = GetParam();
  constexpr int32_t kRows = 150;
  const int32_t pages = 1024 / c.page_size;
  const std::vector<RowSpec> rows = decode_rows_over(random_, kRows, 900, c.page_size, pages);
  HostBatch batch(rows, kRows, c.page_size);
  const BatchOnDevice dbatch(batch);
  HostTensor qg = random_tensor(random_, c.act, {kRows, c.heads, 2 * c.dim}, 1.f, 16),
             q = random_tensor(random_, c.act, {kRows, c.heads, c.dim}, 2.f, 8);
  HostTensor k_pages = random_tensor(random_, c.kv, {pages, c.kv_heads, c.page_size, c.dim}, 1.f);
  HostTensor v_pages = random_tensor(random_, c.kv, {pages, c.kv_heads, c.page_size, c.dim}, 1.f);
  HostTensor out = poisoned(c.act, {kRows, c.heads, c.dim}, 8);
  OnDevice dqg(qg), dq(q), dk(k_pages), dv(v_pages), dout(out);
  cpu_ops().attention(q, qg, batch.batch, {k_pages, v_pages}, 0.06f, out);
  cuda_ops().attention(dq, dqg, dbatch.batch, {dk, dv}, 0.06f, dout);
  EXPECT_TRUE(near(dout, out, c.act == DType::kBF16 ? 6e-3 : 1e-5));
  if (c.heads * c.dim % kFp8Block == 0 && c.act == DType::kBF16) {
    for (const RowForm form : {RowForm::kBoth, RowForm::kFp8}) {
      const RowsOnDevice drows({kRows, c.heads, c.dim});
      cuda_ops().attention(dq, dqg, dbatch.batch, {dk, dv}, 0.06f, drows.in(form));
      EXPECT_TRUE(quantized_like(drows, dout.host().view, [&](int64_t r) { return rows[r].write < 0; }));
    }
  }
  const HostTensor whole = dout.host();
  for (int32_t r = 0; r < kRows; r += 9) {
    const HostBatch alone({rows[static_cast<size_t>(r)]}, 1, c.page_size);
    const BatchOnDevice dalone(alone);
    OnDevice dmine(poisoned(c.act, {1, c.heads, c.dim}));
    cuda_ops().attention(dq.view.rows(r, 1), dqg.view.rows(r, 1), dalone.batch, {dk, dv}, 0.06f, dmine);
    const HostTensor mine = dmine.host();
    EXPECT_EQ(std::memcmp(mine.view.data, whole.view.rows(r, 1).data, mine.view.bytes()), 0) << "row " << r;
  }
}

// More pieces of one context than the merge has threads.
TEST(CudaAttentionDecode, ALongContext) {
  std::mt19937 random(76);
  constexpr int32_t kContext = 33'000, kPages = 40;
  for (const DType kv : {DType::kF8E4M3, DType::kBF16}) {
    RowSpec row = {1, kContext, 0, 0};
    for (int32_t p = 0; p <= kContext; p += 64) row.pages.push_back(static_cast<int32_t>(random() % kPages));
    const HostBatch batch({row}, 1);
    const BatchOnDevice dbatch(batch);
    HostTensor qg = random_tensor(random, DType::kBF16, {1, 4, 512}, 1.f),
               q = random_tensor(random, DType::kBF16, {1, 4, 256}, 2.f);
    HostTensor k = random_tensor(random, kv, {kPages, 1, 64, 256}, 1.f);
    HostTensor v = random_tensor(random, kv, {kPages, 1, 64, 256}, 1.f);
    HostTensor out = poisoned(DType::kBF16, {1, 4, 256});
    OnDevice dqg(qg), dq(q), dk(k), dv(v), dout(out);
    cpu_ops().attention(q, qg, batch.batch, {k, v}, 0.06f, out);
    cuda_ops().attention(dq, dqg, dbatch.batch, {dk, dv}, 0.06f, dout);
    EXPECT_TRUE(near(dout, out, 1e-2)) << dtype_name(kv);
  }
}

}  // namespace
}  // namespace hylas::test
