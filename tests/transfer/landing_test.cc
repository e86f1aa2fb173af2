// Landing: every way in which a transfer can be short, doubled or damaged is noticed.
#include "transfer/landing.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "transfer/port_support.h"

namespace hylas {
namespace {

using ::testing::HasSubstr;

// Four ranks wrote to two.
class Landings : public ::testing::Test {
 protected:
  void expect(const std::vector<SourceSum>& sources, const char* why) {
    const Status status = landing.check(grant, sources);
    ASSERT_FALSE(status.ok());
    EXPECT_THAT(status.error().message, HasSubstr(why));
  }

  const InstanceLayout from = test::small_layout({.tp = 2, .pp = 2}), to = test::small_layout({.tp = 2});
  test::Memory memory = test::memory_of(to, 3);
  const Grant grant = test::grant_of(1);
  const std::vector<SourceSum> sums = test::sums_of(from, to, grant, memory);
  Landing landing{from, to, test::starts_of(memory)};
};

TEST_F(Landings, AllThatWasGrantedIsThere) {
  EXPECT_EQ(bytes_needed(to, 0, 3, true), sums[0].bytes + sums[1].bytes + sums[2].bytes + sums[3].bytes);
  const Status status = landing.check(grant, sums);
  EXPECT_TRUE(status.ok()) << status.error().message;
  EXPECT_TRUE(landing.check(grant, {sums[2], sums[0], sums[3], sums[1]}).ok());
}

TEST_F(Landings, OneFlippedBitInAPageOrSlotIsNoticed) {
  size_t noticed = 0;
  for (auto& bytes : memory) {
    for (size_t at = 0; at < bytes.size(); at += 13) {
      bytes[at] ^= 4;
      noticed += !landing.check(grant, sums).ok();
      bytes[at] ^= 4;
    }
  }
  // All that was written, and nothing else: 3 of 8 pages and 1 of 3 slots.
  const double written = static_cast<double>(bytes_needed(to, 0, 3, true)) / 13;
  EXPECT_NEAR(static_cast<double>(noticed), written, written / 20);
  EXPECT_TRUE(landing.check(grant, sums).ok());
}

TEST_F(Landings, AMissingRankIsNoticed) {
  for (size_t missing = 0; missing < sums.size(); ++missing) {
    auto rest = sums;
    rest.erase(rest.begin() + static_cast<ptrdiff_t>(missing));
    expect(rest, "bytes were written of");
  }
  expect({}, "0 bytes were written of");
}

TEST_F(Landings, ARankTwiceIsNoticed) {
  expect({sums[0], sums[1], sums[2], sums[2]}, "named twice");
  SourceSum nothing = sums[0];
  nothing.bytes = 0;
  expect({sums[0], sums[1], sums[2], sums[3], nothing}, "named twice");
}

TEST_F(Landings, ARankThatIsNoneIsNoticed) {
  expect({sums[0], sums[1], sums[2], sums[3], {4, 0, 0}}, "no prefill rank 4");
  expect({sums[0], sums[1], sums[2], sums[3], {-1, 0, 0}}, "no prefill rank -1");
}

TEST_F(Landings, BytesThatOneRankWroteForAnotherAreNoticed) {
  auto shifted = sums;
  shifted[0].bytes += 8;
  shifted[1].bytes -= 8;
  expect(shifted, "prefill rank 0 wrote");
}

TEST_F(Landings, ASumOfOtherBytesIsNoticed) {
  auto wrong = sums;
  ++wrong[3].sum;
  expect(wrong, "prefill rank 3 arrived damaged");
}

TEST_F(Landings, RanksWithNothingToSendMayBeListed) {
  const InstanceLayout two_groups = test::small_layout({.tp = 2, .dp = 2});
  Landing other(two_groups, to, test::starts_of(memory));
  auto of_group_0 = test::sums_of(two_groups, to, grant, memory);
  ASSERT_EQ(of_group_0.size(), 1u);
  EXPECT_TRUE(other.check(grant, {of_group_0[0], {1, 0, 0}}).ok());
}

TEST_F(Landings, OneDpGroupWritesAll) {
  const InstanceLayout two_groups = test::small_layout({.tp = 4, .dp = 2});
  Landing other(two_groups, to, test::starts_of(memory));
  auto sources = test::sums_of(two_groups, to, grant, memory);
  ASSERT_TRUE(other.check(grant, sources).ok());
  sources[1].rank = 3;
  const Status status = other.check(grant, sources);
  ASSERT_FALSE(status.ok());
  EXPECT_THAT(status.error().message, HasSubstr("2 dp groups"));
}

TEST_F(Landings, WithoutASlotOnlyPagesAreNeeded) {
  Grant pages_only = grant;
  pages_only.slot = -1;
  EXPECT_TRUE(landing.check(pages_only, test::sums_of(from, to, pages_only, memory)).ok());
  expect(test::sums_of(from, to, pages_only, memory), "bytes were written of");
}

}  // namespace
}  // namespace hylas
