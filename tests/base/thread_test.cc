#include "base/thread.h"

#include <gtest/gtest.h>

namespace hylas {
namespace {

TEST(Thread, CarriesItsName) {
  std::string seen;
  start_thread("scheduler", [&] { seen = thread_name(); }).join();
  EXPECT_EQ(seen, "scheduler");
}

TEST(Thread, LongNamesAreCut) {
  std::string seen;
  start_thread("a name of more than 15 bytes", [&] { seen = thread_name(); }).join();
  EXPECT_EQ(seen, "a name of more ");
}

}  // namespace
}  // namespace hylas
