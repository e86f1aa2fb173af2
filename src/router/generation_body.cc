#include "router/generation_body.h"

#include <algorithm>

#include "base/json.h"
#include "router/prefix_map.h"

namespace hylas::router {
namespace {

using json::array;
using json::object;
using json::value;

constexpr int64_t kBytesOfToken = 3;
constexpr int64_t kTokensOfMessage = 8;     // role and markers
constexpr int64_t kGrowthTokens = 512;      // of an answer: as much as is reserved when a request is placed
constexpr int64_t kCompletionsTokens = 16;  // the APIs' defaults
constexpr int64_t kGenerateTokens = 128;
constexpr int64_t kSequencesMax = 1 << 16;  // rooms of a request

int64_t tokens_of(std::string_view text) { return (int64_t(text.size()) + kBytesOfToken - 1) / kBytesOfToken; }

std::string_view view(const boost::json::string& text) { return {text.data(), text.size()}; }

// Prompts as they come: their number, tokens, and the text of the first.
struct Prompts {
  int64_t count = 0, tokens = 0;
  std::string first;
};

void add_ids(const array& ids, Prompts& prompts) {
  prompts.tokens += int64_t(ids.size());
  if (prompts.count++ > 0) return;
  for (const value& id : ids) {
    if (!id.is_int64()) continue;
    auto token = int32_t(id.as_int64());
    prompts.first.append(reinterpret_cast<const char*>(&token), sizeof token);
  }
}

void add_prompt(const value& prompt, Prompts& prompts) {
  if (const auto* text = prompt.if_string()) {
    prompts.tokens += tokens_of(view(*text));
    if (prompts.count++ == 0) prompts.first = view(*text);
  } else if (const array* list = prompt.if_array()) {
    if (!list->empty() && list->front().is_int64()) return add_ids(*list, prompts);
    for (const value& one : *list) {
      if (one.is_string() || one.is_array()) add_prompt(one, prompts);
    }
  }
}

// All text of a chat, as far as it stands in strings.
void add_text(const value& from, std::string& text) {
  if (const auto* string = from.if_string()) {
    text += view(*string);
    text += '\n';
  } else if (const array* list = from.if_array()) {
    for (const value& one : *list) add_text(one, text);
  } else if (const object* fields = from.if_object()) {
    for (const auto& field : *fields) {
      // A picture in base64 is not as many tokens, and no prefix that a cache could share.
      if (field.key() != "image_url" && field.key() != "video_url") add_text(field.value(), text);
    }
  }
}

Prompts read_prompts(Endpoint endpoint, const object& body) {
  Prompts prompts;
  if (endpoint == Endpoint::kChat) {
    const value* tools = body.if_contains("tools");
    const value* messages = body.if_contains("messages");
    if (tools) add_text(*tools, prompts.first);
    if (messages) add_text(*messages, prompts.first);
    prompts.count = 1;
    prompts.tokens = tokens_of(prompts.first);
    if (messages && messages->is_array()) prompts.tokens += kTokensOfMessage * int64_t(messages->as_array().size());
    return prompts;
  }
  const value* prompt = body.if_contains(endpoint == Endpoint::kCompletions ? "prompt" : "text");
  if (!prompt || prompt->is_null()) prompt = body.if_contains("input_ids");
  if (prompt) add_prompt(*prompt, prompts);
  return prompts;
}

int64_t positive(const object& from, std::string_view key, int64_t otherwise) {
  const value* found = from.if_contains(key);
  return found && found->is_int64() && found->as_int64() > 0 ? found->as_int64() : otherwise;
}

// Of /generate, sampling_params may be a list, one for each prompt: the first stands for all.
const object& sampling_of(Endpoint endpoint, const object& body) {
  static const object kNone;
  if (endpoint != Endpoint::kGenerate) return body;
  const value* params = body.if_contains("sampling_params");
  if (params && params->is_array() && !params->as_array().empty()) params = &params->as_array().front();
  return params && params->is_object() ? params->as_object() : kNone;
}

int64_t answer_tokens(Endpoint endpoint, const object& sampling) {
  if (endpoint == Endpoint::kGenerate) return positive(sampling, "max_new_tokens", kGenerateTokens);
  int64_t otherwise = endpoint == Endpoint::kChat ? kGrowthTokens : kCompletionsTokens;
  return positive(sampling, "max_completion_tokens", positive(sampling, "max_tokens", otherwise));
}

}  // namespace

Result<GenerationBody> read_generation(Endpoint endpoint, std::string_view text, size_t bytes_max) {
  HYLAS_ASSIGN(object body, json::parse_object(text, "the request body", {.bytes_max = bytes_max}));
  for (const char* name : {"bootstrap_host", "bootstrap_port", "bootstrap_room"}) {
    const value* found = body.if_contains(name);
    if (found && !found->is_null()) return error(ErrorCode::kInvalid, "`{}` is set by the router: leave it out", name);
  }
  Prompts prompts = read_prompts(endpoint, body);
  const object& sampling = sampling_of(endpoint, body);
  int64_t copies = std::min(positive(sampling, "n", 1), kSequencesMax);
  GenerationBody read;
  read.demand.sequences = std::clamp<int64_t>(prompts.count, 1, kSequencesMax) * copies;
  read.demand.prompt_tokens = prompts.tokens * copies;
  read.demand.growth_tokens = std::min(answer_tokens(endpoint, sampling), kGrowthTokens) * read.demand.sequences;
  read.prefix = prefix_blocks(prompts.first);
  return read;
}

uint64_t room_of(uint64_t random) { return (random >> 2) & ~uint64_t{0xffff}; }

std::string with_bootstrap(std::string_view body, const Bootstrap& bootstrap) {
  size_t open = body.find('{');
  HYLAS_CHECK(open != std::string_view::npos, "the body is no object");
  std::string_view rest = body.substr(open + 1);
  bool empty = rest.substr(std::min(rest.find_first_not_of(" \t\r\n"), rest.size())).starts_with('}');
  std::string out =
      fmt::format(R"({{"bootstrap_host":{},"bootstrap_port":{},"bootstrap_room":{}{})",
                  boost::json::serialize(value(bootstrap.host)), bootstrap.port, bootstrap.room, empty ? "" : ",");
  return out += rest;
}

}  // namespace hylas::router
