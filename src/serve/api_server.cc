#include "serve/api_server.h"

#include "serve/api_error.h"
#include "serve/routes.h"

namespace hylas {
namespace {

constexpr int64_t kFlushUs = 5'000'000;  // for the last bytes of answers, once the engine has ended them

std::string http_error_body(int status, const std::string& message) { return error_json(status, message); }

}  // namespace

ApiServer::ApiServer(std::unique_ptr<HttpServer> http, Engine& engine, const TextModel& text, ServeOptions options)
    : http_(std::move(http)),
      engine_(engine),
      context_(std::make_unique<ServeContext>(engine, text, std::move(options))) {}

ApiServer::~ApiServer() {
  if (!context_->stopping) stop(0);
  http_.reset();  // before the context: no more requests, and replies under way learn that their clients are gone
}

Status ApiServer::start() {
  auto handler = [this](HttpRequest request, std::shared_ptr<HttpReply> reply) {
    accept(std::move(request), std::move(reply));
  };
  return http_->start(std::move(handler), http_error_body);
}

void ApiServer::accept(HttpRequest request, std::shared_ptr<HttpReply> reply) {
  auto shared = std::make_shared<HttpRequest>(std::move(request));
  bool queued = context_->workers.try_post([this, shared, reply] { handle_request(*context_, *shared, reply); });
  if (!queued) reply->reply_json(503, error_json(503, "the server is overloaded"));
}

void ApiServer::stop(int64_t timeout_us) {
  context_->stopping = true;
  http_->stop_accepting();
  engine_.drain(timeout_us);
  http_->wait_idle(kFlushUs);
}

}  // namespace hylas
