// Every golden checkpoint through the engine: the reference's greedy tokens, all prompts in one batch.
#include <gtest/gtest.h>

#include "engine/golden_prompts.h"
#include "support/test_device.h"

namespace hylas {
namespace {

class EngineGoldens : public testing::TestWithParam<test::GoldenModel> {};

TEST_P(EngineGoldens, GreedyTokensAreTheReferences) {
  const test::GoldenFile golden(GetParam(), "golden_fp32.safetensors");
  for (int32_t chunk : {512, 64}) {
    SCOPED_TRACE(testing::Message() << "chunks of " << chunk);
    EngineOptions options;
    options.model_path = GetParam().dir;
    options.device = test::test_device();
    options.dtype = "float32";
    options.context_length = 1024;
    options.chunked_prefill_size = chunk;
    options.threads = 2;
    Result<std::unique_ptr<Engine>> engine = Engine::start(options);
    ASSERT_TRUE(engine.ok()) << engine.error().message;
    expect_golden_tokens(**engine, golden, {"p1", "p5", "p63", "p64", "p65", "p130", "p517"});
  }
}

INSTANTIATE_TEST_SUITE_P(Models, EngineGoldens, testing::ValuesIn(test::golden_models()),
                         [](const auto& info) { return info.param.test_name(); });

}  // namespace
}  // namespace hylas
