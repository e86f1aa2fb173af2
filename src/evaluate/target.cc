#include "evaluate/target.h"

#include "base/json.h"

namespace hylas {
namespace {

Result<json::object> answer_object(const Target& target, std::string_view path, const Result<HttpAnswer>& answer) {
  if (!answer.ok()) return answer.error();
  if (answer->status != 200) return answer_error(target.client.url(), path, *answer);
  return json::parse_object(answer->body, fmt::format("the answer of {}{}", to_string(target.client.url()), path));
}

// A body without a prompt is refused by a server that has the path, and a path it lacks is not found.
Result<bool> has_generate(const HttpClient& client) {
  HYLAS_ASSIGN(HttpAnswer answer, client.post("/generate", "{}"));
  return answer.status == 400 || answer.status == 422;
}

Result<std::string> first_model(const Target& target) {
  constexpr std::string_view kPath = "/v1/models";
  HYLAS_ASSIGN(json::object models, answer_object(target, kPath, target.client.get(kPath)));
  HYLAS_ASSIGN(const json::array* data, json::require_array(models, "data"));
  if (data->empty() || !data->front().is_object()) {
    return error(ErrorCode::kNotFound, "{}{} lists no model; is one loaded?", to_string(target.client.url()), kPath);
  }
  HYLAS_ASSIGN(std::string_view id, json::require_string(data->front().as_object(), "id", "data[0]"));
  return std::string(id);
}

json::value prompt_json(const Task& task) {
  if (const auto* text = std::get_if<std::string>(&task.prompt)) return json::value(*text);
  const auto& ids = std::get<std::vector<int32_t>>(task.prompt);
  return json::array(ids.begin(), ids.end());
}

json::object sampling_json(const Task& task, std::string_view length_name) {
  json::object sampling{{"temperature", 0}, {length_name, task.output_tokens_max}};
  if (task.ignore_eos) sampling["ignore_eos"] = true;
  if (!task.stop.empty()) sampling["stop"] = json::array(task.stop.begin(), task.stop.end());
  return sampling;
}

Result<Completion> read_generate(const json::object& answer) {
  HYLAS_ASSIGN(std::string_view text, json::require_string(answer, "text"));
  HYLAS_ASSIGN(const json::object* meta, json::require_object(answer, "meta_info"));
  HYLAS_ASSIGN(int64_t tokens, json::require_int(*meta, "completion_tokens", "meta_info"));
  return Completion{std::string(text), tokens};
}

Result<Completion> read_completions(const json::object& answer) {
  HYLAS_ASSIGN(const json::array* choices, json::require_array(answer, "choices"));
  if (choices->empty() || !choices->front().is_object()) return error(ErrorCode::kInvalid, "`choices` is empty");
  HYLAS_ASSIGN(std::string_view text, json::require_string(choices->front().as_object(), "text", "choices[0]"));
  HYLAS_ASSIGN(const json::object* usage, json::require_object(answer, "usage"));
  HYLAS_ASSIGN(int64_t tokens, json::require_int(*usage, "completion_tokens", "usage"));
  return Completion{std::string(text), tokens};
}

}  // namespace

Result<Target> find_target(HttpClient client, std::string_view api) {
  Target target{.client = std::move(client)};
  if (api == "auto") {
    HYLAS_ASSIGN(bool native, has_generate(target.client));
    target.api = native ? Api::kGenerate : Api::kCompletions;
  } else {
    target.api = api == "generate" ? Api::kGenerate : Api::kCompletions;
  }
  if (target.api == Api::kCompletions) {
    HYLAS_ASSIGN(target.model, first_model(target));
  }
  return target;
}

Result<int32_t> vocabulary_of(const Target& target) {
  constexpr std::string_view kPath = "/server_info";
  HYLAS_ASSIGN(HttpAnswer answer, target.client.get(kPath));
  auto info = json::parse_object(answer.body, "the answer");
  if (answer.status == 200 && info.ok()) {
    HYLAS_ASSIGN(auto size, json::optional_int(*info, "vocab_size"));
    if (size && *size > 0 && *size <= INT32_MAX) return int32_t(*size);
  }
  return error(ErrorCode::kNotFound, "{} does not say its vocab_size under {}; give --vocab-size",
               to_string(target.client.url()), kPath);
}

std::string path_of(Api api) { return api == Api::kGenerate ? "/generate" : "/v1/completions"; }

std::string body_of(const Target& target, const Task& task, bool stream) {
  json::object body;
  if (target.api == Api::kGenerate) {
    body[std::holds_alternative<std::string>(task.prompt) ? "text" : "input_ids"] = prompt_json(task);
    body["sampling_params"] = sampling_json(task, "max_new_tokens");
  } else {
    body = sampling_json(task, "max_tokens");
    body["model"] = target.model;
    body["prompt"] = prompt_json(task);
    if (stream) body["stream_options"] = json::object{{"include_usage", true}, {"continuous_usage_stats", true}};
  }
  if (stream) body["stream"] = true;
  return boost::json::serialize(body);
}

Result<Completion> complete(const Target& target, const Task& task) {
  std::string path = path_of(target.api);
  HYLAS_ASSIGN(json::object answer,
               answer_object(target, path, target.client.post(path, body_of(target, task, false))));
  auto read = target.api == Api::kGenerate ? read_generate(answer) : read_completions(answer);
  if (read.ok()) return read;
  return error(ErrorCode::kInvalid, "the answer of {}{} has another form: {}", to_string(target.client.url()), path,
               read.error().message);
}

}  // namespace hylas
