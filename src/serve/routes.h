#pragma once
// Every path that the server answers.
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "serve/context.h"
#include "serve/http.h"

namespace hylas {

// Runs on a text worker; answers `reply` or hands it to a Reply.
using RouteHandler = void (*)(ServeContext&, const HttpRequest&, const std::shared_ptr<HttpReply>&);

struct Route {
  std::string_view method;
  std::string_view path;  // one that ends in "/" takes every path below it
  RouteHandler handle;
  bool open = false;  // without an API key
};

std::span<const Route> routes();

// Finds the route, checks the API key and runs the handler. Thread-safe.
void handle_request(ServeContext& context, const HttpRequest& request, const std::shared_ptr<HttpReply>& reply);

// routes_generate.cc
void route_chat(ServeContext& context, const HttpRequest& request, const std::shared_ptr<HttpReply>& reply);
void route_completions(ServeContext& context, const HttpRequest& request, const std::shared_ptr<HttpReply>& reply);
void route_generate(ServeContext& context, const HttpRequest& request, const std::shared_ptr<HttpReply>& reply);
void route_health_generate(ServeContext& context, const HttpRequest& request, const std::shared_ptr<HttpReply>& reply);

// routes_text.cc
void route_tokenize(ServeContext& context, const HttpRequest& request, const std::shared_ptr<HttpReply>& reply);
void route_detokenize(ServeContext& context, const HttpRequest& request, const std::shared_ptr<HttpReply>& reply);

// routes_admin.cc
void route_models(ServeContext& context, const HttpRequest& request, const std::shared_ptr<HttpReply>& reply);
void route_model(ServeContext& context, const HttpRequest& request, const std::shared_ptr<HttpReply>& reply);
void route_health(ServeContext& context, const HttpRequest& request, const std::shared_ptr<HttpReply>& reply);
void route_model_info(ServeContext& context, const HttpRequest& request, const std::shared_ptr<HttpReply>& reply);
void route_server_info(ServeContext& context, const HttpRequest& request, const std::shared_ptr<HttpReply>& reply);
void route_load(ServeContext& context, const HttpRequest& request, const std::shared_ptr<HttpReply>& reply);
void route_flush_cache(ServeContext& context, const HttpRequest& request, const std::shared_ptr<HttpReply>& reply);
void route_abort(ServeContext& context, const HttpRequest& request, const std::shared_ptr<HttpReply>& reply);
void route_trace(ServeContext& context, const HttpRequest& request, const std::shared_ptr<HttpReply>& reply);
void route_metrics(ServeContext& context, const HttpRequest& request, const std::shared_ptr<HttpReply>& reply);

}  // namespace hylas
