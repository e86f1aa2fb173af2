#pragma once
// A router in front of fake instances, over real sockets, with short times.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <memory>
#include <string>
#include <vector>

#include "router/fake_worker.h"
#include "router/router_server.h"
#include "support/http_client.h"

namespace hylas::test {

class RouterTest : public testing::Test {
 protected:
  RouterTest() {
    options_.policy = router::Policy::kRoundRobin;
    options_.retry.first_us = 5'000;
    options_.health.interval_us = 50'000;
    options_.health.load_interval_us = 20'000;
    options_.queue.no_worker_us_max = 300'000;
  }
  ~RouterTest() override {
    router_.reset();  // its calls end before the instances
    workers_.clear();
  }

  FakeWorker& add(router::WorkerKind kind) {
    workers_.push_back(std::make_unique<FakeWorker>(kind));
    options_.workers.push_back(*router::parse_worker(kind, workers_.back()->url()));
    return *workers_.back();
  }
  FakeWorker& whole() { return add(router::WorkerKind::kWhole); }
  FakeWorker& prefill() { return add(router::WorkerKind::kPrefill); }
  FakeWorker& decode() { return add(router::WorkerKind::kDecode); }

  // Starts it and waits until `up` workers are up; -1: all.
  void start(int up = -1) {
    auto http = HttpServer::bind(http_options_);
    ASSERT_TRUE(http.ok()) << http.error().message;
    router_ = std::make_unique<router::RouterServer>(std::move(*http), options_);
    Status started = router_->start();
    ASSERT_TRUE(started.ok()) << started.error().message;
    ASSERT_TRUE(wait_until_up(up < 0 ? options_.workers.size() : size_t(up)));
  }
  bool wait_until_up(size_t count) {
    return eventually([&] { return workers_up() == count; });
  }
  size_t workers_up() {
    size_t up = 0;
    const auto listed = get_json("/workers");
    for (const auto& worker : listed.at("workers").as_array()) up += worker.at("is_healthy").as_bool();
    return up;
  }

  HttpClient client(int receive_buffer_bytes = 0) { return HttpClient(router_->port(), receive_buffer_bytes); }
  HttpAnswer get(const std::string& path) { return client().get(path); }
  boost::json::object get_json(const std::string& path) { return boost::json::parse(get(path).body).as_object(); }
  HttpAnswer post(const std::string& path, const std::string& body) { return client().post(path, body); }
  HttpAnswer generate(const std::string& body = R"({"text": "Hello"})") { return post("/generate", body); }
  // Sends and does not wait.
  std::unique_ptr<HttpClient> begin(const std::string& body = R"({"text": "Hello"})", int receive_buffer_bytes = 0) {
    auto sender = std::make_unique<HttpClient>(router_->port(), receive_buffer_bytes);
    sender->send(fmt::format("POST /generate HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{}", body.size(), body));
    return sender;
  }
  std::string error_of(const HttpAnswer& answer) {
    return std::string(boost::json::parse(answer.body).at("error").at("message").as_string());
  }

  router::RouterOptions options_;
  HttpOptions http_options_;
  std::vector<std::unique_ptr<FakeWorker>> workers_;
  std::unique_ptr<router::RouterServer> router_;
};

}  // namespace hylas::test
