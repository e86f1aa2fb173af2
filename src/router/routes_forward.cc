// Requests that are passed on as they are: to any instance, or to all of them.
#include <algorithm>

#include "base/clock.h"
#include "router/fetch.h"
#include "router/routes.h"
#include "serve/api_error.h"

namespace hylas::router {
namespace {

constexpr int kForwardTriesMax = 3;
constexpr int64_t kForwardUs = 60'000'000;

std::vector<WorkerPtr> workers_up(const RouterContext& context) {
  std::vector<WorkerPtr> up;
  for (const WorkerPtr& worker : context.workers.all()) {
    if (worker->health.up()) up.push_back(worker);
  }
  return up;
}

UpstreamRequest request_to(const Worker& worker, const HttpRequest& request) {
  UpstreamRequest upstream{.url = worker.address.url,
                           .method = request.method == "HEAD" ? "GET" : request.method,
                           .path = request.path + (request.query.empty() ? "" : "?" + request.query),
                           .authorization = request.authorization,
                           .time_us_max = kForwardUs};
  if (request.method == "POST") upstream.body = std::make_shared<const std::string>(request.body);
  return upstream;
}

std::string lost(const Worker& worker, const UpstreamFailure& failure) {
  return fmt::format("{}: {}", worker.url, failure.reason);
}

void forward(RouterContext& context, const HttpRequest& request, const ReplyPtr& reply, int tries_left) {
  std::vector<WorkerPtr> up = workers_up(context);
  if (up.empty()) return reply->reply_json(503, error_json(503, context.selector.why_none()));
  WorkerPtr worker = up[context.forwards++ % up.size()];
  auto done = [&context, request, reply, worker, tries_left](Fetched fetched) {
    if (!fetched.failure) return reply->reply(fetched.status, fetched.type, std::move(fetched.body));
    context.monitor.suspect(worker, fetched.failure->refused);
    if (tries_left > 1) return forward(context, request, reply, tries_left - 1);
    reply->reply_json(502, error_json(502, lost(*worker, *fetched.failure)));
  };
  fetch(*context.client, context.loop, request_to(*worker, request), std::move(done));
}

// Of a request that went to several instances.
struct Gathered {
  ReplyPtr reply;
  size_t left = 0;
  int status = 200;
  std::string type = "text/plain", body;
};

}  // namespace

void route_forward(RouterContext& context, const HttpRequest& request, const ReplyPtr& reply) {
  forward(context, request, reply, kForwardTriesMax);
}

void route_broadcast(RouterContext& context, const HttpRequest& request, const ReplyPtr& reply) {
  std::vector<WorkerPtr> up = workers_up(context);
  if (up.empty()) return reply->reply_json(503, error_json(503, context.selector.why_none()));
  auto gathered = std::make_shared<Gathered>(Gathered{.reply = reply, .left = up.size()});
  for (const WorkerPtr& worker : up) {
    fetch(*context.client, context.loop, request_to(*worker, request), [gathered, worker](Fetched fetched) {
      if (fetched.failure) {
        fetched = {.status = 502, .type = "application/json", .body = error_json(502, lost(*worker, *fetched.failure))};
      }
      if (fetched.status >= gathered->status) {  // the worst is the answer
        gathered->status = fetched.status;
        gathered->type = fetched.type;
        gathered->body = fetched.body;
      }
      if (--gathered->left == 0) gathered->reply->reply(gathered->status, gathered->type, gathered->body);
    });
  }
}

}  // namespace hylas::router
