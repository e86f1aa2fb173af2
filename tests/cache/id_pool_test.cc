#include "cache/id_pool.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

namespace hylas {
namespace {

TEST(IdPool, HandsOutEveryIdOnce) {
  IdPool pool("page", 5);
  std::set<int32_t> ids;
  for (int i = 0; i < 5; ++i) ids.insert(pool.take());
  EXPECT_EQ(ids, (std::set<int32_t>{0, 1, 2, 3, 4}));
  EXPECT_EQ(pool.available(), 0);
  EXPECT_EQ(pool.used(), 5);
}

TEST(IdPool, ReusesTheIdGivenBackLast) {
  IdPool pool("slot", 4);
  int32_t first = pool.take();
  int32_t second = pool.take();
  pool.give_back(first);
  pool.give_back(second);
  EXPECT_EQ(pool.take(), second);
  EXPECT_EQ(pool.take(), first);
}

TEST(IdPool, CountsStayRightUnderRandomUse) {
  const uint64_t seed = 7;
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  IdPool pool("page", 64);
  std::vector<int32_t> out;
  for (int i = 0; i < 10000; ++i) {
    if (pool.available() > 0 && random() % 2) {
      out.push_back(pool.take());
    } else if (!out.empty()) {
      std::swap(out[random() % out.size()], out.back());
      pool.give_back(out.back());
      out.pop_back();
    }
    ASSERT_EQ(pool.used(), static_cast<int64_t>(out.size()));
    ASSERT_EQ(std::set<int32_t>(out.begin(), out.end()).size(), out.size()) << "an id is out twice";
  }
  pool.give_back(out);
  EXPECT_EQ(pool.available(), 64);
}

TEST(IdPoolDeathTest, AbortsWhenAnIdComesBackTwice) {
  IdPool pool("page", 2);
  int32_t id = pool.take();
  pool.give_back(id);
  EXPECT_DEATH(pool.give_back(id), "page 0 is given back but was not out");
  EXPECT_DEATH(pool.give_back(2), "page 2");
}

TEST(IdPoolDeathTest, AbortsWhenNothingIsLeft) {
  IdPool pool("slot", 0);
  EXPECT_DEATH(pool.take(), "no slot is free of 0");
}

}  // namespace
}  // namespace hylas
