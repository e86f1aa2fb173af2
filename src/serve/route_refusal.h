#pragma once
// Which line of a table of routes a request takes, and what one gets that reaches no handler; the same for an instance
// and for the router.
#include <cstddef>
#include <string>
#include <string_view>

#include "serve/http.h"

namespace hylas {

// What a table of routes says of a request.
struct RouteMatch {
  std::string allowed;  // methods of the path; empty: there is no such path
  bool has_handler = false;
  bool is_open = false;  // without a key
};

// The line of `table` for the request; null if there is none. A path that ends in "/" takes every path below it, and
// GET answers HEAD.
template <typename Route, size_t count>
const Route* match_route(const Route (&table)[count], const HttpRequest& request, RouteMatch& match) {
  const std::string_view method = request.method == "HEAD" ? "GET" : std::string_view(request.method);
  const Route* found = nullptr;
  for (const Route& route : table) {
    const bool below = route.path.ends_with('/') && request.path.size() > route.path.size();
    if (below ? !request.path.starts_with(route.path) : request.path != route.path) continue;
    if (route.method == method) found = &route;
    match.allowed += match.allowed.empty() ? "" : ", ";
    match.allowed += route.method;
    if (route.method == "GET") match.allowed += ", HEAD";
  }
  match.has_handler = found != nullptr;
  match.is_open = found && found->open;
  return found;
}

// True if the request was answered here: an unknown path (404), OPTIONS (204), a method that the path does not take
// (405), or a key that is missing or wrong (401; an empty `api_key` asks for none).
bool refuse_route(const HttpRequest& request, const RouteMatch& match, std::string_view api_key, HttpReply& reply);

}  // namespace hylas
