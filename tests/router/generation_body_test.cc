// What a router reads of a body, and what it adds.
#include "router/generation_body.h"

#include <gtest/gtest.h>

#include <boost/json.hpp>

#include "router/prefix_map.h"

namespace hylas::router {
namespace {

constexpr size_t kBytesMax = 1 << 20;

GenerationBody read(Endpoint endpoint, std::string_view body) {
  auto result = read_generation(endpoint, body, kBytesMax);
  EXPECT_TRUE(result.ok()) << result.error().message;
  return result.ok() ? *result : GenerationBody{};
}

TEST(GenerationBody, TextIsAThirdOfItsBytes) {
  Demand demand = read(Endpoint::kGenerate, R"({"text": "123456789"})").demand;
  EXPECT_EQ(demand.sequences, 1);
  EXPECT_EQ(demand.prompt_tokens, 3);
  EXPECT_EQ(demand.growth_tokens, 128);  // the default of /generate
}

TEST(GenerationBody, IdsAreCounted) {
  EXPECT_EQ(read(Endpoint::kGenerate, R"({"input_ids": [5, 6, 7, 8]})").demand.prompt_tokens, 4);
  Demand two = read(Endpoint::kCompletions, R"({"prompt": [[5, 6], [7, 8, 9]]})").demand;
  EXPECT_EQ(two.sequences, 2);
  EXPECT_EQ(two.prompt_tokens, 5);
  EXPECT_EQ(read(Endpoint::kCompletions, R"({"prompt": [5, 6]})").demand.sequences, 1);
}

TEST(GenerationBody, CopiesCountAsSequences) {
  Demand demand = read(Endpoint::kCompletions, R"({"prompt": ["abc", "abcdef"], "n": 3, "max_tokens": 10})").demand;
  EXPECT_EQ(demand.sequences, 6);
  EXPECT_EQ(demand.prompt_tokens, 9);
  EXPECT_EQ(demand.growth_tokens, 60);
  EXPECT_EQ(read(Endpoint::kGenerate, R"({"text": "a", "sampling_params": {"n": 4}})").demand.sequences, 4);
}

TEST(GenerationBody, GrowthIsBounded) {
  EXPECT_EQ(read(Endpoint::kChat, R"({"messages": [], "max_tokens": 100000})").demand.growth_tokens, 512);
  EXPECT_EQ(read(Endpoint::kChat, R"({"messages": [], "max_completion_tokens": 7})").demand.growth_tokens, 7);
  EXPECT_EQ(read(Endpoint::kChat, R"({"messages": []})").demand.growth_tokens, 512);
}

TEST(GenerationBody, ChatsCountAllTheirTextButNoPictures) {
  std::string picture(30'000, 'A');
  auto body = read(Endpoint::kChat, R"({"messages": [{"role": "user", "content": [{"type": "text", "text": ")" +
                                        std::string(300, 'x') + R"("}, {"type": "image_url", "image_url": {"url": ")" +
                                        picture + R"("}}]}]})");
  EXPECT_GE(body.demand.prompt_tokens, 100);
  EXPECT_LT(body.demand.prompt_tokens, 150);
}

TEST(GenerationBody, ThePrefixIsThePromptsText) {
  std::string shared(4 * kPrefixBlockBytes, 's');
  auto chat = [&](const std::string& end) {
    return read(Endpoint::kChat, R"({"temperature": 0.)" + std::to_string(end.size()) +
                                     R"(, "messages": [{"role": "system", "content": ")" + shared +
                                     R"("}, {"role": "user", "content": ")" + end + R"("}]})")
        .prefix;
  };
  auto one = chat(std::string(200, 'a')), two = chat(std::string(300, 'b'));
  ASSERT_GT(one.size(), 4u);
  EXPECT_EQ(one[3], two[3]);
  EXPECT_NE(one[4], two[4]);
  std::string ids = "[1";
  for (int i = 0; i < 100; ++i) ids += ",1";
  EXPECT_EQ(read(Endpoint::kGenerate, R"({"input_ids": )" + ids + "]}").prefix.size(), 3u);  // 32 ids are a block
}

TEST(GenerationBody, WhatIsNoObjectOrSetsTheRoutersFieldsIsRefused) {
  EXPECT_FALSE(read_generation(Endpoint::kChat, "{", kBytesMax).ok());
  EXPECT_FALSE(read_generation(Endpoint::kChat, "[]", kBytesMax).ok());
  auto taken = read_generation(Endpoint::kChat, R"({"bootstrap_room": 7})", kBytesMax);
  EXPECT_EQ(taken.error().message, "`bootstrap_room` is set by the router: leave it out");
}

TEST(GenerationBody, WrongTypesAreLeftToTheInstance) {
  EXPECT_EQ(read(Endpoint::kChat, R"({"messages": 5, "n": "x", "max_tokens": -3})").demand.sequences, 1);
  EXPECT_EQ(read(Endpoint::kGenerate, R"({"text": {}, "sampling_params": [5]})").demand.sequences, 1);
  EXPECT_EQ(read(Endpoint::kCompletions, R"({"prompt": null})").demand.prompt_tokens, 0);
}

TEST(GenerationBody, BootstrapFieldsComeFirstAndTheRestStaysAsItWas) {
  Bootstrap bootstrap{"10.0.0.1", 8998, room_of(UINT64_MAX)};
  std::string body = with_bootstrap(R"( {"text": "é", "x": 1.50})", bootstrap);
  EXPECT_TRUE(body.ends_with(R"("text": "é", "x": 1.50})")) << body;
  auto json = boost::json::parse(body).as_object();
  EXPECT_EQ(json.at("bootstrap_host"), "10.0.0.1");
  EXPECT_EQ(json.at("bootstrap_port"), 8998);
  EXPECT_EQ(json.at("bootstrap_room"), int64_t{0x3fffffffffff0000});
  EXPECT_EQ(boost::json::parse(with_bootstrap("{ }", bootstrap)).as_object().size(), 3u);
}

TEST(GenerationBody, RoomsLeaveGaps) {
  for (uint64_t random : {uint64_t{0}, uint64_t{12345678901234567}, UINT64_MAX}) {
    EXPECT_EQ(room_of(random) % 65536, 0u);
    EXPECT_LT(room_of(random), uint64_t{1} << 62);
  }
}

}  // namespace
}  // namespace hylas::router
