// Tokens on their way to the ranks that hold their experts, and back, over peer memory: with the bits that they had.
#include <gtest/gtest.h>

#include <algorithm>
#include <barrier>
#include <bit>
#include <cmath>
#include <cstring>
#include <numeric>

#include "comm/cuda/device_dispatch.h"
#include "cuda/device_ranks.h"

namespace hylas::test {
namespace {

struct DispatchCase {
  std::vector<int32_t> counts;  // tokens of each rank
  int64_t hidden;
  DType act;  // e4m3: with scales
  int32_t experts, k, slices;
  bool with_x, with_shared;
  int32_t experts_chosen;  // tokens choose among the first so many
  DType rows = DType::kF32;
  bool has_scales() const { return act == DType::kF8E4M3; }
  int64_t groups() const { return has_scales() ? hidden / kFp8Block : 0; }
};

// Scales of a rank's tokens stand behind those of so many others.
constexpr int64_t kScalesBefore = 3;

// What every rank has in one exchange, by rank.
struct Inputs {
  std::vector<HostTensor> ids, x;                   // [own, k], [own, H]
  std::vector<HostTensor> scales;                   // [groups, kScalesBefore + own or more]
  std::vector<HostTensor> rows;                     // [slices, all * k, H]
  std::vector<HostTensor> weights, shared, logits;  // [own, k], [slices, own, H], [own, 1]
};

HostTensor choices(std::mt19937& random, int64_t tokens, int32_t k, int32_t experts) {
  HostTensor ids = poisoned(DType::kI32, {tokens, k});
  std::vector<int32_t> all(static_cast<size_t>(experts));
  std::iota(all.begin(), all.end(), 0);
  for (int64_t t = 0; t < tokens; ++t) {
    std::shuffle(all.begin(), all.end(), random);
    std::copy_n(all.begin(), k, ids.view.row<int32_t>(t));
  }
  return ids;
}

int64_t in_fours(int64_t count) { return (count + 3) / 4 * 4; }

// Any bytes are rows that travel.
HostTensor random_rows(std::mt19937& random, DType dtype, int64_t tokens, int64_t columns) {
  if (dtype != DType::kF8E4M3) return random_tensor(random, dtype, {tokens, columns}, 1.f);
  HostTensor rows = poisoned(dtype, {tokens, columns});
  for (std::byte& one : rows.bytes) one = static_cast<std::byte>(random());
  return rows;
}

Inputs make_inputs(const DispatchCase& c, unsigned seed) {
  std::mt19937 random(seed);
  const int64_t all = std::accumulate(c.counts.begin(), c.counts.end(), int64_t{0});
  Inputs inputs;
  for (const int32_t own : c.counts) {
    inputs.ids.push_back(choices(random, own, c.k, c.experts_chosen));
    inputs.x.push_back(random_rows(random, c.act, own, c.hidden));
    inputs.scales.push_back(random_tensor(random, DType::kF32, {c.groups(), in_fours(kScalesBefore + own)}, 1.f));
    inputs.rows.push_back(random_tensor(random, c.rows, {c.slices, all * c.k, c.hidden}, 1.f));
    inputs.weights.push_back(random_tensor(random, DType::kF32, {own, c.k}, 1.f));
    inputs.shared.push_back(random_tensor(random, DType::kF32, {c.slices, own, c.hidden}, 1.f));
    inputs.logits.push_back(poisoned(DType::kF32, {own, 1}));
    // Their sigmoids are numbers that every library agrees on: 1 and 1/2.
    for (int64_t t = 0; t < own; ++t) *inputs.logits.back().view.row<float>(t) = t % 3 ? 100.f : 0.f;
  }
  return inputs;
}

// One rank and its memory on its GPU.
class Exchange {
 public:
  Exchange(const DispatchCase& c, int32_t rank, Device& device, const Inputs& inputs)
      : c_(c),
        rank_(rank),
        all_(std::accumulate(c.counts.begin(), c.counts.end(), int64_t{0})),
        own_(c.counts[rank]),
        fresh_x_(poisoned(c.act, {all_, c.hidden})),
        fresh_scales_(poisoned(DType::kF32, {c.groups(), in_fours(all_)})),
        fresh_returned_(poisoned(c.rows, {c.slices, own_ * c.k, c.hidden})),
        fresh_sums_(poisoned(DType::kF32, {c.slices, own_, c.hidden})),
        ids_(device, inputs.ids[rank]),
        x_(device, inputs.x[rank]),
        scales_(device, inputs.scales[rank]),
        rows_(device, inputs.rows[rank]),
        weights_(device, inputs.weights[rank]),
        shared_(device, inputs.shared[rank]),
        logits_(device, inputs.logits[rank]),
        all_ids_(device, poisoned(DType::kI32, {all_, c.k})),
        all_x_(device, fresh_x_),
        all_scales_(device, fresh_scales_),
        returned_(device, fresh_returned_),
        sums_(device, fresh_sums_) {}

