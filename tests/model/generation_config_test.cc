#include "model/generation_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/goldens.h"

namespace hylas::test {
namespace {

TEST(GenerationConfig, ReadsTheReleasedForm) {
  const GenerationConfig config = parse_generation_config(golden_model("mtp-moe").dir).value();
  EXPECT_THAT(config.eos_ids, testing::ElementsAre(1002, 1000));
  EXPECT_EQ(config.do_sample, true);
  EXPECT_EQ(config.temperature, 1.0);
  EXPECT_EQ(config.top_k, 20);
  EXPECT_EQ(config.top_p, 0.95);
  EXPECT_FALSE(config.min_p || config.repetition_penalty || config.presence_penalty || config.frequency_penalty);
}

TEST(GenerationConfig, AMissingFileSaysNothing) {
  const GenerationConfig config = parse_generation_config("/does/not/exist").value();
  EXPECT_TRUE(config.eos_ids.empty());
  EXPECT_FALSE(config.do_sample || config.temperature || config.top_k || config.top_p);
}

TEST(GenerationConfig, OneStopTokenNeedsNoList) {
  EXPECT_THAT(parse_generation_config_text(R"({"eos_token_id":7})", "x")->eos_ids, testing::ElementsAre(7));
}

TEST(GenerationConfig, NamesTheFileAndTheFieldThatIsWrong) {
  for (const auto& [text, field] : std::initializer_list<std::pair<const char*, const char*>>{
           {R"({"temperature":-1})", "`temperature`"},
           {R"({"top_p":"high"})", "`top_p`"},
           {R"({"top_k":-2})", "`top_k`"},
           {R"({"repetition_penalty":0})", "`repetition_penalty`"},
           {R"({"do_sample":1})", "`do_sample`"},
           {R"({"eos_token_id":["a"]})", "`eos_token_id`"},
           {"nonsense", "invalid JSON"}}) {
    const auto config = parse_generation_config_text(text, "x/generation_config.json");
    ASSERT_FALSE(config.ok()) << text;
    EXPECT_EQ(config.error().code, ErrorCode::kInvalid);
    EXPECT_THAT(config.error().message,
                testing::AllOf(testing::HasSubstr("x/generation_config.json"), testing::HasSubstr(field)));
  }
}

}  // namespace
}  // namespace hylas::test
