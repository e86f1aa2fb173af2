#include "serve/route_refusal.h"

#include <fmt/format.h>

#include "serve/api_error.h"
#include "serve/api_key.h"

namespace hylas {

bool refuse_route(const HttpRequest& request, const RouteMatch& match, std::string_view api_key, HttpReply& reply) {
  if (match.allowed.empty()) {
    reply.reply_json(404, error_json(404, fmt::format("there is no {}", request.path)));
  } else if (request.method == "OPTIONS") {
    reply.reply(204, "", "",
                {{"Allow", match.allowed + ", OPTIONS"},
                 {"Access-Control-Allow-Methods", match.allowed + ", OPTIONS"},
                 {"Access-Control-Allow-Headers", "Authorization, Content-Type"}});
  } else if (!match.has_handler) {
    const std::string message = fmt::format("{} takes {}, not {}", request.path, match.allowed, request.method);
    reply.reply(405, "application/json", error_json(405, message), {{"Allow", match.allowed}});
  } else if (!match.is_open && !brings_key(request.authorization, std::string(api_key))) {
    reply.reply(401, "application/json", error_json(401, kKeyMissing), {{"WWW-Authenticate", "Bearer"}});
  } else {
    return false;
  }
  return true;
}

}  // namespace hylas
