#pragma once
// Every path that the router answers.
#include <memory>

#include "router/router_server.h"
#include "serve/http.h"

namespace hylas::router {

// On an http thread: finds the route and checks the API key; the work is done elsewhere.
void handle_request(RouterContext& context, HttpRequest request, std::shared_ptr<HttpReply> reply);

// The rest runs on the loop.
using ReplyPtr = std::shared_ptr<HttpReply>;

// routes_forward.cc: what any instance can answer, and what all must hear.
void route_forward(RouterContext& context, const HttpRequest& request, const ReplyPtr& reply);
void route_broadcast(RouterContext& context, const HttpRequest& request, const ReplyPtr& reply);

// routes_admin.cc
void route_liveness(RouterContext& context, const HttpRequest& request, const ReplyPtr& reply);
void route_readiness(RouterContext& context, const HttpRequest& request, const ReplyPtr& reply);
void route_load(RouterContext& context, const HttpRequest& request, const ReplyPtr& reply);
void route_metrics(RouterContext& context, const HttpRequest& request, const ReplyPtr& reply);
void route_workers(RouterContext& context, const HttpRequest& request, const ReplyPtr& reply);
void route_worker(RouterContext& context, const HttpRequest& request, const ReplyPtr& reply);
void route_add_worker(RouterContext& context, const HttpRequest& request, const ReplyPtr& reply);
void route_remove_worker(RouterContext& context, const HttpRequest& request, const ReplyPtr& reply);

}  // namespace hylas::router
