#include "router/routes.h"

#include <optional>

#include "router/generation_body.h"
#include "serve/api_error.h"
#include "serve/route_refusal.h"

namespace hylas::router {
namespace {

using RouteHandler = void (*)(RouterContext&, const HttpRequest&, const ReplyPtr&);

struct Route {
  std::string_view method;
  std::string_view path;  // one that ends in "/" takes every path below it
  RouteHandler handle = nullptr;
  bool open = false;  // without an API key
  std::optional<Endpoint> endpoint;
};

constexpr Route kRoutes[] = {
    {.method = "POST", .path = "/v1/chat/completions", .endpoint = Endpoint::kChat},
    {.method = "POST", .path = "/v1/completions", .endpoint = Endpoint::kCompletions},
    {.method = "POST", .path = "/generate", .endpoint = Endpoint::kGenerate},
    {"GET", "/v1/models", route_forward},
    {"GET", "/v1/models/", route_forward},
    {"GET", "/model_info", route_forward},
    {"GET", "/get_model_info", route_forward},
    {"GET", "/server_info", route_forward},
    {"GET", "/get_server_info", route_forward},
    {"POST", "/tokenize", route_forward},
    {"POST", "/v1/tokenize", route_forward},
    {"POST", "/detokenize", route_forward},
    {"POST", "/v1/detokenize", route_forward},
    {"POST", "/abort_request", route_broadcast},
    {"POST", "/flush_cache", route_broadcast},
    {"GET", "/get_load", route_load},
    {"GET", "/metrics", route_metrics},
    {"GET", "/workers", route_workers},
    {"POST", "/workers", route_add_worker},
    {"DELETE", "/workers", route_remove_worker},
    {"GET", "/workers/", route_worker},
    {"DELETE", "/workers/", route_remove_worker},
    {"GET", "/health", route_readiness, true},
    {"GET", "/readiness", route_readiness, true},
    {"GET", "/liveness", route_liveness, true},
};

// What instances are shown: the router's key for them, or else the client's own.
std::string worker_authorization(const RouterContext& context, const HttpRequest& request) {
  if (!context.options.worker_api_key.empty()) return "Bearer " + context.options.worker_api_key;
  return context.options.api_key.empty() ? request.authorization : "";
}

// On the pool: bodies are long.
void read_request(RouterContext& context, Endpoint endpoint, HttpRequest request, ReplyPtr reply) {
  auto read = read_generation(endpoint, request.body, context.options.body_bytes_max);
  if (!read.ok()) return reply->reply_json(400, error_json(read.error()));
  RoutedRequest routed{.path = request.path,
                       .body = std::make_shared<const std::string>(std::move(request.body)),
                       .read = std::move(*read),
                       .authorization = std::move(request.authorization),
                       .reply = std::move(reply)};
  context.loop.post([&context, routed = std::move(routed)]() mutable { context.dispatcher.submit(std::move(routed)); });
}

}  // namespace

void handle_request(RouterContext& context, HttpRequest request, ReplyPtr reply) {
  RouteMatch match;
  const auto* route = match_route(kRoutes, request, match);
  if (refuse_route(request, match, context.options.api_key, *reply)) return;
  request.authorization = worker_authorization(context, request);
  auto shared = std::make_shared<HttpRequest>(std::move(request));
  if (route->endpoint) {
    bool taken = context.pool.try_post([&context, endpoint = *route->endpoint, shared, reply] {
      read_request(context, endpoint, std::move(*shared), reply);
    });
    if (!taken) reply->reply_json(503, error_json(503, "the router is overloaded"));
    return;
  }
  context.loop.post([&context, handle = route->handle, shared, reply] { handle(context, *shared, reply); });
}

}  // namespace hylas::router