  void set(const Inputs& inputs) {
    ids_.set(inputs.ids[rank_]);
    x_.set(inputs.x[rank_]);
    scales_.set(inputs.scales[rank_]);
    rows_.set(inputs.rows[rank_]);
    weights_.set(inputs.weights[rank_]);
    shared_.set(inputs.shared[rank_]);
    logits_.set(inputs.logits[rank_]);
    all_x_.set(fresh_x_);
    all_scales_.set(fresh_scales_);
    returned_.set(fresh_returned_);
    sums_.set(fresh_sums_);
  }
  void call(ExpertDispatch& dispatch) {
    dispatch.dispatch({.counts = c_.counts,
                       .held = held_by(rank_),
                       .ids = ids_.view,
                       .x = x_.view,
                       .scales = c_.has_scales() ? scales_.view.columns(kScalesBefore, own_) : Tensor(),
                       .all_ids = all_ids_.view,
                       .all_x = c_.with_x ? all_x_.view : Tensor(),
                       .all_scales = c_.has_scales() ? all_scales_.view : Tensor(),
                       .returned = returned_.view});
    dispatch.combine({.rows = rows_.view,
                      .weights = weights_.view,
                      .shared = c_.with_shared ? shared_.view : Tensor(),
                      .shared_logit = logits_.view,
                      .sums = sums_.view});
  }

  void expect(const Inputs& inputs) const {
    const std::vector<std::byte> all_ids = all_ids_.bytes(), all_x = all_x_.bytes(), scales = all_scales_.bytes();
    const size_t id_bytes = c_.k * sizeof(int32_t), x_bytes = c_.hidden * dtype_bytes(c_.act);
    int64_t token = 0;
    for (size_t r = 0; r < c_.counts.size(); ++r) {
      if (static_cast<int32_t>(r) == rank_) expect_sums(inputs, token);
      for (int64_t t = 0; t < c_.counts[r]; ++t, ++token) {
        const int32_t* ids = inputs.ids[r].view.row<int32_t>(t);
        ASSERT_EQ(std::memcmp(all_ids.data() + token * id_bytes, ids, id_bytes), 0)
            << "experts of token " << token << " at rank " << rank_;
        const bool wanted =
            c_.with_x && std::any_of(ids, ids + c_.k, [&](int32_t id) { return held_by(rank_).has(id); });
        const std::byte* there = wanted ? inputs.x[r].bytes.data() + t * x_bytes : fresh_x_.bytes.data();
        ASSERT_EQ(std::memcmp(all_x.data() + token * x_bytes, there, x_bytes), 0)
            << "row of token " << token << " at rank " << rank_;
        expect_scales(scales, token, wanted ? &inputs.scales[r] : nullptr, kScalesBefore + t);
      }
    }
    for (int64_t token = all_; token < in_fours(all_); ++token) expect_scales(scales, token, nullptr, 0);
  }

