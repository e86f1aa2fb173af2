// The router's own routes, keys, the workers file, and its end.
#include <future>
#include <regex>
#include <sstream>

#include "router/router_fixture.h"
#include "support/temp_dir.h"

namespace hylas::test {
namespace {

using testing::HasSubstr;

class AdminTest : public RouterTest {
 protected:
  HttpAnswer get_with(const std::string& path, const std::string& key) {
    HttpClient client(router_->port());
    client.send(fmt::format("GET {} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n", path, key));
    return client.receive();
  }
};

TEST_F(AdminTest, ClientsBringTheKeyAndWorkersGetTheirs) {
  options_.api_key = "client-key";
  options_.worker_api_key = "worker-key";
  FakeWorker& worker = whole();
  auto http = HttpServer::bind(http_options_);
  router_ = std::make_unique<router::RouterServer>(std::move(*http), options_);
  ASSERT_TRUE(router_->start().ok());
  ASSERT_TRUE(eventually([&] { return get("/health").status == 200; }));
  EXPECT_EQ(generate().status, 401);
  EXPECT_EQ(get("/workers").status, 401);
  EXPECT_EQ(get_with("/workers", "wrong").status, 401);
  EXPECT_EQ(get_with("/workers", "client-key").status, 200);
  HttpClient client(router_->port());
  client.send("POST /generate HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer client-key\r\nContent-Length: 2\r\n\r\n{}");
  EXPECT_EQ(client.receive().status, 200);
  for (const std::string& seen : worker.authorizations()) EXPECT_EQ(seen, "Bearer worker-key");
}

TEST_F(AdminTest, WithoutKeysTheClientsOwnIsPassedOn) {
  FakeWorker& worker = whole();
  start();
  EXPECT_EQ(get_with("/v1/models", "mine").status, 200);
  EXPECT_THAT(worker.authorizations(), testing::Contains("Bearer mine"));
}

TEST_F(AdminTest, WorkersAreListed) {
  prefill();
  FakeWorker& d = decode();
  start();
  auto listed = get_json("/workers");
  EXPECT_EQ(listed.at("total"), 2);
  EXPECT_EQ(listed.at("stats").at("prefill_count"), 1);
  EXPECT_EQ(listed.at("stats").at("regular_count"), 0);
  auto worker = listed.at("workers").at(1).as_object();
  EXPECT_EQ(worker.at("url"), boost::json::value(d.url()));
  EXPECT_EQ(worker.at("worker_type"), "decode");
  EXPECT_EQ(worker.at("reported").at("slots_max"), 64);
  EXPECT_EQ(get_json("/workers/worker-2"), worker);
  std::string encoded = std::regex_replace(d.url(), std::regex("/"), "%2F");
  EXPECT_EQ(get_json("/workers/" + encoded).at("id"), "worker-2");
  EXPECT_EQ(get("/workers/nobody").status, 404);
}

TEST_F(AdminTest, BadWorkersAreRefused) {
  whole();
  start();
  EXPECT_EQ(post("/workers", "{}").status, 400);
  EXPECT_EQ(post("/workers", R"({"url": "nonsense"})").status, 400);
  EXPECT_EQ(post("/workers", R"({"url": "http://h:1", "worker_type": "cook"})").status, 400);
  EXPECT_EQ(post("/workers", R"({"url": "http://h:1", "bootstrap_port": 8998})").status, 400);
}

TEST_F(AdminTest, TheWorkersFileIsFollowed) {
  TempDir folder;
  FakeWorker& given = whole();
  FakeWorker first(router::WorkerKind::kWhole), second(router::WorkerKind::kWhole);
  folder.write("workers", "regular " + first.url() + "\n");
  options_.workers_file = folder.file("workers");
  start(2);
  folder.write("workers", "regular " + second.url() + "\n");
  auto urls = [&] {
    std::vector<std::string> found;
    const auto listed = get_json("/workers");
    for (const auto& worker : listed.at("workers").as_array()) {
      found.emplace_back(worker.at("url").as_string().c_str());
    }
    return found;
  };
  EXPECT_TRUE(eventually([&] { return urls() == std::vector{given.url(), second.url()}; }));
  folder.write("workers", "nonsense\n");
  std::this_thread::sleep_for(std::chrono::milliseconds(1200));
  EXPECT_EQ(urls().size(), 2u);
  router_.reset();  // before the instances
}

TEST_F(AdminTest, ABadWorkersFileAtStartIsAnError) {
  options_.workers_file = "/no/such/file";
  auto http = HttpServer::bind(http_options_);
  router_ = std::make_unique<router::RouterServer>(std::move(*http), options_);
  Status started = router_->start();
  ASSERT_FALSE(started.ok());
  EXPECT_THAT(started.error().message, HasSubstr("/no/such/file"));
}

TEST_F(AdminTest, AUrlGivenTwiceIsAnError) {
  whole();
  options_.workers.push_back(options_.workers[0]);
  auto http = HttpServer::bind(http_options_);
  router_ = std::make_unique<router::RouterServer>(std::move(*http), options_);
  EXPECT_THAT(router_->start().error().message, HasSubstr("already"));
}

TEST_F(AdminTest, MetricsAreWellFormed) {
  FakeWorker& worker = whole();
  start();
  generate();
  worker.answer(400, "{}");
  generate();
  HttpAnswer answer = get("/metrics");
  static const std::regex kLine(R"((# (HELP|TYPE) .*|[a-z_:]+(\{([a-z_]+="[^"]*",?)*\})? [0-9.e+-]+|.* (\+Inf|Nan)|))");
  std::istringstream lines(answer.body);
  for (std::string line; std::getline(lines, line);) EXPECT_TRUE(std::regex_match(line, kLine)) << line;
  EXPECT_THAT(answer.body,
              HasSubstr(R"(hylas_router:requests_total{code="200",endpoint="/generate",outcome="answered"} 1)"));
  EXPECT_THAT(answer.body,
              HasSubstr(R"(hylas_router:requests_total{code="400",endpoint="/generate",outcome="answered"} 1)"));
  EXPECT_THAT(answer.body,
              HasSubstr("hylas_router:worker_up{worker=\"" + worker.url() + "\",worker_type=\"regular\"} 1"));
  EXPECT_THAT(answer.body, HasSubstr("hylas_router:time_to_first_byte_seconds_count 2"));
}

TEST_F(AdminTest, DrainingLetsRequestsFinishAndTakesNoMore) {
  FakeWorker& worker = whole();
  std::promise<ReplyPtr> promise;
  worker.on_generate([&](const HttpRequest&, const ReplyPtr& reply) { promise.set_value(reply); });
  start();
  auto client = begin();
  HttpClient kept(router_->port());
  EXPECT_EQ(kept.get("/liveness").status, 200);
  ReplyPtr reply = promise.get_future().get();
  auto stopping = std::async([&] { router_->stop(10'000'000); });
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  EXPECT_EQ(kept.get("/readiness").status, 503);
  reply->reply_json(200, R"({"text": "last"})");
  EXPECT_EQ(client->receive().body, R"({"text": "last"})");
  stopping.get();
}

TEST_F(AdminTest, WhatIsLeftAfterTheGraceEndsWithAnError) {
  FakeWorker& worker = whole();
  worker.on_generate([](const HttpRequest& request, const ReplyPtr& reply) {
    if (request.body.find("stream") != std::string::npos) {
      reply->begin_stream("text/event-stream");
      reply->write("data: 1\n\n");
    }
    std::thread([reply] { eventually([&] { return reply->gone(); }); }).detach();
  });
  start();
  auto whole_answer = begin(), stream = begin(R"({"stream": true})");
  ASSERT_TRUE(worker.wait_for_requests(2));
  EXPECT_THAT(stream->receive_some(), HasSubstr("HTTP/1.1 200"));
  router_->stop(50'000);
  EXPECT_EQ(whole_answer->receive().status, 503);
  std::string rest;
  for (std::string more = stream->receive_some(); !more.empty(); more = stream->receive_some()) rest += more;
  EXPECT_THAT(rest, HasSubstr("the router is stopping"));
}

}  // namespace
}  // namespace hylas::test
