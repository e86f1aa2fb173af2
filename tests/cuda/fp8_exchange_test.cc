// Tokens of two ranks to experts in FP8 and back: quantized once, by the norm that made them, and with the numbers of
// experts that quantize for themselves. Both ranks have the same GPU, where no kernel may wait for one that does not
// fit beside it: every half of the exchange is a record of its own, and ends at all ranks before the next begins. Nor
// may a rank wait for its kernel before the other has launched its own: a copy to the host that waits may keep the
// launches of other threads from the GPU.
#include <gtest/gtest.h>

#include <barrier>
#include <cstring>

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
    rows_ = room(forms_.made, c_.experts.tokens * k);
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
    ops.moe_expert_rows(x, ids_, experts_, *rows_, {&shared_weights_, x_.in(RowForm::kBoth), shared_});
  }
  void combine(ExpertDispatch& to, const Tensor& weights, const Tensor& logit) const {
    to.combine({.rows = *rows_, .weights = weights, .shared = shared_, .shared_logit = logit, .sums = *sums_});
  }
  bool holds(int32_t expert) const { return expert / half_ == rank_; }
  RowForm read() const { return forms_.read; }
  DType made() const { return forms_.made; }
  const OnDevice& values() const { return x_.values; }
  HostTensor rows() const { return rows_->host(); }
  HostTensor sums() const { return sums_->host(); }

 private:
  const ExchangeCase& c_;
  int32_t rank_, half_;
  ExpertWeights experts_;
  SharedExpertWeights shared_weights_;
  RowsOnDevice x_;
  OnDevice ids_;
  RowsOnDevice all_x_;
  OnDevice shared_;
  ExpertRowForms forms_;
  std::unique_ptr<OnDevice> rows_, returned_, sums_;
};

// What one rank says that holds all experts and quantizes the values itself.
struct Lone {
  HostTensor rows;  // of every choice, of `made`
  HostTensor sums;
};
Lone lone(Ops& on, const ExpertLayer& layer, const std::vector<std::byte>& values) {
  const ExpertCase& c = layer.c;
  HostTensor x = poisoned(DType::kBF16, {c.tokens, c.hidden});
  x.bytes = values;
  x.view.data = x.bytes.data();
  const OnDevice dx(x), ids(int_tensor(layer.ids, {c.tokens, c.choices})), weights(layer.weights), logit(layer.logit);
  const ExpertWeights experts = layer.experts();
  const OnDevice rows(poisoned(on.expert_row_forms(dx, ids, experts, 1).made, {1, c.tokens * c.choices, c.hidden}));
  const OnDevice sums(poisoned(DType::kF32, {1, c.tokens, c.hidden}));
  run_on(on, [&](Ops& ops) {
    ops.moe_expert_rows(dx, ids, experts, rows, {});
    ops.moe(dx, ids, weights, experts, &layer.shared, logit, sums);
  });
  return {rows.host(), sums.host()};
}

void expect_lone_rows(const Side& side, const ExpertLayer& layer, const HostTensor& wanted, int turn) {
  const HostTensor rows = side.rows();
  ASSERT_EQ(wanted.view.dtype, side.made());
  const size_t bytes = static_cast<size_t>(layer.c.hidden) * dtype_bytes(side.made());
  for (size_t i = 0; i < layer.ids.size(); ++i) {
    if (!side.holds(layer.ids[i])) continue;
    ASSERT_EQ(std::memcmp(rows.bytes.data() + i * bytes, wanted.bytes.data() + i * bytes, bytes), 0)
        << "choice " << i << ", turn " << turn;
  }
}

class Fp8Exchange : public testing::TestWithParam<ExchangeCase> {};
INSTANTIATE_TEST_SUITE_P(Shapes, Fp8Exchange,
                         testing::Values(ExchangeCase{{30, 512, 128, 128, 8, 4, 8}, 20},
                                         ExchangeCase{{31, 2048, 512, 512, 16, 8, 16}, 9},
                                         ExchangeCase{{28, 256, 256, 128, 8, 2, 8}, 1},
                                         ExchangeCase{{600, 256, 128, 128, 128, 2, 128}, 301},
                                         ExchangeCase{{150, 256, 128, 128, 4, 4, 4}, 66}));

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
    std::vector<std::byte> values, sums;
    for (const auto& side : sides) {
      const HostTensor some = side->values().host(), added = side->sums();
      values.insert(values.end(), some.bytes.begin(), some.bytes.end());
      sums.insert(sums.end(), added.bytes.begin(), added.bytes.end());
    }
    const Lone wanted = lone(*ops[0], layer, values);
    for (const auto& side : sides) expect_lone_rows(*side, layer, wanted.rows, turn);
    EXPECT_TRUE(near(OnDevice(sums, wanted.sums.view), wanted.sums, 1e-6)) << "turn " << turn;
  }
}

}  // namespace
}  // namespace hylas::test
