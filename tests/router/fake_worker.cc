#include "router/fake_worker.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"

namespace hylas::test {

FakeWorker::FakeWorker(router::WorkerKind kind, uint16_t port) : kind(kind) {
  load_ = {.role = kind, .slots_free = 64, .slots_max = 64, .pages_free = 1000, .pages_max = 1000, .page_size = 64};
  if (kind == router::WorkerKind::kPrefill) load_.bootstrap_port = 8998;
  auto server = HttpServer::bind({.port = port});
  HYLAS_CHECK(server.ok(), "{}", server.error().message);
  server_ = std::move(*server);
  auto handler = [this](HttpRequest request, ReplyPtr reply) { handle(std::move(request), std::move(reply)); };
  HYLAS_CHECK(server_->start(handler, [](int, const std::string& message) { return message; }).ok());
  answer(200, fmt::format(R"({{"text": "from {}"}})", this->port()));
}

FakeWorker::~FakeWorker() { server_.reset(); }

std::string FakeWorker::url() const { return fmt::format("http://127.0.0.1:{}", port()); }

void FakeWorker::on_generate(Handler handler) {
  std::lock_guard lock(mutex_);
  handler_ = std::move(handler);
}

void FakeWorker::answer(int status, std::string json) {
  on_generate([=](const HttpRequest&, const ReplyPtr& reply) { reply->reply_json(status, json); });
}

void FakeWorker::set_health(int status) {
  std::lock_guard lock(mutex_);
  health_ = status;
}

void FakeWorker::set_load(router::WorkerLoad load) {
  std::lock_guard lock(mutex_);
  load_ = load;
}

size_t FakeWorker::seen() const {
  std::lock_guard lock(mutex_);
  return requests_.size();
}

std::vector<HttpRequest> FakeWorker::requests() const {
  std::lock_guard lock(mutex_);
  return requests_;
}

boost::json::object FakeWorker::body(size_t index) const {
  std::lock_guard lock(mutex_);
  return boost::json::parse(requests_.at(index).body).as_object();
}

std::vector<std::string> FakeWorker::authorizations() const {
  std::lock_guard lock(mutex_);
  return authorizations_;
}

bool FakeWorker::wait_for_requests(size_t count) {
  return eventually([&] { return seen() >= count; });
}

std::string FakeWorker::load_json() const {
  const char* role = kind == router::WorkerKind::kWhole ? "whole" : router::kind_name(load_.role);
  return boost::json::serialize(boost::json::object{{"role", role},
                                                    {"bootstrap_port", load_.bootstrap_port},
                                                    {"running", load_.running},
                                                    {"queued", load_.queued},
                                                    {"slots_free", load_.slots_free},
                                                    {"slots_max", load_.slots_max},
                                                    {"pages_free", load_.pages_free},
                                                    {"pages_max", load_.pages_max},
                                                    {"page_size", load_.page_size},
                                                    {"kv_tokens_max", load_.pages_max * load_.page_size},
                                                    {"context_length", 4096}});
}

void FakeWorker::handle(HttpRequest request, ReplyPtr reply) {
  Handler handler;
  {
    std::lock_guard lock(mutex_);
    authorizations_.push_back(request.authorization);
    if (request.path == "/health") return reply->reply(health_, "text/plain", "");
    if (request.path == "/get_load" && !plain_) return reply->reply_json(200, load_json());
    if (request.path == "/v1/models") return reply->reply_json(200, R"({"object": "list"})");
    if (request.path == "/tokenize") return reply->reply_json(200, request.body);
    if (request.path == "/flush_cache") return reply->reply(200, "text/plain", "flushed");
    if (request.method != "POST" || request.path == "/get_load") return reply->reply_json(404, "{}");
    requests_.push_back(request);
    handler = handler_;
  }
  handler(request, reply);
}

ResettingPort::ResettingPort() : socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
  sockaddr_in address{.sin_family = AF_INET, .sin_port = 0, .sin_addr = {htonl(INADDR_LOOPBACK)}, .sin_zero = {}};
  socklen_t size = sizeof address;
  HYLAS_CHECK(bind(socket_, reinterpret_cast<sockaddr*>(&address), size) == 0);
  HYLAS_CHECK(getsockname(socket_, reinterpret_cast<sockaddr*>(&address), &size) == 0 && listen(socket_, 64) == 0);
  port_ = ntohs(address.sin_port);
  thread_ = std::jthread([this] {
    while (true) {
      int connection = accept(socket_, nullptr, nullptr);
      if (connection < 0) return;
      ++connections_;
      linger hard{.l_onoff = 1, .l_linger = 0};
      setsockopt(connection, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
      close(connection);
    }
  });
}

ResettingPort::~ResettingPort() {
  shutdown(socket_, SHUT_RDWR);
  thread_.join();
  close(socket_);
}

std::string ResettingPort::url() const { return fmt::format("http://127.0.0.1:{}", port_); }

bool eventually(const std::function<bool()>& condition) {
  int64_t until_us = now_us() + 10'000'000;
  while (!condition()) {
    if (now_us() > until_us) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

}  // namespace hylas::test
