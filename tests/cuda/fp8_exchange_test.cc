// Tokens of two ranks to experts in FP8 and back: quantized once, by the norm that made them, and with the numbers of
// experts that quantize for themselves. Both ranks have the same GPU, where no kernel may wait for one that does not
// fit beside it: every half of the exchange is a record of its own, and ends at all ranks before the next begins. Nor
// may a rank wait for its kernel before the other has launched its own: a copy to the host that waits may keep the
// launches of other threads from the GPU.
#include <gtest/gtest.h>

#include <barrier>
#include <cmath>
#include <cstring>
#include <sstream>

#include "comm/cuda/device_dispatch.h"
#include "cuda/device_ranks.h"
#include "cuda/fp8_experts_side.h"
#include "cuda/rows_side.h"

namespace hylas::test {
namespace {

constexpr int kRanks = 2;

// Which kernels the experts take: those for few rows, of many tokens too, or whole tiles.
struct ExchangeCase {
  ExpertCase experts;
  int64_t first_tokens;  // of the first rank
  int64_t tokens(int rank) const { return rank == 0 ? first_tokens : experts.tokens - first_tokens; }
  int64_t begin(int rank) const { return rank == 0 ? 0 : first_tokens; }
};

std::unique_ptr<Ops> fp8_experts_ops() {
  CudaOpsOptions options;
  options.fp8 = {.experts = true};
  return make_cuda_ops(options).value();
}

Tensor rows_of(const OnDevice& all, int64_t begin, int64_t count) { return all.view.rows(begin, count); }

// One rank: its tokens, normed, and what it gets and makes of them.
class Side {
 public:
  Side(const ExchangeCase& c, const ExpertLayer& layer, int rank)
      : c_(c),
        rank_(rank),
        half_(c.experts.experts / kRanks),
        experts_(layer.experts(rank * half_, (rank + 1) * half_)),
        shared_weights_(layer.shared),
        x_({c.tokens(rank), c.experts.hidden}),
        ids_(poisoned(DType::kI32, {c.experts.tokens, c.experts.choices})),
        index_(poisoned(DType::kI32, {c.experts.tokens, c.experts.choices})),
        all_x_({c.experts.tokens, c.experts.hidden}),
        shared_(poisoned(DType::kF32, {1, c.tokens(rank), c.experts.hidden})) {
    experts_.experts_total = c.experts.experts;
  }
  void norm(Ops& ops, const Tensor& x, const Tensor& weight) { ops.rms_norm(x, weight, 1e-6f, x_.in(RowForm::kBoth)); }
  void prepare(Ops& ops) {
    forms_ = ops.expert_row_forms(all_x_.values, ids_, experts_, 1);
    const int64_t k = c_.experts.choices, hidden = c_.experts.hidden;
    const auto room = [&](DType type, int64_t rows) {
      return std::make_unique<OnDevice>(poisoned(type, {1, rows, hidden}));
    };
    rows_ = room(forms_.made, forms_.sorted_rows > 0 ? forms_.sorted_rows : c_.experts.tokens * k);
    returned_ = room(forms_.made, c_.tokens(rank_) * k);
    sums_ = room(DType::kF32, c_.tokens(rank_));
  }
  void dispatch(ExpertDispatch& to, std::span<const int32_t> counts, const Tensor& own_ids) const {
    to.dispatch({.counts = counts,
                 .held = {rank_ * half_, half_},
                 .ids = own_ids,
                 .x = x_.fp8,
                 .scales = x_.scales.view.columns(0, c_.tokens(rank_)),
                 .all_ids = ids_,
                 .all_x = all_x_.fp8,
                 .all_scales = all_x_.scales,
                 .returned = *returned_});
  }
  void multiply(Ops& ops) const {
    ActRows x = all_x_.in(RowForm::kFp8);
    x.values.data = nullptr;
    const SharedRows shared = {&shared_weights_, x_.in(RowForm::kBoth), shared_};
    if (forms_.sorted_rows > 0) {
      ops.moe_sorted_expert_rows(x, ids_, experts_, *rows_, index_, shared);
    } else {
      ops.moe_expert_rows(x, ids_, experts_, *rows_, shared);
    }
  }
  void combine(ExpertDispatch& to, const Tensor& weights, const Tensor& logit) const {
    to.combine({.rows = *rows_,
                .index = forms_.sorted_rows > 0 ? index_.view : Tensor(),
                .weights = weights,
                .shared = shared_,
                .shared_logit = logit,
                .sums = *sums_});
  }
  bool holds(int32_t expert) const { return expert / half_ == rank_; }
  RowForm read() const { return forms_.read; }
  DType made() const { return forms_.made; }
  int32_t rank() const { return rank_; }
  const OnDevice& values() const { return x_.values; }
  // Of every choice, where it is held here.
  HostTensor rows() const {
    HostTensor rows = rows_->host();
    if (forms_.sorted_rows == 0) return rows;
    const HostTensor index = index_.host();
    HostTensor by_choice = poisoned(rows.view.dtype, {1, index.view.elements(), c_.experts.hidden});
    const size_t bytes = static_cast<size_t>(c_.experts.hidden) * dtype_bytes(rows.view.dtype);
    for (int64_t i = 0; i < index.view.elements(); ++i) {
      const int32_t row = index.view.as<int32_t>()[i];
      if (row >= 0) std::memcpy(&by_choice.bytes[i * bytes], &rows.bytes[row * bytes], bytes);
    }
    return by_choice;
  }
  const OnDevice& sums() const { return *sums_; }

