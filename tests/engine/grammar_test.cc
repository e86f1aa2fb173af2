// Sequences whose next token a grammar restricts: they wait for their tokens, and say the same whatever else runs.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <regex>

#include "engine/client.h"
#include "engine/driver.h"
#include "support/goldens.h"
#include "text/grammar.h"
#include "text/tokenizer.h"

namespace hylas {
namespace {

using testing::SizeIs;

class Grammars : public testing::Test {
 protected:
  static constexpr int32_t kVocab = 1040;

  Request constrained(const std::string& pattern, int32_t max_new_tokens, uint64_t seed) {
    Request request;
    request.prompt = tokenizer_->encode("A prompt of a few words, and number " + std::to_string(seed));
    request.sampling.max_new_tokens = max_new_tokens;
    request.sampling.seed = seed;
    request.grammar = std::make_shared<GrammarMatcher>(compiler_.regex(pattern).value());
    return request;
  }
  Request free_text(int32_t max_new_tokens, uint64_t seed) {
    Request request = constrained("a", max_new_tokens, seed);
    request.grammar = nullptr;
    request.sampling.ignore_eos = true;
    return request;
  }
  std::string text_of(const std::vector<int32_t>& tokens) const { return tokenizer_->decode(tokens, true); }

  SchedulerOptions scheduler_options() const {
    SchedulerOptions options = small_options();
    options.vocab_size = kVocab;
    options.eos_ids = eos_ids_;
    return options;
  }
  EngineOptions engine_options() const {
    EngineOptions options;
    options.model_path = model_.dir;
    options.dtype = "float32";
    options.context_length = 640;
    options.max_running_requests = 4;
    options.threads = 2;
    return options;
  }

  test::GoldenModel model_ = test::golden_model("dense-realheads");
  std::unique_ptr<Tokenizer> tokenizer_ = Tokenizer::load(model_.dir).value();
  std::vector<int32_t> eos_ids_ = {1000};
  GrammarCompiler compiler_{*tokenizer_, kVocab, eos_ids_};
};

TEST_F(Grammars, ASequenceWithAGrammarDoesNotRunAhead) {
  Driver driver(scheduler_options());
  driver.submit(1, constrained("[0-9]{20}", 50, 1));
  const StepPlan* prefill = driver.plan();
  ASSERT_TRUE(prefill->rows[0].allowed) << "the first token is masked too";
  EXPECT_THAT(*prefill->rows[0].allowed, SizeIs((kVocab + 31) / 32));
  EXPECT_EQ(driver.plan(), nullptr) << "the second token's mask needs the first";
  driver.submit(2, free_text(20, 2));
  EXPECT_THAT(driver.plan()->rows, SizeIs(1)) << "others go on";
  driver.finish_one();
  EXPECT_THAT(driver.plan()->rows, SizeIs(2));
  EXPECT_TRUE(driver.run());
  EXPECT_TRUE(std::regex_match(text_of(driver.texts[1].tokens), std::regex("[0-9]{20}")));
  EXPECT_EQ(driver.texts[1].finish, FinishReason::kStop);
  EXPECT_EQ(driver.texts[1].stop_token, 1000);
  EXPECT_TRUE(driver.clean());
}

TEST_F(Grammars, ATextThatIsCutShortIsALengthFinish) {
  Driver driver(scheduler_options());
  driver.submit(1, constrained("[0-9]{200}", 5, 1));
  EXPECT_TRUE(driver.run());
  EXPECT_THAT(driver.texts[1].tokens, SizeIs(5));
  EXPECT_EQ(driver.texts[1].finish, FinishReason::kLength);
}

TEST_F(Grammars, TheTextIsTheSameAloneInABatchAndAfterRetractions) {
  const std::string pattern = "([a-f]{3}-[0-9]{2} ){20}end";
  std::vector<std::string> alone;
  std::unique_ptr<Engine> roomy = Engine::start(engine_options()).value();
  for (uint64_t seed = 0; seed < 4; ++seed) {
    Client client(*roomy);
    Answer answer = client.wait(client.send(constrained(pattern, 400, seed)));
    ASSERT_EQ(answer.finish, FinishReason::kStop);
    alone.push_back(text_of(answer.tokens));
    EXPECT_TRUE(std::regex_match(alone.back(), std::regex(pattern))) << alone.back();
  }
  EngineOptions tight_options = engine_options();
  tight_options.page_size = 16;
  tight_options.max_total_tokens = 24 * 16;
  std::unique_ptr<Engine> tight = Engine::start(tight_options).value();
  Client client(*tight);
  std::vector<RequestId> ids;
  for (uint64_t seed = 0; seed < 4; ++seed) {
    ids.push_back(client.send(constrained(pattern, 340, seed)));
    client.send(free_text(100, 100 + seed));
  }
  for (uint64_t seed = 0; seed < 4; ++seed) EXPECT_EQ(text_of(client.wait(ids[seed]).tokens), alone[seed]);
  EXPECT_GT(tight->stats().retractions_total, 0u);
}

}  // namespace
}  // namespace hylas
