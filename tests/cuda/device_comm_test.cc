// Ranks as threads, each over a GPU of its own where there are enough, else over shared ones: every collective gives
// the bits that ranks over host memory give, whatever the others do meanwhile.
#include <gtest/gtest.h>

#include <algorithm>
#include <barrier>
#include <cstring>

#include "base/clock.h"
#include "cuda/device_ranks.h"

namespace hylas::test {
namespace {

// One collective of `ins` into `outs` by rank, over host memory and over the GPU's, several times; the outs must agree.
using Collective = std::function<void(Comm&, const Tensor& in, const Tensor& out)>;
void expect_same(const std::vector<HostTensor>& ins, const std::vector<HostTensor>& outs, const Collective& call) {
  const auto ranks = static_cast<int32_t>(ins.size());
  std::vector<HostTensor> wanted = outs, sources = ins;
  std::vector<std::unique_ptr<Comm>> host = make_local_comms(ranks);
  on_every_rank(ranks, [&](int32_t r) { call(*host[r], sources[r], wanted[r]); });
  const std::vector<std::unique_ptr<Ops>> ops = make_ranks(ranks);
  std::barrier done(ranks);
  const std::vector<RankComms> handles = groups_on_devices(ops);
  on_every_rank(ranks, [&](int32_t r) {
    const Local in(ops[r]->device(), ins[r]), fresh(ops[r]->device(), outs[r]), work(ops[r]->device(), ins[r]);
    Local out(ops[r]->device(), outs[r]);
    for (int turn = 0; turn < 20; ++turn) {  // what a call before left must not show
      ops[r]->device().copy(out.view.data, fresh.view.data, outs[r].bytes.size());
      ops[r]->device().copy(work.view.data, in.view.data, ins[r].bytes.size());
      call(*handles[r].stage, work.view, out.view);
    }
    EXPECT_EQ(out.bytes(), wanted[r].bytes) << "rank " << r << " of " << ranks;
    done.arrive_and_wait();  // others may still look at what this rank showed them
  });
}

std::vector<HostTensor> random_tensors(DType dtype, const std::vector<int64_t>& rows, int64_t columns) {
  std::mt19937 random(94);
  std::vector<HostTensor> all;
  for (int64_t count : rows) all.push_back(random_tensor(random, dtype, {count, columns}, 1.f));
  return all;
}
std::vector<HostTensor> poisoned_tensors(DType dtype, const std::vector<int64_t>& rows, int64_t columns) {
  std::vector<HostTensor> all;
  for (int64_t count : rows) all.push_back(poisoned(dtype, {count, columns}));
  return all;
}

TEST(DeviceComm, SumsSlicesInTheOrderOfTheTree) {
  std::mt19937 random(95);
  for (const auto& [ranks, slices] : {std::pair{2, 1}, {2, 2}, {4, 1}, {8, 4}}) {
    std::vector<HostTensor> ins;
    for (int r = 0; r < ranks; ++r) ins.push_back(random_tensor(random, DType::kF32, {slices, 37, 72}, 1.f));
    expect_same(ins, poisoned_tensors(DType::kF32, std::vector<int64_t>(ranks, 37), 72),
                [](Comm& comm, const Tensor& in, const Tensor& out) { comm.all_reduce_slices(in, out); });
    // In place of the first slice.
    expect_same(ins, poisoned_tensors(DType::kF32, std::vector<int64_t>(ranks, 37), 72),
                [](Comm& comm, const Tensor& in, const Tensor& out) {
                  const Tensor first = in.rows(0, 1).reshaped({in.dim(1), in.dim(2)});
                  comm.all_reduce_slices(in, first);
                  std::vector<int32_t> counts(comm.size(), 0);
                  counts[0] = 37;
                  comm.all_gather_rows(comm.rank() == 0 ? first : first.rows(0, 0), counts, out);
                });
  }
}

// Few elements, which every rank sums whole; many; none that come in fours.
TEST(DeviceComm, SumsOfEverySize) {
  std::mt19937 random(97);
  const int ranks = std::max(2, std::min(8, cuda_device_count()));
  for (const int columns : {1, 3, 512, 4096, 40000, 262144, 262147, 1500000}) {
    std::vector<HostTensor> ins;
    for (int r = 0; r < ranks; ++r) ins.push_back(random_tensor(random, DType::kF32, {2, 1, columns}, 1.f));
    expect_same(ins, poisoned_tensors(DType::kF32, std::vector<int64_t>(ranks, 1), columns),
                [](Comm& comm, const Tensor& in, const Tensor& out) { comm.all_reduce_slices(in, out); });
  }
}

// Their kernels count it, unless ranks share a GPU.
TEST(DeviceComm, SumsTellTheirTime) {
  constexpr int kRanks = 2;
  const std::vector<std::unique_ptr<Ops>> ops = make_ranks(kRanks);
  const std::vector<RankComms> handles = groups_on_devices(ops);
  const HostTensor any = poisoned(DType::kF32, {1, 64, 2048});
  on_every_rank(kRanks, [&](int32_t r) {
    const Local in(ops[r]->device(), any);
    const int64_t begin_us = now_us();
    for (int turn = 0; turn < 100; ++turn) {
      handles[r].stage->all_reduce_slices(in.view, in.view.rows(0, 1).reshaped({64, 2048}));
    }
    in.bytes();  // by then all are over
    EXPECT_EQ(handles[r].stage->sums_us() > 0, cuda_device_count() >= kRanks);
    EXPECT_LE(handles[r].stage->sums_us(), now_us() - begin_us);
  });
}

// Recorded once, replayed with other inputs, between calls that are not recorded.
TEST(DeviceComm, SumsInAGraphWhereEveryRankHasAGpu) {
  constexpr int kRanks = 2, kTurns = 8;
  if (cuda_device_count() < kRanks) GTEST_SKIP() << "needs two GPUs";
  const std::vector<std::unique_ptr<Ops>> ops = make_ranks(kRanks);
  const std::vector<RankComms> handles = groups_on_devices(ops);
  std::barrier done(kRanks);
  const auto input = [](int rank, int turn) {
    std::mt19937 random(1000 + 10 * turn + rank);
    return random_tensor(random, DType::kF32, {1, 3, 500}, 1.f);
  };
  on_every_rank(kRanks, [&](int32_t r) {
    Device& device = ops[r]->device();
    Local in(device, input(r, 0)), out(device, poisoned(DType::kF32, {3, 500}));
    const auto body = [&] { handles[r].stage->all_reduce_slices(in.view, out.view); };
    for (int turn = 0; turn < kTurns; ++turn) {
      const HostTensor mine = input(r, turn), other = input(1 - r, turn);
      device.copy_from_host(in.view.data, mine.bytes.data(), mine.bytes.size());
      if (turn % 3 == 2) {
        body();
      } else {
        ops[r]->replay(1, body);
      }
      const std::vector<std::byte> sums = out.bytes();
      for (size_t i = 0; i < 1500; ++i) {
        float sum = 0;
        std::memcpy(&sum, sums.data() + 4 * i, 4);
        ASSERT_EQ(sum, mine.view.as<float>()[i] + other.view.as<float>()[i]) << "turn " << turn << ", element " << i;
      }
      done.arrive_and_wait();
    }
  });
}

// One kernel instead of two: the sum over the ranks, the residual and its norm have the bits of the two. More rows than
// blocks, rows of any length, also recorded.
TEST(DeviceComm, NormsOverPartialSumsOfRanksWithAGpuEach) {
  constexpr int kRanks = 2;
  if (cuda_device_count() < kRanks) GTEST_SKIP() << "needs two GPUs";
  const std::vector<std::unique_ptr<Ops>> ops = make_ranks(kRanks);
  const std::vector<RankComms> handles = groups_on_devices(ops);
  uint64_t key = 0;
  for (const DType act : {DType::kBF16, DType::kF32}) {
    for (const auto& [rows, columns, slices] :
         {std::tuple{1, 2048, 1}, {3, 40, 2}, {60, 4096, 2}, {250, 2048, 1}, {5, 37, 1}, {0, 64, 1}}) {
      ++key;
      std::mt19937 random(83);
      const HostTensor residual = random_tensor(random, act, {rows, columns}, 1.f);
      const HostTensor weight = random_tensor(random, DType::kBF16, {columns}, 1.f);
      std::vector<HostTensor> partials;
      for (int r = 0; r < kRanks; ++r) {
        partials.push_back(random_tensor(random, DType::kF32, {slices, rows, columns}, 1.f));
      }
      on_every_rank(kRanks, [&](int32_t r) {
        Device& device = ops[r]->device();
        Comm& comm = *handles[r].stage;
        Local mine(device, partials[r]), w(device, weight), summed(device, partials[r]);
        Local x(device, residual), out(device, poisoned(act, {rows, columns}));
        Local wanted_x(device, residual), wanted(device, poisoned(act, {rows, columns}));
        // In e4m3 too, where rows have that form.
        const HostTensor no_fp8 = poisoned(DType::kF8E4M3, {rows, columns});
        const HostTensor no_scales = poisoned(DType::kF32, {columns / kFp8Block, (rows + 3) / 4 * 4});
        Local fp8(device, no_fp8), wanted_fp8(device, no_fp8);
        Local scales(device, no_scales), wanted_scales(device, no_scales);
        const auto in_both_forms = [&](const Local& values, const Local& small, const Local& scaled) {
          ActRows all(values.view);
          if (act == DType::kBF16 && columns % kFp8Block == 0) all.fp8 = small.view, all.scales = scaled.view;
          return all.in(RowForm::kBoth);
        };
        const Tensor first = summed.view.rows(0, 1);
        comm.all_reduce_slices(summed.view, first.reshaped({rows, columns}));
        ops[r]->add_rms_norm(first, wanted_x.view, w.view, 1e-6f, in_both_forms(wanted, wanted_fp8, wanted_scales));
        const auto body = [&] {
          const PeerPartials* shown = comm.show_partials(mine.view);
          ASSERT_NE(shown, nullptr);
          ops[r]->add_rms_norm_over(*shown, x.view, w.view, 1e-6f, in_both_forms(out, fp8, scales));
        };
        body();
        EXPECT_EQ(x.bytes(), wanted_x.bytes()) << rows << " x " << columns;
        EXPECT_EQ(out.bytes(), wanted.bytes()) << rows << " x " << columns;
        EXPECT_EQ(fp8.bytes(), wanted_fp8.bytes()) << rows << " x " << columns;
        EXPECT_EQ(scales.bytes(), wanted_scales.bytes()) << rows << " x " << columns;
        x.set(residual);
        ops[r]->replay(key, body);  // runs it, and records it
        x.set(residual);
        ops[r]->replay(key, body);
        EXPECT_EQ(x.bytes(), wanted_x.bytes()) << rows << " x " << columns << ", recorded";
        EXPECT_EQ(out.bytes(), wanted.bytes()) << rows << " x " << columns << ", recorded";
      });
    }
  }
  // Too many for every rank to read them all.
  on_every_rank(kRanks, [&](int32_t r) {
    Local large(ops[r]->device(), poisoned(DType::kF32, {1, 400, 2048}));
    EXPECT_EQ(handles[r].stage->show_partials(large.view), nullptr);
  });
}

TEST(DeviceComm, GathersRowsAndColumns) {
  const std::vector<int32_t> counts = {3, 1, 6};
  expect_same(random_tensors(DType::kBF16, {3, 1, 6}, 40), poisoned_tensors(DType::kBF16, {10, 10, 10}, 40),
              [&](Comm& comm, const Tensor& in, const Tensor& out) { comm.all_gather_rows(in, counts, out); });
  expect_same(random_tensors(DType::kF32, {7, 7}, 33), poisoned_tensors(DType::kF32, {7, 7}, 66),
              [](Comm& comm, const Tensor& in, const Tensor& out) { comm.all_gather_columns(in, out); });
}

// Ranks with a GPU each fetch few rows in one kernel, in units of what the rows are long, and many by copies.
TEST(DeviceComm, GathersRowsOfEverySize) {
  for (const auto& [rows, columns] : {std::pair{3, 40}, {0, 64}, {1, 33}, {100, 4096}, {3000, 1024}}) {
    const std::vector<int32_t> counts = {rows, 5};
    expect_same(random_tensors(DType::kBF16, {rows, 5}, columns),
                poisoned_tensors(DType::kBF16, {rows + 5, rows + 5}, columns),
                [&](Comm& comm, const Tensor& in, const Tensor& out) { comm.all_gather_rows(in, counts, out); });
  }
}

// Rank r sends r + to rows to rank `to`: some send none to some.
TEST(DeviceComm, ExchangesRows) {
  constexpr int kRanks = 3;
  std::vector<int64_t> sent(kRanks, 0);
  std::vector<std::vector<int32_t>> counts(kRanks);
  for (int r = 0; r < kRanks; ++r) {
    for (int to = 0; to < kRanks; ++to) counts[r].push_back(r + to), sent[r] += r + to;
  }
  expect_same(random_tensors(DType::kBF16, sent, 16), poisoned_tensors(DType::kBF16, sent, 16),
              [&](Comm& comm, const Tensor& in, const Tensor& out) {
                comm.all_to_all_rows(in, counts[comm.rank()], out, counts[comm.rank()]);
              });
}

// Host memory goes its own way, between collectives of the GPU's.
TEST(DeviceComm, CountsTravelOnTheHost) {
  const std::vector<std::unique_ptr<Ops>> ops = make_ranks(2);
  const std::vector<RankComms> handles = groups_on_devices(ops);
  on_every_rank(2, [&](int32_t r) {
    std::vector<int32_t> mine = {10 * r, 10 * r + 1}, theirs(2);
    const std::vector<int32_t> ones = {1, 1};
    handles[r].stage->all_to_all_rows(Tensor(mine.data(), DType::kI32, {2, 1}), ones,
                                      Tensor(theirs.data(), DType::kI32, {2, 1}), ones);
    EXPECT_EQ(theirs, (std::vector<int32_t>{r, 10 + r}));
  });
}

// A sender far ahead of its receiver, messages of several sizes, reused memory.
TEST(DevicePipe, MessagesArriveInOrderAndWhole) {
  constexpr int kMessages = 60;
  const std::vector<std::unique_ptr<Ops>> ops = make_ranks(2);
  std::vector<std::unique_ptr<Pipe>> pipes = make_local_pipes(2);
  const auto message = [](int i) {
    std::mt19937 random(100 + i);
    return random_tensor(random, DType::kBF16, {1 + i % 7, 256}, 1.f);
  };
  const std::vector<RankComms> handles =
      on_devices_of(ops, [&](RankComms& rank, int32_t r) { rank.pipe = std::move(pipes[r]); });
  on_every_rank(2, [&](int32_t r) {
    Device& device = ops[r]->device();
    for (int i = 0; i < kMessages; ++i) {
      const HostTensor wanted = message(i);
      Local here(device, r == 0 ? wanted : poisoned(DType::kBF16, {1 + i % 7, 256}));
      int32_t token = i;
      const Tensor host(&token, DType::kI32, {1});
      if (r == 0) {
        handles[0].pipe->send(here.view, 1);
        handles[0].pipe->send(host, 1);
      } else {
        token = -1;
        handles[1].pipe->recv(here.view, 0);
        handles[1].pipe->recv(host, 0);
        EXPECT_EQ(token, i);
        EXPECT_EQ(here.bytes(), wanted.bytes) << "message " << i;
      }
    }
    int32_t word = 0;
    device.copy_to_host(&word, Local(device, message(0)).view.data, sizeof word);  // all that was launched
  });
}

}  // namespace
}  // namespace hylas::test
