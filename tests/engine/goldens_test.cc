// Every golden checkpoint through the engine: the reference's greedy tokens, all prompts in one batch.
#include <gtest/gtest.h>

#include "engine/client.h"
#include "support/goldens.h"

namespace hylas {
namespace {

class EngineGoldens : public testing::TestWithParam<test::GoldenModel> {};

TEST_P(EngineGoldens, GreedyTokensAreTheReferences) {
  const test::GoldenFile golden(GetParam(), "golden_fp32.safetensors");
  for (int32_t chunk : {512, 64}) {
    EngineOptions options;
    options.model_path = GetParam().dir;
    options.dtype = "float32";
    options.context_length = 1024;
    options.chunked_prefill_size = chunk;
    options.threads = 2;
    Result<std::unique_ptr<Engine>> engine = Engine::start(options);
    ASSERT_TRUE(engine.ok()) << engine.error().message;
    Client client(**engine);
    std::vector<std::pair<std::string, RequestId>> sent;
    for (const char* prompt : {"p1", "p5", "p63", "p64", "p65", "p130", "p517"}) {
      Request request;
      request.prompt = golden.i32(std::string(prompt) + ".input_ids");
      request.sampling.max_new_tokens = 32;
      request.sampling.temperature = 0;
      request.sampling.ignore_eos = true;
      sent.emplace_back(prompt, client.send(request));
    }
    for (const auto& [prompt, id] : sent) {
      EXPECT_EQ(client.wait(id).tokens, golden.i32(prompt + ".greedy_ids")) << prompt << ", chunks of " << chunk;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, EngineGoldens, testing::ValuesIn(test::golden_models()),
                         [](const auto& info) { return info.param.test_name(); });

}  // namespace
}  // namespace hylas
