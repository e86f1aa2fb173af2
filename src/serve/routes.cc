#include "serve/routes.h"

#include "serve/route_refusal.h"

namespace hylas {
namespace {

constexpr Route kRoutes[] = {
    {"POST", "/v1/chat/completions", route_chat},
    {"POST", "/v1/completions", route_completions},
    {"GET", "/v1/models", route_models},
    {"GET", "/v1/models/", route_model},
    {"POST", "/generate", route_generate},
    {"PUT", "/generate", route_generate},
    {"POST", "/tokenize", route_tokenize},
    {"POST", "/v1/tokenize", route_tokenize},
    {"POST", "/detokenize", route_detokenize},
    {"POST", "/v1/detokenize", route_detokenize},
    {"GET", "/health", route_health, true},
    {"GET", "/health_generate", route_health_generate},
    {"GET", "/model_info", route_model_info},
    {"GET", "/get_model_info", route_model_info},
    {"GET", "/server_info", route_server_info},
    {"GET", "/get_server_info", route_server_info},
    {"POST", "/flush_cache", route_flush_cache},
    {"GET", "/flush_cache", route_flush_cache},
    {"POST", "/abort_request", route_abort},
    {"GET", "/metrics", route_metrics},
    {"GET", "/trace", route_trace},
    {"GET", "/get_load", route_load},
};

}  // namespace

std::span<const Route> routes() { return kRoutes; }

void handle_request(ServeContext& context, const HttpRequest& request, const std::shared_ptr<HttpReply>& reply) {
  RouteMatch match;
  const Route* route = match_route(kRoutes, request, match);
  context.metrics.http_request(route ? std::string(route->path) : "other",
                               route ? std::string(route->method) : "other");
  if (refuse_route(request, match, context.options.api_key, *reply)) return;
  route->handle(context, request, reply);
}

}  // namespace hylas
