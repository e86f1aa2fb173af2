#include "engine/request_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

namespace hylas {
namespace {

using testing::HasSubstr;

constexpr RequestLimits kLimits{.context_length = 100, .kv_tokens_max = 64, .vocab_size = 50};

Request good() {
  Request request;
  request.prompt = {1, 2, 3};
  request.sampling.max_new_tokens = 10;
  return request;
}

template <class Change>
std::string refusal(Change change, RequestLimits limits = kLimits) {
  Request request = good();
  change(request);
  Status status = check_request(request, limits);
  if (status.ok()) return "accepted";
  EXPECT_EQ(status.error().code, ErrorCode::kInvalid);
  return status.error().message;
}

TEST(RequestCheck, AcceptsOrdinaryRequests) { EXPECT_TRUE(check_request(good(), kLimits).ok()); }

TEST(RequestCheck, APromptNeedsATokenAndRoomForOneMore) {
  EXPECT_THAT(refusal([](Request& r) { r.prompt.clear(); }), HasSubstr("the prompt is empty"));
  EXPECT_THAT(refusal([](Request& r) { r.prompt.assign(100, 1); }),
              HasSubstr("has 100 tokens, but the context length is 100"));
  EXPECT_THAT(refusal([](Request& r) { r.prompt.assign(64, 1); }),
              HasSubstr("has 64 tokens and needs KV memory for 65, but there is room for 64"));
  EXPECT_EQ(refusal([](Request& r) { r.prompt.assign(63, 1); }), "accepted");
}

TEST(RequestCheck, IdsMustLieInTheVocabulary) {
  EXPECT_THAT(refusal([](Request& r) { r.prompt[1] = 50; }), HasSubstr("prompt: token id 50 is outside"));
  EXPECT_THAT(refusal([](Request& r) { r.prompt[1] = -1; }), HasSubstr("prompt: token id -1"));
  EXPECT_THAT(refusal([](Request& r) { r.sampling.stop_token_ids = {99}; }), HasSubstr("stop_token_ids"));
  EXPECT_THAT(refusal([](Request& r) { r.sampling.logit_bias = {{50, 1.f}}; }), HasSubstr("logit_bias"));
}

TEST(RequestCheck, SamplingParametersMustLieInTheirRanges) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THAT(refusal([](Request& r) { r.sampling.max_new_tokens = 0; }), HasSubstr("max_new_tokens is 0"));
  EXPECT_THAT(refusal([](Request& r) { r.sampling.min_new_tokens = 11; }), HasSubstr("min_new_tokens is 11"));
  EXPECT_THAT(refusal([](Request& r) { r.sampling.temperature = -1; }), HasSubstr("temperature is -1"));
  EXPECT_THAT(refusal([&](Request& r) { r.sampling.temperature = nan; }), HasSubstr("temperature is nan"));
  EXPECT_THAT(refusal([](Request& r) { r.sampling.top_k = 0; }), HasSubstr("top_k is 0"));
  EXPECT_THAT(refusal([](Request& r) { r.sampling.top_p = 0; }), HasSubstr("top_p is 0"));
  EXPECT_THAT(refusal([](Request& r) { r.sampling.top_p = 1.5; }), HasSubstr("top_p is 1.5"));
  EXPECT_THAT(refusal([](Request& r) { r.sampling.min_p = -0.5; }), HasSubstr("min_p is -0.5"));
  EXPECT_THAT(refusal([](Request& r) { r.sampling.repetition_penalty = 0; }), HasSubstr("repetition_penalty is 0"));
  EXPECT_THAT(refusal([&](Request& r) { r.sampling.presence_penalty = nan; }), HasSubstr("presence_penalty is nan"));
  EXPECT_THAT(refusal([](Request& r) { r.sampling.top_logprobs = 51; }), HasSubstr("top_logprobs is 51"));
  EXPECT_THAT(refusal([](Request& r) { r.sampling.prompt_logprobs_from = -2; }),
              HasSubstr("prompt_logprobs_from is -2"));
}

TEST(RequestCheck, TheSmallerOfContextAndMemoryBoundsASequence) {
  EXPECT_EQ(sequence_tokens_max(kLimits), 64);
  EXPECT_EQ(sequence_tokens_max({.context_length = 100, .kv_tokens_max = 5000}), 100);
}

}  // namespace
}  // namespace hylas
