#pragma once
// What a request gets that reaches no handler; the same for an instance and for the router.
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

// True if the request was answered here: an unknown path (404), OPTIONS (204), a method that the path does not take
// (405), or a key that is missing or wrong (401; an empty `api_key` asks for none).
bool refuse_route(const HttpRequest& request, const RouteMatch& match, std::string_view api_key, HttpReply& reply);

}  // namespace hylas
