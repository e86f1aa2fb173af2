// Where requests go and what instances see of them.
#include <set>

#include "router/router_fixture.h"

namespace hylas::test {
namespace {

using testing::HasSubstr;

class RoutingTest : public RouterTest {};

TEST_F(RoutingTest, WholeInstancesTakeTurnsAndSeeTheBodyAsItIs) {
  FakeWorker &a = whole(), &b = whole();
  start();
  const std::string body = R"({"text": "é",  "x": 1.50})";
  std::set<std::string> answers;
  for (int i = 0; i < 4; ++i) answers.insert(generate(body).body);
  EXPECT_EQ(answers.size(), 2u);
  EXPECT_EQ(a.seen(), 2u);
  EXPECT_EQ(b.seen(), 2u);
  EXPECT_EQ(a.requests()[0].body, body);
  EXPECT_EQ(a.requests()[0].path, "/generate");
}

TEST_F(RoutingTest, EveryGeneratingPathIsRouted) {
  FakeWorker& worker = whole();
  start();
  for (const char* path : {"/v1/chat/completions", "/v1/completions", "/generate"}) {
    EXPECT_EQ(post(path, "{}").status, 200) << path;
    EXPECT_EQ(worker.requests().back().path, path);
  }
}

TEST_F(RoutingTest, BothSidesOfAPairGetTheSameBodyWithARoom) {
  FakeWorker &p = prefill(), &d = decode();
  d.answer(200, R"({"text": "decoded"})");
  p.answer(200, R"({"ok": true})");
  start();
  HttpAnswer answer = generate(R"({"text": "Hello", "sampling_params": {"n": 2}})");
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.body, R"({"text": "decoded"})");
  ASSERT_TRUE(p.wait_for_requests(1));
  EXPECT_EQ(p.requests()[0].body, d.requests()[0].body);
  auto body = d.body(0);
  EXPECT_EQ(body.at("bootstrap_host"), "127.0.0.1");
  EXPECT_EQ(body.at("bootstrap_port"), 8998);  // as the prefill instance reports
  EXPECT_EQ(body.at("bootstrap_room").as_int64() % 65536, 0);
  EXPECT_EQ(body.at("text"), "Hello");
  generate();
  EXPECT_NE(d.body(1).at("bootstrap_room"), body.at("bootstrap_room"));
}

TEST_F(RoutingTest, ABootstrapPortOnTheCommandLineCounts) {
  prefill();
  FakeWorker& d = decode();
  options_.workers[0].bootstrap_port = 7777;
  start();
  EXPECT_EQ(generate().status, 200);
  EXPECT_EQ(d.body(0).at("bootstrap_port"), 7777);
}

TEST_F(RoutingTest, PrefillMayAnswerAfterDecode) {
  FakeWorker& p = prefill();
  decode();
  std::mutex mutex;
  ReplyPtr late;
  p.on_generate([&](const HttpRequest&, const ReplyPtr& reply) {
    std::lock_guard lock(mutex);
    late = reply;
  });
  start();
  EXPECT_EQ(generate().status, 200);
  ASSERT_TRUE(p.wait_for_requests(1));
  std::lock_guard lock(mutex);
  EXPECT_FALSE(late->gone());
  late->reply_json(200, "{}");
}

TEST_F(RoutingTest, AMixOfPairsAndWholeInstances) {
  FakeWorker& p = prefill();
  FakeWorker &d = decode(), &w = whole();
  start();
  for (int i = 0; i < 4; ++i) EXPECT_EQ(generate().status, 200);
  EXPECT_EQ(w.seen(), 2u);
  EXPECT_EQ(d.seen(), 2u);
  EXPECT_TRUE(p.wait_for_requests(2));
  EXPECT_FALSE(w.body(0).contains("bootstrap_room"));
}

TEST_F(RoutingTest, CacheAwareKeepsAPrefixTogether) {
  options_.policy = router::Policy::kCacheAware;
  FakeWorker &a = whole(), &b = whole();
  start();
  auto prompt = [](char c) { return fmt::format(R"({{"text": "{}"}})", std::string(2000, c)); };
  for (int i = 0; i < 3; ++i) {
    for (char c : {'x', 'y'}) EXPECT_EQ(generate(prompt(c)).status, 200);
  }
  for (FakeWorker* worker : {&a, &b}) {
    std::set<std::string> bodies;
    for (const HttpRequest& request : worker->requests()) bodies.insert(request.body);
    EXPECT_EQ(bodies.size(), 1u);
  }
}

TEST_F(RoutingTest, AnInstanceOfAnotherKindIsNotUsed) {
  FakeWorker& liar = decode();
  liar.set_load({.role = router::WorkerKind::kPrefill});
  whole();
  start(1);
  std::string problem;  // there once the liar has been asked, which may be after the other one is up
  EXPECT_TRUE(eventually([&] {
    const auto listed = get_json("/workers");
    const auto& found = listed.at("workers").at(0).as_object();
    if (!found.contains("problem")) return false;
    problem = std::string(found.at("problem").as_string());
    return !problem.empty();
  }));
  EXPECT_THAT(problem, HasSubstr("it says prefill"));
}

TEST_F(RoutingTest, AServerWithoutALoadReportIsUsed) {
  FakeWorker& plain = whole();
  plain.set_plain();
  start();
  EXPECT_EQ(generate().status, 200);
}

TEST_F(RoutingTest, OtherPathsAreForwarded) {
  whole();
  start();
  EXPECT_EQ(get("/v1/models").body, R"({"object": "list"})");
  EXPECT_EQ(post("/tokenize", R"({"prompt": "x"})").body, R"({"prompt": "x"})");
  EXPECT_EQ(get("/model_info").status, 404);  // the fake's own answer
  EXPECT_EQ(post("/flush_cache", "").body, "flushed");
  EXPECT_EQ(get("/nothing").status, 404);
  EXPECT_EQ(get("/generate").status, 405);
}

TEST_F(RoutingTest, BadBodiesNeverReachAnInstance) {
  FakeWorker& worker = whole();
  start();
  EXPECT_EQ(generate("{").status, 400);
  EXPECT_THAT(error_of(generate(R"({"bootstrap_room": 1})")), HasSubstr("bootstrap_room"));
  EXPECT_EQ(worker.seen(), 0u);
}

TEST_F(RoutingTest, ManyStreamsAtOnce) {
  for (int i = 0; i < 2; ++i) prefill();
  for (int i = 0; i < 2; ++i) {
    decode().on_generate([](const HttpRequest& request, const ReplyPtr& reply) {
      std::thread([text = boost::json::parse(request.body).at("text"), reply] {
        reply->begin_stream("text/event-stream");
        for (int k = 0; k < 10; ++k) {
          reply->write("data: " + boost::json::serialize(text) + "\n\n");
          std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
        reply->end();
      }).detach();
    });
  }
  start();
  std::vector<std::unique_ptr<HttpClient>> clients;
  for (int i = 0; i < 60; ++i) clients.push_back(begin(fmt::format(R"({{"text": {}, "stream": true}})", i)));
  for (int i = 0; i < 60; ++i) {
    std::string expected;
    for (int k = 0; k < 10; ++k) expected += fmt::format("data: {}\n\n", i);
    EXPECT_EQ(clients[size_t(i)]->receive().body, expected);
  }
  EXPECT_TRUE(eventually([&] { return get_json("/get_load").at("active") == 0; }));
}

}  // namespace
}  // namespace hylas::test
