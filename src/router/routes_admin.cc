// Routes about the router itself and its workers.
#include <charconv>

#include "base/clock.h"
#include "base/json.h"
#include "router/routes.h"
#include "serve/api_error.h"

namespace hylas::router {
namespace {

using json::array;
using json::object;

void answer_json(const ReplyPtr& reply, int status, const object& body) {
  reply->reply_json(status, boost::json::serialize(body));
}

const char* circuit_name(CircuitBreaker::State state) {
  if (state == CircuitBreaker::State::kClosed) return "closed";
  return state == CircuitBreaker::State::kOpen ? "open" : "half_open";
}

object load_json(const WorkerLoad& load) {
  return {{"running", load.running},     {"queued", load.queued},         {"slots_free", load.slots_free},
          {"slots_max", load.slots_max}, {"pages_free", load.pages_free}, {"pages_max", load.pages_max},
          {"page_size", load.page_size}};
}

object worker_json(const Worker& worker) {
  object json{{"id", worker.id},
              {"url", worker.url},
              {"worker_type", kind_name(worker.address.kind)},
              {"is_healthy", worker.health.up()},
              {"circuit", circuit_name(worker.breaker.state(now_us()))},
              {"load", worker.sent().sequences},
              {"requests_total", worker.requests_total},
              {"from_file", worker.from_file}};
  if (worker.address.kind == WorkerKind::kPrefill) json["bootstrap_port"] = worker.bootstrap_port();
  if (worker.load) json["reported"] = load_json(*worker.load);
  if (!worker.problem.empty()) json["problem"] = worker.problem;
  return json;
}

std::string percent_decoded(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    unsigned byte = 0;
    if (text[i] == '%' && i + 2 < text.size() &&
        std::from_chars(&text[i + 1], &text[i + 1] + 2, byte, 16).ptr == &text[i + 1] + 2) {
      out += char(byte);
      i += 2;
    } else {
      out += text[i];
    }
  }
  return out;
}

// Below /workers/: an id, or a URL in percent encoding.
std::string named_in_path(const HttpRequest& request) {
  return percent_decoded(std::string_view(request.path).substr(std::string_view("/workers/").size()));
}

// Of DELETE /workers: ?url=, or {"url"} in the body.
Result<std::string> named_elsewhere(const HttpRequest& request) {
  constexpr std::string_view kUrl = "url=";
  if (request.query.starts_with(kUrl)) return percent_decoded(std::string_view(request.query).substr(kUrl.size()));
  HYLAS_ASSIGN(object body, json::parse_object(request.body, "the request body"));
  HYLAS_ASSIGN(std::string_view url, json::require_string(body, "url"));
  return std::string(url);
}

Result<WorkerAddress> parse_new_worker(std::string_view text) {
  HYLAS_ASSIGN(object body, json::parse_object(text, "the request body"));
  HYLAS_ASSIGN(std::string_view url, json::require_string(body, "url"));
  HYLAS_ASSIGN(auto type, json::optional_string(body, "worker_type"));
  HYLAS_ASSIGN(auto port, json::optional_int(body, "bootstrap_port"));
  HYLAS_ASSIGN(WorkerKind kind, parse_kind(type.value_or("regular")));
  return parse_worker(kind, url, port ? std::to_string(*port) : "");
}

void answer_unknown(const ReplyPtr& reply, const std::string& name) {
  reply->reply_json(404, error_json(404, fmt::format("there is no worker {}; GET /workers lists them", name)));
}

}  // namespace

void route_liveness(RouterContext&, const HttpRequest&, const ReplyPtr& reply) {
  reply->reply(200, "text/plain", "OK");
}

void route_readiness(RouterContext& context, const HttpRequest&, const ReplyPtr& reply) {
  if (context.stopping) return reply->reply_json(503, error_json(503, "the router is stopping"));
  if (!context.ready()) return reply->reply_json(503, error_json(503, context.selector.why_none()));
  int64_t up = 0;
  for (const WorkerPtr& worker : context.workers.all()) up += worker->health.up();
  answer_json(reply, 200,
              {{"status", "ready"}, {"healthy_workers", up}, {"total_workers", context.workers.all().size()}});
}

void route_load(RouterContext& context, const HttpRequest&, const ReplyPtr& reply) {
  array workers;
  int64_t sequences = 0;
  for (const WorkerPtr& worker : context.workers.all()) {
    workers.push_back(worker_json(*worker));
    if (worker->address.kind != WorkerKind::kPrefill) sequences += worker->sent().sequences;
  }
  answer_json(reply, 200,
              {{"role", "router"},
               {"running", sequences},
               {"active", context.dispatcher.active()},
               {"queued", context.dispatcher.waiting()},
               {"workers", std::move(workers)}});
}

void route_metrics(RouterContext& context, const HttpRequest&, const ReplyPtr& reply) {
  std::string text =
      context.metrics.render(context.workers, context.dispatcher.waiting(), context.dispatcher.active(), now_us());
  reply->reply(200, "text/plain; version=0.0.4; charset=utf-8", std::move(text));
}

void route_workers(RouterContext& context, const HttpRequest&, const ReplyPtr& reply) {
  array workers;
  int64_t counts[3] = {};
  for (const WorkerPtr& worker : context.workers.all()) {
    workers.push_back(worker_json(*worker));
    ++counts[size_t(worker->address.kind)];
  }
  answer_json(reply, 200,
              {{"workers", std::move(workers)},
               {"total", context.workers.all().size()},
               {"stats",
                {{"regular_count", counts[size_t(WorkerKind::kWhole)]},
                 {"prefill_count", counts[size_t(WorkerKind::kPrefill)]},
                 {"decode_count", counts[size_t(WorkerKind::kDecode)]}}}});
}

void route_worker(RouterContext& context, const HttpRequest& request, const ReplyPtr& reply) {
  std::string name = named_in_path(request);
  WorkerPtr worker = context.workers.find(name);
  if (!worker) return answer_unknown(reply, name);
  answer_json(reply, 200, worker_json(*worker));
}

void route_add_worker(RouterContext& context, const HttpRequest& request, const ReplyPtr& reply) {
  auto address = parse_new_worker(request.body);
  if (!address.ok()) return reply->reply_json(400, error_json(address.error()));
  auto worker = context.workers.add(*address, false);
  if (!worker.ok()) return reply->reply_json(409, error_json(409, worker.error().message));
  answer_json(reply, 202,
              {{"status", "accepted"},
               {"worker_id", (*worker)->id},
               {"url", (*worker)->url},
               {"location", "/workers/" + (*worker)->id}});
}

void route_remove_worker(RouterContext& context, const HttpRequest& request, const ReplyPtr& reply) {
  std::string name;
  if (request.path == "/workers") {
    auto named = named_elsewhere(request);
    if (!named.ok()) return reply->reply_json(400, error_json(named.error()));
    name = *named;
  } else {
    name = named_in_path(request);
  }
  WorkerPtr worker = context.workers.remove(name);
  if (!worker) return answer_unknown(reply, name);
  answer_json(reply, 202, {{"status", "accepted"}, {"worker_id", worker->id}, {"url", worker->url}});
}

}  // namespace hylas::router
