// /generate, SGLang's native form, over a fake engine.
#include "serve/serve_fixture.h"

namespace hylas::test {
namespace {

using boost::json::array;
using boost::json::object;
using boost::json::value;

class NativeTest : public ServeTest {
 protected:
  array ids_json(const std::string& text) const {
    array ids;
    for (int32_t id : encode(text)) ids.emplace_back(id);
    return ids;
  }
};

TEST_F(NativeTest, WholeAnswer) {
  script(" world");
  object json = post("/generate", {{"text", "Hello"}, {"rid", "mine"}}).json();
  EXPECT_EQ(json.at("text"), " world");
  array ids = ids_json(" world");
  ids.emplace_back(end_token(*text_.tokenizer));
  EXPECT_EQ(json.at("output_ids"), ids);
  const object& meta = json.at("meta_info").as_object();
  EXPECT_EQ(meta.at("id"), "mine");
  EXPECT_EQ(meta.at("finish_reason"), (object{{"type", "stop"}, {"matched", end_token(*text_.tokenizer)}}));
  EXPECT_EQ(meta.at("prompt_tokens"), int64_t(encode("Hello").size()));
  EXPECT_EQ(meta.at("completion_tokens"), int64_t(ids.size()));
  EXPECT_EQ(meta.at("cached_tokens"), 0);
  EXPECT_GT(meta.at("e2e_latency").as_double(), 0);
  EXPECT_FALSE(meta.contains("output_token_logprobs"));
}

TEST_F(NativeTest, IdsInIdsOut) {
  engine_->set_script([](const Request& request) { return request.prompt; });
  object json = post("/generate", {{"input_ids", array{5, 6}}, {"sampling_params", {{"max_new_tokens", 2}}}}).json();
  EXPECT_EQ(json.at("output_ids"), (array{5, 6}));
  EXPECT_EQ(json.at("meta_info").at("finish_reason"), (object{{"type", "length"}, {"length", 2}}));
}

TEST_F(NativeTest, AListGetsAList) {
  engine_->set_script([](const Request& request) { return request.prompt; });
  Answer answer = post("/generate", {{"text", array{"one", "two"}}});
  array list = boost::json::parse(answer.body).as_array();
  ASSERT_EQ(list.size(), 2u);
  EXPECT_EQ(list[0].at("text"), "one");
  EXPECT_EQ(list[1].at("text"), "two");
}

TEST_F(NativeTest, AStreamRepeatsTheTextSoFar) {
  script(" big wide world");
  Answer answer = post("/generate", {{"text", "Hello"}, {"stream", true}});
  std::string before;
  for (const value& event : answer.events) {
    std::string text(event.at("text").as_string());
    EXPECT_TRUE(text.starts_with(before));
    before = text;
  }
  EXPECT_EQ(before, " big wide world");
  EXPECT_EQ(answer.events.front().at("meta_info").at("finish_reason"), nullptr);
  EXPECT_EQ(answer.events.back().at("meta_info").at("finish_reason").at("type"), "stop");
  EXPECT_TRUE(answer.done);
}

TEST_F(NativeTest, AnIncrementalStreamDoesNot) {
  options_.incremental_streaming_output = true;
  script(" big wide world");
  Answer answer = post("/generate", {{"text", "Hello"}, {"stream", true}});
  std::string text;
  array ids;
  for (const value& event : answer.events) {
    text += std::string(event.at("text").as_string());
    for (const value& id : event.at("output_ids").as_array()) ids.push_back(id);
  }
  EXPECT_EQ(text, " big wide world");
  ids.pop_back();  // the end of text
  EXPECT_EQ(ids, ids_json(" big wide world"));
}

TEST_F(NativeTest, AStreamedListNumbersItsEvents) {
  engine_->set_script([](const Request& request) { return request.prompt; });
  Answer answer = post("/generate", {{"text", array{"one", "two"}}, {"stream", true}});
  std::vector<std::string> last(2);
  for (const value& event : answer.events) {
    last.at(size_t(event.at("index").as_int64())) = std::string(event.at("text").as_string());
  }
  EXPECT_EQ(last, (std::vector<std::string>{"one", "two"}));
}

TEST_F(NativeTest, LogprobsOfPromptAndReply) {
  script("abc");
  object body{{"text", "Hello there"}, {"return_logprob", true}, {"logprob_start_len", 0}, {"top_logprobs_num", 2}};
  object meta = post("/generate", body).json().at("meta_info").as_object();
  size_t prompt_tokens = encode("Hello there").size();
  ASSERT_EQ(meta.at("input_token_logprobs").as_array().size(), prompt_tokens);
  EXPECT_EQ(meta.at("input_token_logprobs").at(0).at(0), nullptr);
  EXPECT_EQ(meta.at("input_token_logprobs").at(1).at(0), -1.5);
  EXPECT_EQ(meta.at("input_top_logprobs").as_array().size(), prompt_tokens);
  const array& output = meta.at("output_token_logprobs").as_array();
  EXPECT_EQ(output.size(), encode("abc").size() + 1);
  EXPECT_EQ(output[0].at(0), -0.5);
  EXPECT_EQ(output[0].at(1), encode("abc")[0]);
  EXPECT_EQ(meta.at("output_top_logprobs").at(0).as_array().size(), 2u);
}

TEST_F(NativeTest, AbortByRequestId) {
  script("on and on");
  engine_->set_endless(true);
  engine_->set_token_wait_us(1000);
  engine_->mutable_info().context_length = 1 << 20;
  object sampling{{"max_new_tokens", 1 << 19}};
  auto mine = begin("/generate", {{"text", "x"}, {"rid", "mine"}, {"sampling_params", sampling}});
  auto other = begin("/generate", {{"text", "x"}, {"rid", "other"}, {"sampling_params", sampling}});
  EXPECT_EQ(post("/abort_request", {{"rid", "mine"}}).status, 200);
  Answer answer = mine->wait();
  EXPECT_EQ(answer.json().at("meta_info").at("finish_reason").at("type"), "abort");
  EXPECT_EQ(engine_->running(), 1);
  EXPECT_EQ(post("/abort_request", {{"abort_all", true}}).status, 200);
  EXPECT_EQ(other->wait().json().at("meta_info").at("finish_reason").at("type"), "abort");
  EXPECT_EQ(post("/abort_request", {{"rid", "mine"}}).status, 200);  // finished: ignored
  EXPECT_EQ(post("/abort_request", boost::json::object()).status, 400);
}

TEST_F(NativeTest, EachSequenceOfARequestHasARoomOfItsOwn) {
  post("/generate", {{"text", array{"one", "two"}},
                     {"sampling_params", {{"n", 2}}},
                     {"bootstrap_host", "p"},
                     {"bootstrap_port", 8998},
                     {"bootstrap_room", 100}});
  std::vector<uint64_t> rooms;
  for (const Request& request : engine_->requests()) rooms.push_back(request.bootstrap.value().room);
  std::sort(rooms.begin(), rooms.end());
  EXPECT_EQ(rooms, (std::vector<uint64_t>{100, 101, 102, 103}));
}

TEST_F(NativeTest, APrefillingInstanceNeverStreams) {
  engine_->mutable_info().role = InstanceRole::kPrefill;
  script(" world");
  EXPECT_EQ(post("/generate", {{"text", "Hello"}, {"stream", true}}).json().at("text"), " world");
}

TEST_F(NativeTest, AStreamOfADecodingInstanceThatFailsBeforeItsFirstTokenHasAStatus) {
  engine_->mutable_info().role = InstanceRole::kDecode;
  engine_->set_failure("the prefilling instance is gone", true);
  EXPECT_EQ(post("/generate", {{"text", "Hello"}, {"stream", true}}).status, 503);
}

}  // namespace
}  // namespace hylas::test
