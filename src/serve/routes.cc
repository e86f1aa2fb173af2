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

bool takes(const Route& route, std::string_view path) {
  if (!route.path.ends_with('/')) return path == route.path;
  return path.starts_with(route.path) && path.size() > route.path.size();
}

struct Found {
  const Route* route = nullptr;
  std::string allowed;  // methods of the path; empty: there is no such path
};

Found find_route(const HttpRequest& request) {
  Found found;
  std::string_view method = request.method == "HEAD" ? "GET" : std::string_view(request.method);
  for (const Route& route : kRoutes) {
    if (!takes(route, request.path)) continue;
    if (route.method == method) found.route = &route;
    found.allowed += found.allowed.empty() ? "" : ", ";
    found.allowed += route.method;
    if (route.method == "GET") found.allowed += ", HEAD";
  }
  return found;
}

}  // namespace

std::span<const Route> routes() { return kRoutes; }

void handle_request(ServeContext& context, const HttpRequest& request, const std::shared_ptr<HttpReply>& reply) {
  Found found = find_route(request);
  context.metrics.http_request(found.route ? std::string(found.route->path) : "other",
                               found.route ? std::string(found.route->method) : "other");
  const RouteMatch match{found.allowed, found.route != nullptr, found.route && found.route->open};
  if (refuse_route(request, match, context.options.api_key, *reply)) return;
  found.route->handle(context, request, reply);
}

}  // namespace hylas