 private:
  // Those of a token are a column of `from`; null: as they were.
  void expect_scales(const std::vector<std::byte>& scales, int64_t token, const HostTensor* from,
                     int64_t column) const {
    for (int64_t group = 0; group < c_.groups(); ++group) {
      const float* wanted = from ? from->view.row<float>(group) + column : fresh_scales_.view.row<float>(group) + token;
      const size_t at = (group * in_fours(all_) + token) * sizeof(float);
      ASSERT_EQ(std::memcmp(scales.data() + at, wanted, sizeof(float)), 0)
          << "scale " << group << " of token " << token << " at rank " << rank_;
    }
  }
  // `first`: of this rank's tokens among all.
  void expect_sums(const Inputs& inputs, int64_t first) const {
    const std::vector<std::byte> sums = sums_.bytes();
    std::vector<float> wanted(static_cast<size_t>(c_.hidden));
    for (int64_t s = 0; s < c_.slices; ++s) {
      for (int64_t t = 0; t < own_; ++t) {
        std::fill(wanted.begin(), wanted.end(), 0.f);
        for (int32_t j = 0; j < c_.k; ++j) {
          const HostTensor& rows = inputs.rows[owner_of(inputs.ids[rank_].view.row<int32_t>(t)[j])];
          add(inputs.weights[rank_].view.row<float>(t)[j], row_of(rows, s, (first + t) * c_.k + j), wanted);
        }
        if (c_.with_shared) add(t % 3 ? 1.f : 0.5f, row_of(inputs.shared[rank_], s, t), wanted);
        const size_t bytes = wanted.size() * sizeof(float);
        ASSERT_EQ(std::memcmp(sums.data() + (s * own_ + t) * bytes, wanted.data(), bytes), 0)
            << "slice " << s << " of token " << t << " of rank " << rank_;
      }
    }
  }
  static void add(float weight, const std::vector<float>& row, std::vector<float>& to) {
    for (size_t i = 0; i < to.size(); ++i) to[i] = std::fma(weight, row[i], to[i]);
  }
  // Row `index` of slice s in f32.
  std::vector<float> row_of(const HostTensor& rows, int64_t s, int64_t index) const {
    std::vector<float> row(static_cast<size_t>(c_.hidden));
    for (size_t i = 0; i < row.size(); ++i) {
      const int64_t at = index * c_.hidden + static_cast<int64_t>(i);
      row[i] = rows.view.dtype == DType::kF32
                   ? rows.view.row<float>(s)[at]
                   : std::bit_cast<float>(static_cast<uint32_t>(rows.view.row<uint16_t>(s)[at]) << 16);
    }
    return row;
  }
  ExpertRange held_by(int32_t rank) const {
    const auto ranks = static_cast<int32_t>(c_.counts.size());
    const int32_t begin = c_.experts * rank / ranks;
    return {begin, c_.experts * (rank + 1) / ranks - begin};
  }
  int32_t owner_of(int32_t expert) const {
    int32_t rank = 0;
    while (!held_by(rank).has(expert)) ++rank;
    return rank;
  }

