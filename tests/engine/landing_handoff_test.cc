// A decoding instance whose device nobody else can write to: states land in memory of their own and are copied from
// there.
#include <gtest/gtest.h>

#include "engine/instance_pair.h"

namespace hylas {
namespace {

// A decoding instance whose device others cannot write to.
InstancePair landing_pair(int32_t landing_slots) {
  SchedulerOptions decode = with_role(small_options(), InstanceRole::kDecode);
  decode.group_ranks = 2;
  decode.landing_pages = decode.longest_prompt_pages();
  decode.landing_slots = landing_slots;
  return {with_role(small_options(), InstanceRole::kPrefill), decode};
}

void prefill_until_it_lands(InstancePair& pair) {
  while (!pair.deliver_to_decode()) {
    pair.plan(pair.prefill);
    pair.finish_one(pair.prefill);
    pair.deliver_part(0);
  }
}

TEST(LandingHandoff, WhereAStateLandedIsFreeOnceEveryRankHasCopiedIt) {
  InstancePair pair = landing_pair(1);
  const Request one = make_request(300, 20, 1), two = make_request(100, 20, 2);
  submit(pair, 1, one);
  submit(pair, 2, two);
  pair.plan(pair.decode);
  ASSERT_TRUE(pair.deliver_to_prefill());
  EXPECT_FALSE(pair.deliver_to_prefill()) << "one place to land, one grant";
  prefill_until_it_lands(pair);
  const EngineStats landed = pair.decode.scheduler.stats();
  EXPECT_EQ(landed.landing_pages_used, 5);
  EXPECT_EQ(landed.landing_slots_used, 1);
  ASSERT_TRUE(pair.plan(pair.decode));
  EXPECT_EQ(pair.decode.sent.back().lands.size(), 1u);
  EXPECT_EQ(pair.decode.sent.back().rows.size(), 1u) << "the row comes with the state that it reads";
  ASSERT_TRUE(pair.finish_one(pair.decode));
  ASSERT_TRUE(pair.deliver_copied());
  EXPECT_EQ(pair.decode.scheduler.stats().landing_slots_used, 1) << "the other rank may still read it";
  ASSERT_TRUE(pair.deliver_copied());
  EXPECT_EQ(pair.decode.scheduler.stats().landing_slots_used, 0);
  pair.run_until_idle();
  EXPECT_EQ(pair.decode.texts[1].tokens, expected_text(one, pair.decode.options).tokens);
  EXPECT_EQ(pair.decode.texts[2].tokens, expected_text(two, pair.decode.options).tokens);
  EXPECT_TRUE(pair.clean());
}

TEST(LandingHandoff, ARequestAbortedWhileItsStateIsCopiedKeepsAllItsMemory) {
  InstancePair pair = landing_pair(2);
  submit(pair, 1, make_request(300, 20));
  pair.plan(pair.decode);
  pair.deliver_to_prefill();
  prefill_until_it_lands(pair);
  pair.abort_decode(1);
  EXPECT_EQ(pair.decode.texts[1].finish, FinishReason::kAbort);
  ASSERT_TRUE(pair.plan(pair.decode)) << "the copy was promised";
  ASSERT_TRUE(pair.finish_one(pair.decode));
  ASSERT_TRUE(pair.deliver_copied());
  const EngineStats stats = pair.decode.scheduler.stats();
  EXPECT_EQ(stats.landing_pages_used, 5);
  EXPECT_EQ(stats.pages_used, 5) << "the other rank may still write there";
  pair.run_until_idle();
  EXPECT_TRUE(pair.clean());
}

TEST(LandingHandoff, AStateThatLandsForNobodyIsNotCopied) {
  InstancePair pair = landing_pair(2);
  submit(pair, 1, make_request(300, 20));
  pair.plan(pair.decode);
  pair.deliver_to_prefill();
  pair.abort_decode(1);
  EXPECT_EQ(pair.decode.scheduler.stats().landing_slots_used, 1) << "the other instance may still write there";
  pair.run_until_idle();
  EXPECT_TRUE(pair.clean());
}

}  // namespace
}  // namespace hylas
