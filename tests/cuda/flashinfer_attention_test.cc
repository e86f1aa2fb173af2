// FlashInfer's FlashAttention 3 held to the CPU's attention: tails of tiles, prefixes in pages, ragged batches with
// decode rows, empty and padded rows, KV in bf16 and FP8, any cut of the work.
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "cuda/flashinfer_side.h"

namespace hylas::test {
namespace {

constexpr int64_t kDim = 256;
constexpr float kScale = 0.0625f;

struct Fa3Case {
  int64_t heads, kv_heads;
  DType kv;
  int32_t page_size;
};

using Rows = std::vector<RowSpec>;

// What attention reads. Pages lie in a random order; what is behind a row's last position, and pages of nobody, are
// poison.
struct Fa3Inputs {
  Fa3Inputs(std::mt19937& random, const Fa3Case& c, Rows& rows, int32_t decode_rows) {
    int64_t pages = 3;
    for (const RowSpec& row : rows) pages += (row.context + row.tokens + c.page_size - 1) / c.page_size;
    std::vector<int32_t> free(static_cast<size_t>(pages));
    std::iota(free.begin(), free.end(), 0);
    std::shuffle(free.begin(), free.end(), random);
    k = random_tensor(random, c.kv, {pages, c.kv_heads, c.page_size, kDim}, 1.f);
    v = random_tensor(random, c.kv, {pages, c.kv_heads, c.page_size, kDim}, 1.f);
    for (RowSpec& row : rows) {
      for (int32_t p = 0; p < row.context + row.tokens; p += c.page_size) {
        poison_page(c, free.back(), row.context + row.tokens - p);
        row.pages.push_back(free.back());
        free.pop_back();
      }
    }
    for (int32_t page : free) poison_page(c, page, 0);
    batch = std::make_unique<HostBatch>(rows, decode_rows, c.page_size);
    const int64_t tokens = batch->batch.tokens;
    q = random_tensor(random, DType::kBF16, {tokens, c.heads, kDim}, 1.f, 8);
    qg = random_tensor(random, DType::kBF16, {tokens, c.heads, 2 * kDim}, 1.f);
  }
  // Positions from `first` on.
  void poison_page(const Fa3Case& c, int32_t page, int64_t first) {
    const int64_t row_bytes = kDim * dtype_bytes(c.kv);
    for (int64_t head = 0; head < c.kv_heads; ++head) {
      for (int64_t i = first; i < c.page_size; ++i) {
        const int64_t at = ((page * c.kv_heads + head) * c.page_size + i) * row_bytes;
        for (HostTensor* pool : {&k, &v}) std::fill_n(pool->bytes.begin() + at, row_bytes, std::byte{0xff});
      }
    }
  }
  HostTensor k, v, q, qg;
  std::unique_ptr<HostBatch> batch;
};

HostTensor no_output(const Fa3Case& c, int64_t tokens) { return poisoned(DType::kBF16, {tokens, c.heads, kDim}, 8); }

class FlashInferAttention : public testing::TestWithParam<Fa3Case> {
 protected:
  void compare(Rows rows, int32_t decode_rows) {
    const Fa3Case& c = GetParam();
    const Fa3Inputs in(random_, c, rows, decode_rows);
    const BatchOnDevice dbatch(*in.batch);
    HostTensor out = no_output(c, in.batch->batch.tokens);
    const OnDevice dk(in.k), dv(in.v), dq(in.q), dqg(in.qg), dout(out);
    cpu_ops().attention(in.q, in.qg, in.batch->batch, {in.k, in.v}, kScale, out);
    run_on(flashinfer_ops(), [&](Ops& ops) { ops.attention(dq, dqg, dbatch.batch, {dk, dv}, kScale, dout); });
    EXPECT_TRUE(near_in_parts(dout, out, 6e-3, 0.02, kDim)) << "a row is a token, a part a head";
  }
  std::mt19937 random_{77};
};

INSTANTIATE_TEST_SUITE_P(Kinds, FlashInferAttention,
                         testing::Values(Fa3Case{16, 2, DType::kBF16, 64}, Fa3Case{16, 2, DType::kF8E4M3, 64},
                                         Fa3Case{16, 4, DType::kF8E4M3, 128}, Fa3Case{32, 2, DType::kBF16, 64},
                                         Fa3Case{4, 1, DType::kF8E4M3, 64}));

TEST_P(FlashInferAttention, OneRowOfEveryTail) {
  for (int32_t tokens : {1, 63, 64, 65, 127, 128, 129, 300}) {
    for (int32_t context : {0, 1, 63, 64, 200}) {
      SCOPED_TRACE(testing::Message() << tokens << " tokens after " << context);
      compare({{tokens, context, -1, 0}}, 0);
    }
  }
}

TEST_P(FlashInferAttention, RaggedBatches) {
  const std::vector<std::pair<Rows, int32_t>> batches = {
      {{{64, 0, -1, 0}, {1, 64, 1, 1}, {63, 0, -1, 2}, {128, 128, 3, 3}, {65, 0, -1, 4}, {127, 64, 5, 5}}, 0},
      {{{1, 700, 0, 0}, {1, 90, -1, -1}, {5, 0, -1, 4}, {130, 0, -1, 1}, {0, 0, -1, 2}, {3, 126, 3, 3}}, 2},
      {{{333, 200, 0, 0}, {9, 0, -1, -1}, {0, 70, 1, 1}, {2, 0, -1, 2}}, 0},
      {{{1, 63, 0, 0}, {0, 0, -1, 1}}, 1}};  // no prefill token at all
  for (size_t i = 0; i < batches.size(); ++i) {
    SCOPED_TRACE(testing::Message() << "batch " << i);
    compare(batches[i].first, batches[i].second);
  }
}

// A row alone, among others, and where the workspace holds one KV head of one row at a time: the same bits.
TEST_P(FlashInferAttention, ARowIsTheSameInEveryBatch) {
  const Fa3Case& c = GetParam();
  Rows rows = {{1, 700, 0, 0}, {100, 130, 1, 1}, {33, 0, -1, 2}, {260, 64, 3, 3}};
  const Fa3Inputs in(random_, c, rows, 1);
  const BatchOnDevice dbatch(*in.batch);
  const OnDevice dk(in.k), dv(in.v), dq(in.q), dqg(in.qg);
  const auto run = [&](Ops& on, const Batch& part, int64_t begin) {
    OnDevice out(no_output(c, part.tokens));
    run_on(on, [&](Ops& ops) {
      ops.attention(dq.view.rows(begin, part.tokens), dqg.view.rows(begin, part.tokens), part, {dk, dv}, kScale, out);
    });
    return out.host();
  };
  const HostTensor whole = run(flashinfer_ops(), dbatch.batch, 0);
  EXPECT_TRUE(same_bits(run(flashinfer_ops(), dbatch.batch, 0), whole)) << "a second time";
  const auto small =
      make_flashinfer_ops(1024 * static_cast<size_t>(dbatch.batch.page_table.dim(1) * c.page_size) + 4096);
  EXPECT_TRUE(same_bits(run(*small, dbatch.batch, 0), whole)) << "cut by heads and rows";
  for (size_t r = 0; r < rows.size(); ++r) {
    HostBatch alone({rows[r]}, r < 1 ? 1 : 0, c.page_size);
    const BatchOnDevice dalone(alone);
    const int32_t begin = in.batch->batch.row_begin.as<int32_t>()[r];
    EXPECT_TRUE(same_bits(run(flashinfer_ops(), dalone.batch, begin), whole.view.rows(begin, rows[r].tokens)))
        << "row " << r;
  }
}

// Chunks cut at multiples of 64: the same bits.
TEST_P(FlashInferAttention, ChunksDoNotMatter) {
  const Fa3Case& c = GetParam();
  Rows rows = {{300, 0, -1, 0}};
  const Fa3Inputs in(random_, c, rows, 0);
  const OnDevice dk(in.k), dv(in.v), dq(in.q), dqg(in.qg);
  const auto run = [&](const std::vector<int32_t>& ends) {
    OnDevice out(no_output(c, 300));
    int32_t begin = 0;
    for (int32_t end : ends) {
      const int32_t tokens = end - begin;
      HostBatch batch({{tokens, begin, begin == 0 ? -1 : 0, 0, rows[0].pages}}, 0, c.page_size);
      const BatchOnDevice dbatch(batch);
      run_on(flashinfer_ops(), [&](Ops& ops) {
        ops.attention(dq.view.rows(begin, tokens), dqg.view.rows(begin, tokens), dbatch.batch, {dk, dv}, kScale,
                      out.view.rows(begin, tokens));
      });
      begin = end;
    }
    return out.host();
  };
  EXPECT_TRUE(same_bits(run({64, 256, 300}), run({300})));
}

}  // namespace
}  // namespace hylas::test
