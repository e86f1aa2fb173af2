// Rotary embedding, the KV write and paged attention.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "support/reference_ops.h"

namespace hylas::test {
namespace {

class Attention : public PerIsa {};
HYLAS_PER_ISA(Attention);

struct HeadShape {
  int64_t heads, kv_heads, dim;
};

// A pool of pages in a random order; pages that a row does not own stay poisoned.
struct PagedKv {
  PagedKv(DType dtype, int64_t pages, const HeadShape& shape, int32_t page_size)
      : k(poisoned(dtype, {pages, shape.kv_heads, page_size, shape.dim})),
        v(poisoned(dtype, {pages, shape.kv_heads, page_size, shape.dim})) {}
  HostTensor k, v;
  KvPool pool() const { return {k.view, v.view}; }
  // The stored vector of a position under a kv head.
  static std::vector<double> at(const Tensor& pool, const std::vector<int32_t>& pages, int64_t head, int64_t position) {
    int64_t page = pages[static_cast<size_t>(position / pool.dim(2))];
    std::vector<double> result;
    for (int64_t d = 0; d < pool.dim(3); ++d) {
      result.push_back(get(pool, page, (head * pool.dim(2) + position % pool.dim(2)) * pool.dim(3) + d));
    }
    return result;
  }
  void fill(std::mt19937& random, const std::vector<int32_t>& pages, int64_t positions) {
    std::normal_distribution<float> normal(0.f, 1.f);
    for (int64_t p = 0; p < positions; ++p) {
      for (int64_t h = 0; h < k.view.dim(1); ++h) {
        for (int64_t d = 0; d < k.view.dim(3); ++d) {
          int64_t index = (h * k.view.dim(2) + p % k.view.dim(2)) * k.view.dim(3) + d;
          set(k, pages[static_cast<size_t>(p / k.view.dim(2))], index, normal(random));
          set(v, pages[static_cast<size_t>(p / k.view.dim(2))], index, normal(random));
        }
      }
    }
  }
};

std::vector<int32_t> take_pages(std::vector<int32_t>& free, int64_t positions, int32_t page_size) {
  std::vector<int32_t> pages;
  for (int64_t p = 0; p < positions; p += page_size) {
    pages.push_back(free.back());
    free.pop_back();
  }
  return pages;
}

std::vector<int32_t> shuffled_pages(std::mt19937& random, int32_t count) {
  std::vector<int32_t> pages(static_cast<size_t>(count));
  std::iota(pages.begin(), pages.end(), 0);
  std::shuffle(pages.begin(), pages.end(), random);
  return pages;
}

std::vector<double> slice(const std::vector<double>& x, int64_t begin, int64_t count) {
  return {x.begin() + begin, x.begin() + begin + count};
}

TEST(RopeTable, TextAnglesAreExactFarIntoTheContext) {
  cpu::ThreadPool pool(2);
  RopeConfig rope;
  HostTensor positions = int_tensor({0, 1, 777, 262143}, {1, 4}), table = poisoned(DType::kF32, {4, 64});
  cpu::rope_table(pool, positions, rope, table);
  for (int64_t t = 0; t < 4; ++t) {
    EXPECT_TRUE(close(values(table, t, 1), reference::rope_row(positions, t, rope), 1e-7, 0));
  }
}

TEST(RopeTable, SectionsAreInterleaved) {
  cpu::ThreadPool pool(3);
  HostTensor positions = int_tensor({5, 100, 7, 200, 11, 300}, {3, 2});  // T, H, W of two tokens
  for (RopeConfig rope : {RopeConfig{}, RopeConfig{8, 1e7f, {2, 1, 1}}}) {
    HostTensor table = poisoned(DType::kF32, {2, rope.rotary_dim});
    cpu::rope_table(pool, positions, rope, table);
    for (int64_t t = 0; t < 2; ++t) {
      EXPECT_TRUE(close(values(table, t, 1), reference::rope_row(positions, t, rope), 1e-7, 0));
    }
  }
}

TEST_P(Attention, QueriesAndKeysAreNormedRotatedAndStored) {
  struct Case {
    HeadShape shape;
    int32_t rotary;
    DType act, kv;
    int32_t page_size;
  };
  Machine machine(GetParam());
  for (const Case& c :
       {Case{{8, 2, 256}, 64, DType::kBF16, DType::kBF16, 64}, Case{{4, 2, 32}, 8, DType::kF32, DType::kF32, 16},
        Case{{2, 1, 40}, 40, DType::kF32, DType::kF8E4M3, 1}}) {
    auto [heads, kv_heads, dim] = c.shape;
    std::vector<int32_t> free = shuffled_pages(random, 200);
    std::vector<RowSpec> rows = {{1, 9, 0, 0, take_pages(free, 10, c.page_size)},
                                 {5, 0, -1, -1, {}},  // padding
                                 {70, 30, 1, 1, take_pages(free, 100, c.page_size)}};
    HostBatch batch(rows, 1, c.page_size);
    HostTensor qg = random_tensor(random, c.act, {76, heads, 2 * dim}, 1.f), q = poisoned(c.act, {76, heads, dim});
    HostTensor k = random_tensor(random, c.act, {76, kv_heads, dim}, 1.f, 8);
    HostTensor v = random_tensor(random, c.act, {76, kv_heads, dim}, 200.f);
    HostTensor q_norm = random_tensor(random, DType::kBF16, {dim}, 0.2f);
    HostTensor k_norm = random_tensor(random, DType::kBF16, {dim}, 0.2f);
    HostTensor table = poisoned(DType::kF32, {76, c.rotary});
    cpu::rope_table(machine.pool, batch.batch.positions, {c.rotary, 1e7f, {11, 11, 10}}, table);
    PagedKv kv(c.kv, 200, c.shape, c.page_size);
    cpu::qk_norm_rope_kv_write(machine.pool, machine.scratch, qg, k, v, q_norm, k_norm, 1e-6f, table, batch.batch,
                               kv.pool(), q);
    int64_t written = 0;
    for (size_t r : {size_t{0}, size_t{2}}) {
      for (int64_t i = 0; i < rows[r].tokens; ++i) {
        int64_t t = batch.batch.row_begin.as<int32_t>()[r] + i, position = rows[r].context + i;
        std::vector<double> angles = values(table, t, 1), qg_row = values(qg, t, 1), q_row = values(q, t, 1);
        for (int64_t h = 0; h < heads; ++h) {
          EXPECT_TRUE(close(slice(q_row, h * dim, dim),
                            reference::norm_rope(slice(qg_row, 2 * h * dim, dim), q_norm, 1e-6, angles), 1e-5,
                            2 * rounding(c.act)));
        }
        for (int64_t h = 0; h < kv_heads; ++h) {
          EXPECT_TRUE(close(PagedKv::at(kv.k, rows[r].pages, h, position),
                            reference::norm_rope(slice(values(k, t, 1), h * dim, dim), k_norm, 1e-6, angles), 2e-3,
                            2 * rounding(c.kv)));
          std::vector<double> value = slice(values(v, t, 1), h * dim, dim);
          if (c.kv == DType::kF8E4M3) {  // saturates
            for (double& x : value) x = std::clamp(x, -448.0, 448.0);
          }
          EXPECT_TRUE(close(PagedKv::at(kv.v, rows[r].pages, h, position), value, 2e-3, rounding(c.kv)));
          written += dim;
        }
      }
    }
    std::vector<double> stored = values(kv.k);  // and nothing else was
    EXPECT_EQ(std::count_if(stored.begin(), stored.end(), [](double x) { return !std::isnan(x); }), written);
    EXPECT_TRUE(std::isnan(get(q, 3, 0)));
  }
}

struct AttentionCase {
  HeadShape shape;
  DType act, kv;
  int32_t page_size;
};

void check_attention(Machine& machine, std::mt19937& random, const AttentionCase& c) {
  auto [heads, kv_heads, dim] = c.shape;
  std::vector<int32_t> free = shuffled_pages(random, 1200);
  std::vector<RowSpec> rows = {{1, 0, -1, 0, take_pages(free, 1, c.page_size)},
                               {1, 199, 1, 1, take_pages(free, 200, c.page_size)},
                               {1, 0, -1, -1, {}},  // padding
                               {130, 0, -1, 2, take_pages(free, 130, c.page_size)},
                               {0, 0, -1, 5, {}},
                               {3, 126, 3, 3, take_pages(free, 129, c.page_size)}};
  HostBatch batch(rows, 3, c.page_size);
  PagedKv kv(c.kv, 1200, c.shape, c.page_size);
  for (const RowSpec& row : rows) kv.fill(random, row.pages, row.write < 0 ? 0 : row.context + row.tokens);
  HostTensor q = random_tensor(random, c.act, {136, heads, dim}, 1.f, 3);
  HostTensor qg = random_tensor(random, c.act, {136, heads, 2 * dim}, 1.f), out = poisoned(c.act, {136, heads, dim});
  float scale = 1.f / std::sqrt(static_cast<float>(dim));
  cpu::attention(machine.pool, machine.scratch, q, qg, batch.batch, kv.pool(), scale, out);
  for (size_t r = 0; r < rows.size(); ++r) {
    for (int64_t i = 0; i < (rows[r].write < 0 ? 0 : rows[r].tokens); i += 1 + i / 3) {
      int64_t t = batch.batch.row_begin.as<int32_t>()[r] + i;
      for (int64_t h = 0; h < heads; ++h) {
        std::vector<std::vector<double>> keys, vals;
        for (int64_t p = 0; p <= rows[r].context + i; ++p) {
          keys.push_back(PagedKv::at(kv.k, rows[r].pages, h / (heads / kv_heads), p));
          vals.push_back(PagedKv::at(kv.v, rows[r].pages, h / (heads / kv_heads), p));
        }
        std::vector<double> gate = slice(values(qg, t, 1), (2 * h + 1) * dim, dim);
        EXPECT_TRUE(close(slice(values(out, t, 1), h * dim, dim),
                          reference::attend(slice(values(q, t, 1), h * dim, dim), keys, vals, gate, scale), 2e-6,
                          2 * rounding(c.act)))
            << "row " << r << " token " << i << " head " << h << " of dim " << dim;
      }
    }
  }
  EXPECT_TRUE(std::isnan(get(out, 2, 0)));
}

// Unowned pages and positions behind a row's end are NaN: reading one of them would show.
TEST_P(Attention, EqualsTheReferenceForEveryShapeAndKind) {
  Machine machine(GetParam());
  for (const AttentionCase& c : {AttentionCase{{8, 2, 256}, DType::kBF16, DType::kBF16, 64},
                                 AttentionCase{{8, 2, 32}, DType::kF32, DType::kF32, 16},
                                 AttentionCase{{6, 1, 24}, DType::kF32, DType::kF8E4M3, 1},
                                 AttentionCase{{2, 2, 8}, DType::kF32, DType::kBF16, 128},
                                 AttentionCase{{3, 1, 72}, DType::kBF16, DType::kF8E4M3, 256}}) {
    check_attention(machine, random, c);
  }
}

TEST_P(Attention, AnEmptyBatchIsFine) {
  Machine machine(GetParam());
  HostBatch batch({}, 0);
  PagedKv kv(DType::kF32, 2, {2, 1, 32}, 64);
  HostTensor q = poisoned(DType::kF32, {0, 2, 32}), qg = poisoned(DType::kF32, {0, 2, 64});
  cpu::attention(machine.pool, machine.scratch, q, qg, batch.batch, kv.pool(), 1.f, q);
}

TEST_P(Attention, LargeScoresDoNotOverflow) {
  Machine machine(GetParam());
  HostBatch batch({{1, 99, 0, 0, {0, 1}}}, 1);
  PagedKv kv(DType::kF32, 2, {1, 1, 16}, 64);
  kv.fill(random, {0, 1}, 100);
  HostTensor q = random_tensor(random, DType::kF32, {1, 1, 16}, 1e4f),
             qg = random_tensor(random, DType::kF32, {1, 1, 32}, 1.f);
  HostTensor out = poisoned(DType::kF32, {1, 1, 16});
  cpu::attention(machine.pool, machine.scratch, q, qg, batch.batch, kv.pool(), 1.f, out);
  std::vector<std::vector<double>> keys, vals;
  for (int64_t p = 0; p < 100; ++p) {
    keys.push_back(PagedKv::at(kv.k, {0, 1}, 0, p));
    vals.push_back(PagedKv::at(kv.v, {0, 1}, 0, p));
  }
  EXPECT_TRUE(close(values(out), reference::attend(values(q), keys, vals, slice(values(qg), 16, 16), 1), 1e-5, 1e-4));
}

// A broken key shows in every token that sees it, and in no other.
TEST_P(Attention, ANanIsNotHidden) {
  Machine machine(GetParam());
  HostBatch batch({{80, 0, -1, 0, {0, 1}}}, 0);
  PagedKv kv(DType::kF32, 2, {1, 1, 16}, 64);
  kv.fill(random, {0, 1}, 80);
  set(kv.k, 1, 3 * 16 + 5, NAN);  // position 67
  HostTensor q = random_tensor(random, DType::kF32, {80, 1, 16}, 1.f);
  HostTensor qg = random_tensor(random, DType::kF32, {80, 1, 32}, 1.f), out = poisoned(DType::kF32, {80, 1, 16});
  cpu::attention(machine.pool, machine.scratch, q, qg, batch.batch, kv.pool(), 0.25f, out);
  for (int64_t t = 0; t < 80; ++t) EXPECT_EQ(std::isnan(get(out, t, 0)), t >= 67) << t;
}

// A context that is cut into splits, by many threads, is the same bits as one that a single thread reads alone or a
// prefill reads, and right.
TEST_P(Attention, LongContextsAreTheSameBitsOnAnyNumberOfThreads) {
  constexpr int32_t kTokens = 1300;
  HeadShape shape = {4, 2, 24};
  std::vector<int32_t> free = shuffled_pages(random, 100), pages = take_pages(free, kTokens, 16);
  PagedKv kv(DType::kF32, 100, shape, 16);
  kv.fill(random, pages, kTokens);
  HostTensor q = random_tensor(random, DType::kF32, {kTokens, 4, 24}, 1.f);
  HostTensor qg = random_tensor(random, DType::kF32, {kTokens, 4, 48}, 1.f);
  auto run = [&](int threads, int32_t begin, int32_t end) {
    Machine machine(GetParam(), threads);
    HostTensor out = poisoned(DType::kF32, {end - begin, 4, 24});
    HostBatch batch({{end - begin, begin, 0, 0, pages}}, end - begin == 1 ? 1 : 0, 16);
    cpu::attention(machine.pool, machine.scratch, q.view.rows(begin, end - begin), qg.view.rows(begin, end - begin),
                   batch.batch, kv.pool(), 0.2f, out);
    return out;
  };
  HostTensor whole = run(2, 0, kTokens);
  for (int32_t t : {510, 511, 512, 1023, 1024, 1025, kTokens - 1}) {
    std::vector<double> alone = values(run(1, t, t + 1));
    EXPECT_EQ(alone, values(run(9, t, t + 1))) << t;
    EXPECT_EQ(alone, values(whole, t, 1)) << t;
    std::vector<std::vector<double>> keys, vals;
    for (int32_t p = 0; p <= t; ++p) {
      keys.push_back(PagedKv::at(kv.k, pages, 1, p));
      vals.push_back(PagedKv::at(kv.v, pages, 1, p));
    }
    EXPECT_TRUE(
        close(slice(alone, 72, 24),
              reference::attend(slice(values(q, t, 1), 72, 24), keys, vals, slice(values(qg, t, 1), 7 * 24, 24), 0.2),
              2e-6, 1e-5));
  }
  EXPECT_EQ(values(run(3, 1024, kTokens)), values(whole, 1024, kTokens - 1024));
}

// A token's result is the same bits in one prefill, in chunks, in one-token steps, among other rows, with any threads.
TEST_P(Attention, SameBitsHoweverTheRowIsCut) {
  constexpr int64_t kTokens = 200;
  HeadShape shape = {6, 2, 72};
  for (DType kind : {DType::kF32, DType::kBF16}) {
    std::vector<int32_t> free = shuffled_pages(random, 40), pages = take_pages(free, kTokens, 16);
    std::vector<int32_t> other = take_pages(free, 77, 16);
    PagedKv kv(kind, 40, shape, 16);
    kv.fill(random, pages, kTokens);
    kv.fill(random, other, 77);
    HostTensor q = random_tensor(random, kind, {kTokens + 77, 6, 72}, 1.f);
    HostTensor qg = random_tensor(random, kind, {kTokens + 77, 6, 144}, 1.f);
    auto run = [&](int threads, const std::vector<int32_t>& cuts, bool decode) {
      Machine machine(GetParam(), threads);
      HostTensor out = poisoned(kind, {kTokens, 6, 72});
      int32_t begin = 0;
      for (int32_t end : cuts) {
        HostBatch batch({{end - begin, begin, 0, 0, pages}}, decode ? 1 : 0, 16);
        cpu::attention(machine.pool, machine.scratch, q.view.rows(begin, end - begin), qg.view.rows(begin, end - begin),
                       batch.batch, kv.pool(), 0.1f, out.view.rows(begin, end - begin));
        begin = end;
      }
      return out.bytes;
    };
    std::vector<int32_t> single;
    for (int32_t t = 1; t <= kTokens; ++t) single.push_back(t);
    std::vector<std::byte> whole = run(1, {200}, false);
    EXPECT_EQ(run(2, {200}, false), whole);
    EXPECT_EQ(run(3, {64, 128, 192, 200}, false), whole);
    EXPECT_EQ(run(2, {1, 8, 108, 200}, false), whole);
    EXPECT_EQ(run(2, single, true), whole);

    Machine machine(GetParam(), 2);
    HostBatch both({{77, 0, 1, 1, other}, {200, 0, 0, 0, pages}}, 0, 16);
    HostTensor q2 = q, qg2 = qg, out = poisoned(kind, {kTokens + 77, 6, 72});
    auto swap = [&](HostTensor& tensor) {  // the other row stands in front
      std::rotate(tensor.bytes.begin(), tensor.bytes.begin() + kTokens * tensor.view.row_stride * dtype_bytes(kind),
                  tensor.bytes.begin() + (kTokens + 77) * tensor.view.row_stride * dtype_bytes(kind));
    };
    swap(q2);
    swap(qg2);
    cpu::attention(machine.pool, machine.scratch, q2, qg2, both.batch, kv.pool(), 0.1f, out);
    auto mine = static_cast<std::byte*>(out.view.rows(77, kTokens).data);
    EXPECT_TRUE(std::equal(mine, mine + out.view.rows(77, kTokens).bytes(), whole.begin()));
  }
}

}  // namespace
}  // namespace hylas::test
