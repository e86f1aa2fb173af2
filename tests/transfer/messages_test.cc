// Control messages as bytes: what goes in comes out, and nothing else is taken for a message.
#include "transfer/messages.h"

#include <gtest/gtest.h>

#include <random>

namespace hylas {
namespace {

std::vector<ControlMessage> one_of_each() {
  return {Hello{kControlVersion, "layout", "link"},
          Welcome{"layout"},
          Refusal{"page sizes differ"},
          Grant{11, 12, 10, 0xfeed, 1, 3, {4, 5, 6}},
          Done{11, 12, {{0, 100, 0xabc}, {1, 0, 0}}, "first"},
          Received{11, 12},
          Failed{11, 12, true, "no room"},
          Abort{11, 12},
          Aborted{11, 12}};
}

TEST(ControlMessages, SurviveTheWire) {
  for (const ControlMessage& message : one_of_each()) {
    const auto back = decode_message(encode(message));
    ASSERT_TRUE(back.ok()) << back.error().message;
    EXPECT_EQ(back->index(), message.index());
    EXPECT_EQ(encode(*back), encode(message));
  }
}

TEST(ControlMessages, KeepEveryMember) {
  const auto grant = std::get<Grant>(*decode_message(encode(one_of_each()[3])));
  EXPECT_EQ(grant.room, 11u);
  EXPECT_EQ(grant.epoch, 12u);
  EXPECT_EQ(grant.prompt_tokens, 10);
  EXPECT_EQ(grant.prompt_checksum, 0xfeedu);
  EXPECT_EQ(grant.group, 1);
  EXPECT_EQ(grant.slot, 3);
  EXPECT_EQ(grant.pages, (std::vector<int32_t>{4, 5, 6}));
  const auto done = std::get<Done>(*decode_message(encode(one_of_each()[4])));
  ASSERT_EQ(done.sources.size(), 2u);
  EXPECT_EQ(done.sources[0].bytes, 100u);
  EXPECT_EQ(done.sources[0].sum, 0xabcu);
  EXPECT_EQ(done.sources[1].rank, 1);
  EXPECT_EQ(done.first, "first");
  const auto failed = std::get<Failed>(*decode_message(encode(one_of_each()[6])));
  EXPECT_TRUE(failed.may_retry);
  EXPECT_EQ(failed.why, "no room");
}

TEST(ControlMessages, CutShortOrContinuedAreRefused) {
  for (const ControlMessage& message : one_of_each()) {
    const std::string bytes = encode(message);
    for (size_t length = 0; length < bytes.size(); ++length) {
      EXPECT_FALSE(decode_message(bytes.substr(0, length)).ok()) << "kind " << message.index() << ", " << length;
    }
    EXPECT_FALSE(decode_message(bytes + '\0').ok()) << "kind " << message.index();
  }
}

TEST(ControlMessages, OfUnknownKindAreRefused) {
  EXPECT_FALSE(decode_message("").ok());
  EXPECT_FALSE(decode_message(std::string(1, static_cast<char>(std::variant_size_v<ControlMessage>))).ok());
  EXPECT_FALSE(decode_message("\xff").ok());
}

// Four billion pages announced in a few bytes: decoding ends at once, and takes no memory for them.
TEST(ControlMessages, CountsThatTheBytesDoNotHoldAreRefused) {
  std::string bytes = encode(Grant{.pages = {}});
  bytes.replace(bytes.size() - 4, 4, "\xff\xff\xff\xff");
  EXPECT_FALSE(decode_message(bytes).ok());
}

// So that the answer can say which versions do not fit.
TEST(ControlMessages, AHelloOfAnotherVersionTellsItsVersion) {
  std::string bytes = encode(Hello{kControlVersion, "layout", "link"});
  bytes[1] = static_cast<char>(kControlVersion + 1);
  for (const std::string& other : {bytes, bytes.substr(0, 5), bytes + "more"}) {
    const auto message = decode_message(other);
    ASSERT_TRUE(message.ok()) << message.error().message;
    EXPECT_EQ(std::get<Hello>(*message).version, kControlVersion + 1);
    EXPECT_EQ(std::get<Hello>(*message).layout, "");
  }
}

TEST(ControlMessages, AnyBytesAreAMessageOrAnError) {
  std::mt19937 random(20);
  for (int round = 0; round < 20'000; ++round) {
    const auto messages = one_of_each();
    std::string bytes = encode(messages[random() % messages.size()]);
    for (int change = 0; change < 3; ++change) bytes[random() % bytes.size()] = static_cast<char>(random());
    const auto message = decode_message(bytes);
    if (!message.ok()) continue;
    EXPECT_TRUE(decode_message(encode(*message)).ok());
  }
}

}  // namespace
}  // namespace hylas