 private:
  const ExchangeCase& c_;
  int32_t rank_, half_;
  ExpertWeights experts_;
  SharedExpertWeights shared_weights_;
  RowsOnDevice x_;
  OnDevice ids_, index_;
  RowsOnDevice all_x_;
  OnDevice shared_;
  ExpertRowForms forms_;
  std::unique_ptr<OnDevice> rows_, returned_, sums_;
};

// Of every token, what its rank has of it: [tokens, hidden]. A tensor's memory ends in poison that is no part of it.
HostTensor joined(const ExchangeCase& c, const std::vector<std::unique_ptr<Side>>& sides,
                  const OnDevice& (Side::*part)() const) {
  HostTensor all = poisoned((*sides[0].*part)().view.dtype, {c.experts.tokens, c.experts.hidden});
  for (const auto& side : sides) {
    const HostTensor some = (*side.*part)().host();
    HYLAS_CHECK(some.view.elements() == c.tokens(side->rank()) * c.experts.hidden);
    std::memcpy(all.view.rows(c.begin(side->rank()), c.tokens(side->rank())).data, some.view.data, some.view.bytes());
  }
  return all;
}

// What one rank says that holds all experts and quantizes the values itself.
struct Lone {
  HostTensor rows;  // of every choice, of `made`
  HostTensor sums;
};
Lone lone(Ops& on, const ExpertLayer& layer, const HostTensor& values) {
  const ExpertCase& c = layer.c;
  const OnDevice x(values), ids(int_tensor(layer.ids, {c.tokens, c.choices})), weights(layer.weights),
      logit(layer.logit);
  const ExpertWeights experts = layer.experts();
  const OnDevice rows(poisoned(on.expert_row_forms(x, ids, experts, 1).made, {1, c.tokens * c.choices, c.hidden}));
  const OnDevice sums(poisoned(DType::kF32, {1, c.tokens, c.hidden}));
  run_on(on, [&](Ops& ops) {
    ops.moe_expert_rows(x, ids, experts, rows, {});
    ops.moe(x, ids, weights, experts, &layer.shared, logit, sums);
  });
  return {rows.host(), sums.host()};
}

// Every choice that differs, with all that says whether its token travelled: NaN, even on both sides, is a difference.
void expect_lone_rows(const ExchangeCase& c, const Side& side, const ExpertLayer& layer, const HostTensor& wanted) {
  const HostTensor rows = side.rows();
  ASSERT_EQ(wanted.view.dtype, side.made());
  const int64_t hidden = layer.c.hidden, k = layer.c.choices;
  const size_t bytes = static_cast<size_t>(hidden) * dtype_bytes(side.made());
  int64_t compared[kRanks] = {};  // of tokens of each rank
  std::ostringstream wrong;
  for (int64_t i = 0; i < std::ssize(layer.ids); ++i) {
    const int32_t expert = layer.ids[i];
    if (!side.holds(expert)) continue;
    const int64_t begin = i * hidden, home = i / k < c.first_tokens ? 0 : 1;
    ++compared[home];
    int64_t first = 0;  // value that differs
    while (first < hidden && get(rows, 0, begin + first) == get(wanted, 0, begin + first)) ++first;
    if (first == hidden && std::memcmp(&rows.bytes[i * bytes], &wanted.bytes[i * bytes], bytes) == 0) continue;
    first = std::min(first, hidden - 1);  // zeros of either sign
    wrong << "\nchoice " << i << " of token " << i / k << " of rank " << home << ", expert " << expert << " of rank "
          << side.rank() << ": begins with " << get(rows, 0, begin) << ", not " << get(wanted, 0, begin) << "; value "
          << first << " is " << get(rows, 0, begin + first) << ", not " << get(wanted, 0, begin + first);
  }
  EXPECT_TRUE(wrong.str().empty()) << wrong.str();
  for (const int64_t choices : compared) EXPECT_GT(choices, 0) << "rank " << side.rank();
}

// Token by token; NaN is a difference here too.
void expect_lone_sums(const ExchangeCase& c, const HostTensor& sums, const HostTensor& wanted) {
  std::ostringstream wrong;
  for (int64_t t = 0; t < c.experts.tokens; ++t) {
    double error = 0, size = 0;
    for (int64_t i = 0; i < c.experts.hidden; ++i) {
      const double y = get(wanted, 0, t * c.experts.hidden + i), x = get(sums, t, i);
      error += (x - y) * (x - y), size += y * y;
    }
    if (size > 0 && error <= 1e-12 * size) continue;
    wrong << "\ntoken " << t << " of rank " << (t < c.first_tokens ? 0 : 1) << ": relative error "
          << std::sqrt(error / size) << ", begins with " << get(sums, t, 0) << ", not "
          << get(wanted, 0, t * c.experts.hidden);
  }
  EXPECT_TRUE(wrong.str().empty()) << wrong.str();
}

class Fp8Exchange : public testing::TestWithParam<ExchangeCase> {};
INSTANTIATE_TEST_SUITE_P(
    Shapes, Fp8Exchange,
    testing::Values(ExchangeCase{{30, 512, 128, 128, 8, 4, 8}, 20}, ExchangeCase{{31, 2048, 512, 512, 16, 8, 16}, 9},
                    ExchangeCase{{28, 256, 256, 128, 8, 2, 8}, 1}, ExchangeCase{{600, 256, 128, 128, 128, 2, 128}, 301},
                    ExchangeCase{{150, 256, 128, 128, 4, 4, 4}, 66},
                    // Tiles for 48 rows of an expert; for 50, of which one rank has 80.
                    ExchangeCase{{96, 256, 128, 128, 8, 4, 8}, 40}, ExchangeCase{{100, 256, 128, 128, 8, 4, 5}, 51}));

// Recorded at the first turn, replayed at the others.
TEST_P(Fp8Exchange, SaysWhatExpertsSayThatQuantizeForThemselves) {
  cuda_load_all_kernels();  // before anything else asks for the GPU
  const ExchangeCase& c = GetParam();
  const ExpertLayer layer(c.experts);
  const int64_t hidden = c.experts.hidden, k = c.experts.choices;
  std::vector<std::unique_ptr<Ops>> ops;
  std::vector<std::unique_ptr<Comm>> comms = make_local_comms(kRanks);
  std::vector<std::unique_ptr<cuda::DeviceDispatch>> dispatches;
  std::vector<std::unique_ptr<Side>> sides;
  for (int r = 0; r < kRanks; ++r) {
    ops.push_back(fp8_experts_ops());
    dispatches.push_back(std::make_unique<cuda::DeviceDispatch>(*comms[r], static_cast<CudaDevice&>(ops[r]->device())));
    sides.push_back(std::make_unique<Side>(c, layer, r));
    sides[r]->prepare(*ops[r]);
    ASSERT_EQ(sides[r]->read(), RowForm::kFp8);
  }
  const std::vector<int32_t> counts = {static_cast<int32_t>(c.tokens(0)), static_cast<int32_t>(c.tokens(1))};
  const OnDevice ids(int_tensor(layer.ids, {c.experts.tokens, k})), weights(layer.weights), logit(layer.logit);
  std::mt19937 random(77);
  for (int turn = 0; turn < 3; ++turn) {
    const OnDevice x(random_tensor(random, DType::kBF16, {c.experts.tokens, hidden}, 1.f)),
        norm(random_tensor(random, DType::kBF16, {hidden}, 0.3f));
    settle(cuda_ops());
    std::barrier all(kRanks);
    on_every_rank(kRanks, [&](int32_t r) {
      const auto own = [&](const OnDevice& of) { return rows_of(of, c.begin(r), c.tokens(r)); };
      const auto step = [&](uint64_t key, const std::function<void()>& body) {
        ops[r]->replay(key, [&] {
          body();
          all.arrive_and_wait();  // the first time it is launched here, and then recorded
        });
        all.arrive_and_wait();
        settle(*ops[r]);
        all.arrive_and_wait();
      };
      sides[r]->norm(*ops[r], own(x), norm);
      step(1, [&] { sides[r]->dispatch(*dispatches[r], counts, own(ids)); });
      step(2, [&] { sides[r]->multiply(*ops[r]); });
      step(3, [&] { sides[r]->combine(*dispatches[r], own(weights), own(logit)); });
    });
    SCOPED_TRACE("turn " + std::to_string(turn));
    const Lone wanted = lone(*ops[0], layer, joined(c, sides, &Side::values));
    for (const auto& side : sides) expect_lone_rows(c, *side, layer, wanted.rows);
    expect_lone_sums(c, joined(c, sides, &Side::sums), wanted.sums);
  }
}

}  // namespace
}  // namespace hylas::test
