// Routes about the server itself.
#include "base/json.h"
#include "serve/api_error.h"
#include "serve/field_check.h"
#include "serve/routes.h"

namespace hylas {
namespace {

using json::array;
using json::object;

object model_card(const ServeContext& context) {
  return {{"id", context.options.model_name},
          {"object", "model"},
          {"created", 0},
          {"owned_by", "hylas"},
          {"root", context.options.model_name},
          {"max_model_len", context.engine.info().context_length}};
}

object stats_json(const EngineStats& stats) {
  return {{"running_requests", stats.running},
          {"queued_requests", stats.queued},
          {"retracted_requests", stats.retracted},
          {"transfers", stats.transfers},
          {"kv_tokens_used", stats.kv_tokens_used},
          {"kv_tokens_max", stats.kv_tokens_max},
          {"pages_used", stats.pages_used},
          {"pages_max", stats.pages_max},
          {"slots_used", stats.slots_used},
          {"slots_max", stats.slots_max},
          {"landing_pages_used", stats.landing_pages_used},
          {"landing_slots_used", stats.landing_slots_used},
          {"prompt_tokens_total", stats.prompt_tokens_total},
          {"generated_tokens_total", stats.generated_tokens_total},
          {"requests_total", stats.requests_total},
          {"aborted_total", stats.aborted_total},
          {"retractions_total", stats.retractions_total},
          {"steps_total", stats.steps_total},
          {"last_gen_throughput", stats.generation_tokens_per_s}};
}

object engine_json(const EngineInfo& info) {
  array eos(info.eos_ids.begin(), info.eos_ids.end());
  return {{"context_length", info.context_length},
          {"vocab_size", info.vocab_size},
          {"eos_token_ids", std::move(eos)},
          {"dtype", info.dtype},
          {"kv_cache_dtype", info.kv_dtype},
          {"mamba_ssm_dtype", info.state_dtype},
          {"page_size", info.page_size},
          {"max_total_num_tokens", info.kv_tokens_max},
          {"max_running_requests", info.running_max}};
}

const char* role_name(InstanceRole role) {
  if (role == InstanceRole::kWhole) return "whole";
  return role == InstanceRole::kPrefill ? "prefill" : "decode";
}

void answer_json(HttpReply& reply, const object& body) { reply.reply_json(200, boost::json::serialize(body)); }

struct AbortRequest {
  std::string request_id;
  bool all = false;
};

Result<AbortRequest> parse_abort(std::string_view body) {
  constexpr std::string_view kNames[] = {"rid", "abort_all", "abort_message"};
  HYLAS_ASSIGN(object from, json::parse_object(body, "the request body"));
  HYLAS_TRY(check_fields(from, kNames));
  HYLAS_ASSIGN(auto id, json::optional_string(from, "rid"));
  HYLAS_ASSIGN(auto all, json::optional_bool(from, "abort_all"));
  AbortRequest request{std::string(id.value_or("")), all.value_or(false)};
  if (!request.all && request.request_id.empty()) {
    return error(ErrorCode::kInvalid, "`rid` is required: the id of a request, or abort_all: true");
  }
  return request;
}

}  // namespace

void route_models(ServeContext& context, const HttpRequest&, const std::shared_ptr<HttpReply>& reply) {
  answer_json(*reply, {{"object", "list"}, {"data", array{model_card(context)}}});
}

void route_model(ServeContext& context, const HttpRequest& request, const std::shared_ptr<HttpReply>& reply) {
  std::string_view name = std::string_view(request.path).substr(std::string_view("/v1/models/").size());
  if (name == context.options.model_name) return answer_json(*reply, model_card(context));
  std::string message = fmt::format("`model` {} is not served here; {} is", name, context.options.model_name);
  reply->reply_json(404, error_json(404, message));
}

void route_health(ServeContext& context, const HttpRequest&, const std::shared_ptr<HttpReply>& reply) {
  if (context.stopping) return reply->reply_json(503, error_json(503, "the server is stopping"));
  answer_json(*reply, {{"status", "ok"}});
}

void route_model_info(ServeContext& context, const HttpRequest&, const std::shared_ptr<HttpReply>& reply) {
  object body{{"model_path", context.options.model_path},
              {"tokenizer_path", context.options.model_path},
              {"served_model_name", context.options.model_name},
              {"is_generation", true}};
  for (auto& [key, value] : engine_json(context.engine.info())) body[key] = value;
  answer_json(*reply, body);
}

void route_server_info(ServeContext& context, const HttpRequest&, const std::shared_ptr<HttpReply>& reply) {
  object body = context.options.command_line;
  for (auto& [key, value] : engine_json(context.engine.info())) body[key] = value;
  body["served_model_name"] = context.options.model_name;
  body["internal_states"] = array{stats_json(context.engine.stats())};
  answer_json(*reply, body);
}

// For routers, which ask several times a second.
void route_load(ServeContext& context, const HttpRequest&, const std::shared_ptr<HttpReply>& reply) {
  const EngineInfo& info = context.engine.info();
  const EngineStats stats = context.engine.stats();
  answer_json(*reply, {{"role", role_name(info.role)},
                       {"bootstrap_port", info.bootstrap_port},
                       {"running", stats.running},
                       {"queued", stats.queued},
                       {"slots_free", stats.slots_max - stats.slots_used},
                       {"slots_max", stats.slots_max},
                       {"pages_free", stats.pages_max - stats.pages_used},
                       {"pages_max", stats.pages_max},
                       {"page_size", info.page_size},
                       {"kv_tokens_max", stats.kv_tokens_max},
                       {"context_length", info.context_length}});
}

void route_flush_cache(ServeContext&, const HttpRequest&, const std::shared_ptr<HttpReply>& reply) {
  reply->reply(200, "text/plain", "There is no prefix cache: nothing to flush.\n");
}

void route_abort(ServeContext& context, const HttpRequest& request, const std::shared_ptr<HttpReply>& reply) {
  auto parsed = parse_abort(request.body);
  if (!parsed.ok()) return reply->reply_json(400, error_json(parsed.error()));
  if (parsed->all) {
    context.engine.abort_all();
  } else {
    for (RequestId id : context.running.find(parsed->request_id)) context.engine.abort(id);
  }
  reply->reply(200, "text/plain", "");
}

void route_trace(ServeContext& context, const HttpRequest&, const std::shared_ptr<HttpReply>& reply) {
  reply->reply_json(200, context.engine.trace_json());
}

void route_metrics(ServeContext& context, const HttpRequest&, const std::shared_ptr<HttpReply>& reply) {
  if (!context.options.enable_metrics) {
    return reply->reply_json(404, error_json(404, "metrics are off: start the server with --enable-metrics"));
  }
  reply->reply(200, "text/plain; version=0.0.4; charset=utf-8", context.metrics.render(context.engine.stats()));
}

}  // namespace hylas
