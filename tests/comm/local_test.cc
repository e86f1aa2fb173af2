// The collectives between threads, each against what a single loop says.
#include "comm/local.h"

#include <gtest/gtest.h>

#include <functional>
#include <random>
#include <thread>

#include "comm/pipe.h"

namespace hylas {
namespace {

void on_all_ranks(int size, const std::function<void(Comm&)>& body) {
  auto comms = make_local_comms(size);
  std::vector<std::thread> threads;
  for (auto& comm : comms) threads.emplace_back([&body, &comm] { body(*comm); });
  for (std::thread& thread : threads) thread.join();
}

std::vector<float> random_values(size_t count, uint32_t seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = normal(generator);
  return values;
}

constexpr int64_t kTokens = 7, kColumns = 13, kElements = kTokens * kColumns;

TEST(LocalComm, ReducesFourSlicesAlikeOnOneTwoAndFourRanks) {
  const std::vector<float> slices = random_values(4 * kElements, 1);
  std::vector<float> expected(kElements);
  for (int64_t i = 0; i < kElements; ++i) {
    expected[i] = (slices[i] + slices[kElements + i]) + (slices[2 * kElements + i] + slices[3 * kElements + i]);
  }
  for (int size : {1, 2, 4}) {
    on_all_ranks(size, [&](Comm& comm) {
      const int64_t mine = 4 / size;
      std::vector<float> partials(slices.begin() + comm.rank() * mine * kElements,
                                  slices.begin() + (comm.rank() + 1) * mine * kElements);
      const Tensor in(partials.data(), DType::kF32, {mine, kTokens, kColumns});
      comm.all_reduce_slices(in, Tensor(partials.data(), DType::kF32, {kTokens, kColumns}));
      for (int64_t i = 0; i < kElements; ++i) ASSERT_EQ(partials[i], expected[i]) << "size " << size << " at " << i;
    });
  }
}

TEST(LocalComm, GathersUnequalRowsInRankOrder) {
  const std::vector<int32_t> counts = {2, 0, 3};
  on_all_ranks(3, [&](Comm& comm) {
    std::vector<int32_t> in(counts[comm.rank()] * 2, comm.rank());
    std::vector<int32_t> out(10, -1);
    comm.all_gather_rows(Tensor(in.data(), DType::kI32, {counts[comm.rank()], 2}), counts,
                         Tensor(out.data(), DType::kI32, {5, 2}));
    EXPECT_EQ(out, (std::vector<int32_t>{0, 0, 0, 0, 2, 2, 2, 2, 2, 2}));
  });
}

TEST(LocalComm, GathersColumnsSideBySide) {
  on_all_ranks(2, [](Comm& comm) {
    std::vector<int32_t> in = {10 * comm.rank(), 10 * comm.rank() + 1, 10 * comm.rank() + 2, 10 * comm.rank() + 3};
    std::vector<int32_t> out(8, -1);
    comm.all_gather_columns(Tensor(in.data(), DType::kI32, {2, 2}), Tensor(out.data(), DType::kI32, {2, 4}));
    EXPECT_EQ(out, (std::vector<int32_t>{0, 1, 10, 11, 2, 3, 12, 13}));
  });
}

TEST(LocalComm, AllToAllDeliversEveryRowOnce) {
  constexpr int kSize = 3;
  // Rank r sends r + to rows to rank `to`, each holding 100 * r + to.
  on_all_ranks(kSize, [](Comm& comm) {
    std::vector<int32_t> send, recv, in, expected;
    for (int r = 0; r < kSize; ++r) {
      send.push_back(comm.rank() + r);
      recv.push_back(r + comm.rank());
      in.insert(in.end(), send.back(), 100 * comm.rank() + r);
      expected.insert(expected.end(), recv.back(), 100 * r + comm.rank());
    }
    std::vector<int32_t> out(expected.size(), -1);
    comm.all_to_all_rows(Tensor(in.data(), DType::kI32, {static_cast<int64_t>(in.size()), 1}), send,
                         Tensor(out.data(), DType::kI32, {static_cast<int64_t>(out.size()), 1}), recv);
    EXPECT_EQ(out, expected);
  });
}

TEST(LocalPipe, MessagesArriveInOrderAndTheSenderRunsAhead) {
  constexpr int kMessages = 100;
  auto pipes = make_local_pipes(2);
  // Nobody receives yet: all sends return all the same.
  for (int32_t i = 0; i < kMessages; ++i) pipes[0]->send(Tensor(&i, DType::kI32, {1}), 1);
  std::thread receiver([&] {
    for (int32_t i = 0; i < kMessages; ++i) {
      int32_t got = -1;
      pipes[1]->recv(Tensor(&got, DType::kI32, {1}), 0);
      ASSERT_EQ(got, i);
    }
  });
  receiver.join();
}

TEST(LocalComm, NoneLeavesBeforeAllHaveComeWithMoreRanksThanCores) {
  std::atomic<int> count{0};
  on_all_ranks(8, [&](Comm& comm) {
    int32_t mine = comm.rank();
    std::vector<int32_t> all(8);
    const auto meet = [&] {
      comm.all_gather_columns(Tensor(&mine, DType::kI32, {1, 1}), Tensor(all.data(), DType::kI32, {1, 8}));
    };
    for (int round = 1; round <= 200; ++round) {
      count.fetch_add(1);
      meet();
      ASSERT_GE(count.load(), 8 * round);
      meet();
      ASSERT_EQ(all, (std::vector<int32_t>{0, 1, 2, 3, 4, 5, 6, 7}));
    }
  });
}

}  // namespace
}  // namespace hylas
