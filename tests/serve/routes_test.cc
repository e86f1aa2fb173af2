// Routes that do not generate, and what all routes share.
#include "serve/routes.h"

#include "serve/serve_fixture.h"

namespace hylas::test {
namespace {

using boost::json::array;
using boost::json::object;
using boost::json::parse;

class RoutesTest : public ServeTest {
 protected:
  Answer get(const std::string& path) { return request("GET", path); }
  Answer with_key(const std::string& path, const std::string& authorization) {
    auto reply = std::make_shared<CapturedReply>();
    handle_request(context(), {.method = "GET", .path = path, .authorization = authorization}, reply);
    return reply->wait();
  }
};

TEST_F(RoutesTest, UnknownPathsAndMethods) {
  EXPECT_EQ(get("/nothing").status, 404);
  EXPECT_EQ(get("/v1/chat/completions").status, 405);
  EXPECT_EQ(request("DELETE", "/health").status, 405);
  EXPECT_EQ(request("OPTIONS", "/v1/completions").status, 204);
  EXPECT_EQ(request("HEAD", "/health").status, 200);
}

TEST_F(RoutesTest, ErrorsHaveOpenAisForm) {
  object error = post("/v1/completions", {{"prompt", "x"}, {"top_p", 7}}).json().at("error").as_object();
  EXPECT_EQ(error.at("type"), "invalid_request_error");
  EXPECT_EQ(error.at("param"), "top_p");
  EXPECT_EQ(error.at("code"), 400);
  EXPECT_TRUE(error.at("message").is_string());
}

TEST_F(RoutesTest, ApiKey) {
  options_.api_key = "secret";
  EXPECT_EQ(with_key("/v1/models", "").status, 401);
  EXPECT_EQ(with_key("/v1/models", "Bearer wrong").status, 401);
  EXPECT_EQ(with_key("/v1/models", "Bearer secret ").status, 401);
  EXPECT_EQ(with_key("/v1/models", "Bearer secret").status, 200);
  EXPECT_EQ(with_key("/health", "").status, 200);
  EXPECT_EQ(with_key("/metrics", "").status, 401);
}

TEST_F(RoutesTest, Models) {
  EXPECT_EQ(get("/v1/models").json().at("data").at(0).at("id"), "fake");
  EXPECT_EQ(get("/v1/models/fake").json().at("id"), "fake");
  EXPECT_EQ(get("/v1/models/other").status, 404);
}

TEST_F(RoutesTest, TokenizeText) {
  object json = post("/tokenize", {{"prompt", "Hello there"}}).json();
  EXPECT_EQ(json.at("count"), int64_t(encode("Hello there").size()));
  object back = post("/detokenize", {{"tokens", json.at("tokens")}}).json();
  EXPECT_EQ(back.at("text"), "Hello there");
}

TEST_F(RoutesTest, TokenizeMessagesGivesThePromptOfAChat) {
  array messages{object{{"role", "user"}, {"content", "Hello"}}};
  object json = post("/tokenize", {{"messages", messages}}).json();
  post("/v1/chat/completions", {{"messages", messages}});
  std::vector<int32_t> prompt = engine_->requests().at(0).prompt;
  EXPECT_EQ(json.at("tokens"), array(prompt.begin(), prompt.end()));
  EXPECT_LT(post("/tokenize", {{"messages", messages}, {"add_generation_prompt", false}}).json().at("count").as_int64(),
            json.at("count").as_int64());
}

TEST_F(RoutesTest, BadTokenize) {
  EXPECT_EQ(post("/tokenize", boost::json::object()).error(), "`prompt` is required: a string");
  EXPECT_EQ(post("/tokenize", {{"prompt", 5}}).status, 400);
  EXPECT_EQ(post("/detokenize", {{"tokens", array{-1}}}).status, 400);
  EXPECT_EQ(post("/detokenize", {{"tokens", array{array{1}}}}).status, 400);
  EXPECT_EQ(post("/detokenize", {{"tokens", array{"x"}}}).status, 400);
  EXPECT_EQ(request("POST", "/tokenize", "nonsense").status, 400);
}

TEST_F(RoutesTest, Health) {
  EXPECT_EQ(get("/health").status, 200);
  EXPECT_EQ(get("/health_generate").status, 200);
  EXPECT_EQ(engine_->requests().size(), 1u);
  EXPECT_EQ(engine_->requests()[0].sampling.max_new_tokens, 1);
  context().stopping = true;
  EXPECT_EQ(get("/health").status, 503);
}

TEST_F(RoutesTest, Infos) {
  EXPECT_EQ(get("/model_info").json().at("is_generation"), true);
  EXPECT_EQ(get("/get_model_info").json().at("context_length"), 4096);
  object info = get("/server_info").json();
  EXPECT_EQ(info.at("page_size"), 64);
  EXPECT_EQ(info.at("internal_states").at(0).at("slots_max"), 16);
  EXPECT_EQ(get("/get_server_info").status, 200);
  EXPECT_EQ(request("POST", "/flush_cache").status, 200);
}

TEST_F(RoutesTest, LoadIsWhatARouterAsksFor) {
  object load = get("/get_load").json();
  EXPECT_EQ(load.at("role"), "whole");
  EXPECT_EQ(load.at("bootstrap_port"), 0);
  EXPECT_EQ(load.at("running"), 0);
  EXPECT_EQ(load.at("slots_free"), 16);
  EXPECT_EQ(load.at("slots_max"), 16);
  EXPECT_EQ(load.at("page_size"), 64);
  engine_->mutable_info().role = InstanceRole::kPrefill;
  engine_->mutable_info().bootstrap_port = 8998;
  load = get("/get_load").json();
  EXPECT_EQ(load.at("role"), "prefill");
  EXPECT_EQ(load.at("bootstrap_port"), 8998);
}

TEST_F(RoutesTest, MetricsAreOffUnlessAskedFor) {
  Answer answer = get("/metrics");
  EXPECT_EQ(answer.status, 404);
  EXPECT_NE(answer.error().find("--enable-metrics"), std::string::npos);
}

TEST_F(RoutesTest, Metrics) {
  options_.enable_metrics = true;
  script("Hi there");
  post("/v1/completions", {{"prompt", "x"}});
  std::string text = get("/metrics").body;
  for (const char* line : {"# TYPE hylas:num_running_reqs gauge", "# TYPE hylas:generation_tokens_total counter",
                           "# TYPE hylas:time_to_first_token_seconds histogram",
                           "hylas:num_requests_total{engine_type=\"unified\",model_name=\"fake\"} 1"}) {
    EXPECT_NE(text.find(line), std::string::npos) << line << "\n" << text;
  }
}

TEST_F(RoutesTest, NoTemplateNoChat) {
  text_.chat_template = nullptr;
  Answer answer = post("/v1/chat/completions", {{"messages", array{object{{"role", "user"}, {"content", "x"}}}}});
  EXPECT_EQ(answer.status, 400);
  EXPECT_NE(answer.error().find("--chat-template"), std::string::npos);
}

TEST_F(RoutesTest, TheTemplatesOwnComplaintIsTheClientsError) {
  Answer answer = post("/v1/chat/completions", {{"messages", array{object{{"role", "assistant"}, {"content", "x"}}}}});
  EXPECT_EQ(answer.status, 400);
  EXPECT_EQ(answer.error_param(), "messages");
}

}  // namespace
}  // namespace hylas::test
