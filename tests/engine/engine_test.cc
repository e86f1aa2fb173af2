// The engine on a tiny model: what a request says depends on the request alone.
#include "engine/engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "engine/client.h"
#include "engine/layout_workload.h"
#include "support/layout_models.h"
#include "support/tiny_model.h"

namespace hylas {
namespace {

using test::kTinyVocab;
using test::tiny_engine_options;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

std::unique_ptr<Engine> start(const EngineOptions& options) {
  Result<std::unique_ptr<Engine>> engine = Engine::start(options);
  HYLAS_CHECK(engine.ok(), "{}", engine.error().message);
  return std::move(engine).value();
}

Request request_of(int32_t prompt_tokens, int32_t max_new_tokens, uint64_t seed) {
  std::mt19937_64 random(seed);
  Request request;
  for (int32_t i = 0; i < prompt_tokens; ++i) request.prompt.push_back(static_cast<int32_t>(random() % kTinyVocab));
  request.sampling.max_new_tokens = max_new_tokens;
  request.sampling.temperature = 0.f;
  request.sampling.ignore_eos = true;
  request.sampling.seed = seed;
  return request;
}

// Drawn at random with every parameter that reads what came before.
Request sampled_request(int32_t prompt_tokens, int32_t max_new_tokens, uint64_t seed) {
  Request request = request_of(prompt_tokens, max_new_tokens, seed);
  request.sampling.temperature = 1.2f;
  request.sampling.top_k = 50;
  request.sampling.top_p = 0.95f;
  request.sampling.repetition_penalty = 1.3f;
  request.sampling.presence_penalty = 0.5f;
  request.sampling.frequency_penalty = 0.2f;
  request.sampling.top_logprobs = 2;
  return request;
}

std::vector<int32_t> alone(const EngineOptions& options, const Request& request) {
  std::unique_ptr<Engine> engine = start(options);
  Client client(*engine);
  return client.wait(client.send(request)).tokens;
}

class OfEveryType : public testing::TestWithParam<const char*> {
 protected:
  EngineOptions options() const {
    EngineOptions options = tiny_engine_options();
    options.dtype = GetParam();
    return options;
  }
};
INSTANTIATE_TEST_SUITE_P(Types, OfEveryType, testing::Values("float32", "bfloat16"));

TEST_P(OfEveryType, ARequestSaysTheSameAloneAndAmong32Others) {
  Request greedy = request_of(150, 40, 1), sampled = sampled_request(97, 40, 2);
  const std::vector<int32_t> greedy_alone = alone(options(), greedy), sampled_alone = alone(options(), sampled);
  ASSERT_THAT(greedy_alone, SizeIs(40));

  std::unique_ptr<Engine> engine = start(options());
  Client client(*engine);
  std::vector<RequestId> ids;
  for (uint64_t other = 0; other < 16; ++other)
    ids.push_back(client.send(request_of(20 + 31 * other, 30, 100 + other)));
  RequestId first = client.send(greedy), second = client.send(sampled);
  for (uint64_t other = 0; other < 16; ++other) ids.push_back(client.send(sampled_request(1 + other, 60, 200 + other)));
  EXPECT_EQ(client.wait(first).tokens, greedy_alone);
  EXPECT_EQ(client.wait(second).tokens, sampled_alone);
  for (RequestId id : ids) client.wait(id);
  EXPECT_TRUE(nothing_in_use(*engine));
}

TEST_P(OfEveryType, ARequestSaysTheSameAfterARetraction) {
  EngineOptions roomy = options(), tight = options();
  roomy.max_running_requests = tight.max_running_requests = 8;
  tight.max_total_tokens = 10 * 64;
  std::vector<Request> requests;
  for (uint64_t i = 0; i < 8; ++i) requests.push_back(i % 2 ? request_of(60, 200, i) : sampled_request(60, 200, i));

  std::vector<std::vector<int32_t>> expected;
  for (const Request& request : requests) expected.push_back(alone(roomy, request));
  std::unique_ptr<Engine> engine = start(tight);
  Client client(*engine);
  std::vector<RequestId> ids;
  for (const Request& request : requests) ids.push_back(client.send(request));
  for (size_t i = 0; i < ids.size(); ++i) EXPECT_EQ(client.wait(ids[i]).tokens, expected[i]) << "request " << i;
  EXPECT_GT(engine->stats().retractions_total, 0u);
  EXPECT_TRUE(nothing_in_use(*engine));
}

TEST_P(OfEveryType, ChunksDoNotChangeTheText) {
  Request request = sampled_request(500, 30, 5);
  request.sampling.prompt_logprobs_from = 0;
  std::optional<Answer> one_shot;
  for (int32_t chunk : {512, 64, 128, 192}) {
    EngineOptions chunked = options();
    chunked.chunked_prefill_size = chunk;
    std::unique_ptr<Engine> engine = start(chunked);
    Client client(*engine);
    Answer answer = client.wait(client.send(request));
    ASSERT_THAT(answer.prompt_logprobs, SizeIs(500));
    if (!one_shot) one_shot = answer;
    EXPECT_EQ(answer.tokens, one_shot->tokens) << "chunks of " << chunk;
    for (size_t i = 1; i < 500; ++i) {
      EXPECT_EQ(answer.prompt_logprobs[i].logprob, one_shot->prompt_logprobs[i].logprob) << "position " << i;
    }
  }
}

TEST(Engine, PageSizesAndFewerThreadsDoNotChangeTheText) {
  Request request = sampled_request(200, 30, 5);
  const std::vector<int32_t> expected = alone(tiny_engine_options(), request);
  for (int32_t page_size : {1, 16, 128}) {
    EngineOptions options = tiny_engine_options();
    options.page_size = page_size;
    options.threads = 1;
    EXPECT_EQ(alone(options, request), expected) << "pages of " << page_size;
  }
}

TEST(Engine, LogprobsComeWithEveryToken) {
  std::unique_ptr<Engine> engine = start(tiny_engine_options());
  Client client(*engine);
  Request request = request_of(10, 5, 1);
  request.sampling.top_logprobs = 3;
  request.sampling.prompt_logprobs_from = 4;
  Answer answer = client.wait(client.send(request));
  ASSERT_THAT(answer.outputs, SizeIs(5));
  for (const OutputToken& token : answer.outputs) {
    ASSERT_THAT(token.top, SizeIs(3));
    EXPECT_EQ(token.top[0].token, token.id) << "greedy takes the best";
    EXPECT_EQ(token.top[0].logprob, token.logprob);
    EXPECT_LT(token.logprob, 0.f);
  }
  ASSERT_THAT(answer.prompt_logprobs, SizeIs(6));
  for (size_t i = 0; i < 6; ++i) {
    EXPECT_EQ(answer.prompt_logprobs[i].id, request.prompt[4 + i]);
    EXPECT_THAT(answer.prompt_logprobs[i].top, SizeIs(3));
  }
}

// A prompt's logprobs are those of the same tokens when they were generated: prefill and decode agree.
TEST(Engine, PromptLogprobsAgreeWithThoseOfGeneration) {
  EngineOptions options = tiny_engine_options();
  options.dtype = "float32";
  std::unique_ptr<Engine> engine = start(options);
  Client client(*engine);
  Request request = request_of(30, 100, 3);
  request.sampling.top_logprobs = 0;
  Answer generated = client.wait(client.send(request));
  Request echo = request;
  echo.prompt.insert(echo.prompt.end(), generated.tokens.begin(), generated.tokens.end());
  echo.sampling.max_new_tokens = 1;
  echo.sampling.prompt_logprobs_from = 30;
  Answer echoed = client.wait(client.send(echo));
  ASSERT_THAT(echoed.prompt_logprobs, SizeIs(100));
  for (size_t i = 0; i < 100; ++i) {
    EXPECT_NEAR(echoed.prompt_logprobs[i].logprob, generated.outputs[i].logprob, 1e-4) << i;
  }
}

TEST(Engine, StatsCountWorkAndTime) {
  std::unique_ptr<Engine> engine = start(tiny_engine_options());
  Client client(*engine);
  client.wait(client.send(request_of(100, 50, 1)));
  EXPECT_TRUE(nothing_in_use(*engine));
  EngineStats stats = engine->stats();
  EXPECT_EQ(stats.prompt_tokens_total, 100u);
  EXPECT_EQ(stats.generated_tokens_total, 50u);
  EXPECT_EQ(stats.steps_total, 50u) << "the last chunk samples the first token, and nothing overran";
  EXPECT_GT(stats.busy_us_total, 0);
  EXPECT_GT(stats.generation_tokens_per_s, 0);
}

// On the CPU: ranks that share a GPU do not count them.
TEST(Engine, StatsTellTheTimeOfSumsOverRanks) {
  for (const int32_t tp : {1, 2}) {
    EngineOptions options = test::layout_options(test::layout_model_path({.layers = 5}), "float32", {.tp = tp});
    options.device = "cpu";
    std::unique_ptr<Engine> engine = start(options);
    Client client(*engine);
    client.wait(client.send(request_of(100, 50, 1)));
    const StageStats stage = engine->stats().stages.at(0);
    EXPECT_EQ(stage.sums_us > 0, tp > 1) << "tp " << tp;
    EXPECT_LT(stage.sums_us, stage.busy_us);
  }
}

TEST(Engine, RefusesWhatCanNeverRun) {
  EngineOptions options = tiny_engine_options();
  options.max_total_tokens = 256;
  std::unique_ptr<Engine> engine = start(options);
  auto refusal = [&](const Request& request) {
    Result<RequestId> id = engine->submit(request, [](Output) { ADD_FAILURE() << "refused requests have no output"; });
    return id.ok() ? "accepted" : id.error().message;
  };
  EXPECT_THAT(refusal(request_of(0, 5, 1)), HasSubstr("empty"));
  EXPECT_THAT(refusal(request_of(5000, 5, 1)), HasSubstr("5000 tokens, but the context length is 2048"));
  EXPECT_THAT(refusal(request_of(300, 5, 1)), HasSubstr("needs KV memory for 301, but there is room for 256"));
  EXPECT_EQ(engine->info().kv_tokens_max, 256);
}

TEST(Engine, AbortEndsARequestWhereverItIs) {
  EngineOptions options = tiny_engine_options();
  options.max_running_requests = 2;
  std::unique_ptr<Engine> engine = start(options);
  Client client(*engine);
  std::vector<RequestId> ids;
  for (uint64_t i = 0; i < 6; ++i) ids.push_back(client.send(request_of(100, 1900, i)));
  client.wait_for_tokens(ids[0], 3);
  for (RequestId id : ids) engine->abort(id);
  for (RequestId id : ids) EXPECT_EQ(client.wait(id).finish, FinishReason::kAbort);
  EXPECT_TRUE(nothing_in_use(*engine));
  EXPECT_EQ(engine->stats().aborted_total, 6u);
}

TEST(Engine, DrainLetsRunningRequestsFinishAndTakesNoMore) {
  std::unique_ptr<Engine> engine = start(tiny_engine_options());
  Client client(*engine);
  std::vector<RequestId> ids;
  for (uint64_t i = 0; i < 5; ++i) ids.push_back(client.send(request_of(50, 50, i)));
  engine->drain(60'000'000);
  for (RequestId id : ids) EXPECT_EQ(client.wait(id).finish, FinishReason::kLength);
  Result<RequestId> late = engine->submit(request_of(5, 5, 1), [](Output) {});
  ASSERT_FALSE(late.ok());
  EXPECT_EQ(late.error().code, ErrorCode::kUnavailable);
}

TEST(Engine, DrainAbortsWhatOutlastsItsTime) {
  std::unique_ptr<Engine> engine = start(tiny_engine_options());
  Client client(*engine);
  RequestId id = client.send(request_of(50, 1900, 1));
  client.wait_for_tokens(id, 1);
  engine->drain(1000);
  EXPECT_EQ(client.wait(id).finish, FinishReason::kAbort);
}

TEST(Engine, DestructionAbortsWhatRuns) {
  std::unique_ptr<Engine> engine = start(tiny_engine_options());
  Client client(*engine);
  RequestId id = client.send(request_of(50, 1900, 1));
  engine.reset();
  EXPECT_EQ(client.wait(id).finish, FinishReason::kAbort);
}

TEST(EngineSlow, SurvivesHundredsOfRequestsWithRandomAborts) {
  const uint64_t seed = 17;
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  EngineOptions options = tiny_engine_options();
  options.max_running_requests = 12;
  options.max_total_tokens = 10 * 64;
  options.context_length = 1000;
  std::unique_ptr<Engine> engine = start(options);
  Client client(*engine);
  std::vector<RequestId> ids;
  for (int i = 0; i < 300; ++i) {
    const auto prompt_tokens = static_cast<int32_t>(1 + random() % 200);
    const auto new_tokens = static_cast<int32_t>(1 + random() % 250);
    Request request = random() % 2 ? request_of(prompt_tokens, new_tokens, random())
                                   : sampled_request(prompt_tokens, new_tokens, random());
    request.sampling.ignore_eos = random() % 2;
    ids.push_back(client.send(request));
    if (random() % 4 == 0) engine->abort(ids[random() % ids.size()]);
    if (random() % 8 == 0) client.wait(ids[random() % ids.size()]);
  }
  for (RequestId id : ids) EXPECT_TRUE(client.wait(id).finish.has_value());
  EXPECT_TRUE(nothing_in_use(*engine));
  EXPECT_GT(engine->stats().retractions_total, 0u) << "the memory was never tight";
}

}  // namespace
}  // namespace hylas