  DispatchCase c_;
  int32_t rank_;
  int64_t all_, own_;
  HostTensor fresh_x_, fresh_scales_, fresh_returned_, fresh_sums_;
  Local ids_, x_, scales_, rows_, weights_, shared_, logits_, all_ids_, all_x_, all_scales_, returned_, sums_;
};

std::vector<RankComms> expert_groups(const std::vector<std::unique_ptr<Ops>>& ops) {
  std::vector<std::unique_ptr<Comm>> comms = make_local_comms(static_cast<int32_t>(ops.size()));
  return on_devices_of(ops, [&](RankComms& handles, int32_t r) { handles.ep = std::move(comms[r]); });
}

// Recorded at the first turn and replayed with other inputs; every third turn is launched call by call.
void run_case(const DispatchCase& c, const std::vector<std::unique_ptr<Ops>>& ops,
              const std::vector<RankComms>& handles) {
  constexpr int kTurns = 5;
  static uint64_t recorded = 0;
  ++recorded;
  std::vector<Inputs> turns;
  for (int turn = 0; turn < kTurns; ++turn) turns.push_back(make_inputs(c, 500 + turn));
  const auto ranks = static_cast<int32_t>(ops.size());
  std::barrier done(ranks);
  on_every_rank(ranks, [&](int32_t r) {
    Exchange exchange(c, r, ops[r]->device(), turns[0]);
    const auto call = [&] { exchange.call(*handles[r].experts); };
    for (int turn = 0; turn < kTurns; ++turn) {
      exchange.set(turns[turn]);
      if (turn % 3 == 2) {
        call();
      } else {
        ops[r]->replay(recorded, call);
      }
      // On one GPU a copy to the host that waits for the kernels may keep the other rank from launching its own.
      done.arrive_and_wait();
      exchange.expect(turns[turn]);
    }
    done.arrive_and_wait();
  });
}

TEST(ExpertDispatch, TokensGoToTheirExpertsAndTheirRowsComeBack) {
  const int gpus = std::min(8, cuda_device_count());
  if (gpus < 2) GTEST_SKIP() << "needs two GPUs";
  const std::vector<std::unique_ptr<Ops>> ops = make_ranks(gpus);
  const std::vector<RankComms> handles = expert_groups(ops);
  ASSERT_NE(handles[0].experts, nullptr);
  const auto with_counts = [&](std::vector<int32_t> counts, DispatchCase c) {
    for (int r = 0; r < gpus; ++r) c.counts.push_back(counts[static_cast<size_t>(r) % counts.size()]);
    run_case(c, ops, handles);
  };
  with_counts({1, 1}, {{}, 128, DType::kBF16, 16, 4, 1, true, true, 16});
  with_counts({5, 3}, {{}, 4096, DType::kBF16, 512, 10, 1, true, true, 512});
  with_counts({0, 7}, {{}, 256, DType::kBF16, 16, 2, 4, true, true, 16});
  with_counts({6, 0}, {{}, 256, DType::kBF16, 16, 2, 2, false, false, 16});
  with_counts({9, 20}, {{}, 36, DType::kBF16, 16, 1, 1, true, false, 16});
  with_counts({9, 20}, {{}, 33, DType::kF32, 24, 8, 2, true, true, 24});
  with_counts({40, 33}, {{}, 512, DType::kF32, 16, 2, 1, true, true, 3});  // one rank holds all that is wanted
  with_counts({9, 20}, {{}, 33, DType::kBF16, 24, 8, 1, true, true, 24, DType::kBF16});
  with_counts({64, 30}, {{}, 512, DType::kBF16, 64, 10, 2, true, true, 64, DType::kBF16});
  with_counts({1024, 1000}, {{}, 1024, DType::kBF16, 128, 8, 1, true, true, 128});
}

// With the scales that they have at home: a row of one group, of several parts and of a part that is not full; ranks
// without tokens, and many tokens.
void dispatch_fp8(const std::vector<std::unique_ptr<Ops>>& ops, const std::vector<RankComms>& handles, bool many) {
  const auto with_counts = [&](std::vector<int32_t> counts, int64_t hidden, int32_t experts, int32_t k, int32_t chosen,
                               DType rows) {
    DispatchCase c{{}, hidden, DType::kF8E4M3, experts, k, 1, true, true, chosen, rows};
    for (size_t r = 0; r < ops.size(); ++r) c.counts.push_back(counts[r % counts.size()]);
    run_case(c, ops, handles);
  };
  with_counts({1, 1}, 128, 16, 4, 16, DType::kF32);
  with_counts({5, 3}, 4096, 512, 10, 512, DType::kBF16);
  with_counts({0, 7}, 2048, 16, 2, 16, DType::kF32);
  with_counts({9, 20}, 2944, 16, 1, 16, DType::kBF16);
  with_counts({6, 11}, 256, 16, 2, 3, DType::kBF16);  // one rank holds all that is wanted
  if (many) with_counts({1024, 1000}, 3072, 64, 2, 64, DType::kBF16);
}

TEST(ExpertDispatch, RowsMayTravelInFp8) {
  const int gpus = std::min(8, cuda_device_count());
  if (gpus < 2) GTEST_SKIP() << "needs two GPUs";
  const std::vector<std::unique_ptr<Ops>> ops = make_ranks(gpus);
  dispatch_fp8(ops, expert_groups(ops), true);
}

// Kernels that wait for each other on one GPU: so few blocks that all of them find a place.
TEST(ExpertDispatch, TwoRanksOfOneGpuMeetInItsMemory) {
  std::vector<std::unique_ptr<Ops>> ops;
  cuda_load_all_kernels();
  for (int r = 0; r < 2; ++r) ops.push_back(make_cuda_ops({.workspace_bytes = size_t{1} << 20}).value());
  std::vector<RankComms> handles(2);
  std::vector<std::unique_ptr<Comm>> comms = make_local_comms(2);
  for (size_t r = 0; r < 2; ++r) {
    handles[r].ep = std::move(comms[r]);
    handles[r].experts =
        std::make_unique<cuda::DeviceDispatch>(*handles[r].ep, static_cast<CudaDevice&>(ops[r]->device()));
  }
  dispatch_fp8(ops, handles, false);
}

TEST(ExpertDispatch, RanksThatShareAGpuCountOnTheHost) {
  const std::vector<std::unique_ptr<Ops>> ops = make_ranks(cuda_device_count() + 1);
  for (const RankComms& handles : expert_groups(ops)) EXPECT_EQ(handles.experts, nullptr);
}

}  // namespace
}  // namespace hylas::test
