#pragma once
// The server under test and the two ways to ask it for tokens: SGLang's /generate, and OpenAI's /v1/completions, which
// hylas, SGLang and vLLM all speak. Thread-safe.
#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/result.h"
#include "evaluate/http_client.h"

namespace hylas {

enum class Api { kGenerate, kCompletions };

struct Target {
  HttpClient client;
  Api api = Api::kGenerate;
  std::string model;  // of kCompletions
};

// `api`: "generate", "completions", or "auto": /generate if the server has it. The model is the first of /v1/models.
Result<Target> find_target(HttpClient client, std::string_view api);

// Rows of the model's vocabulary, from /server_info. kNotFound: the server does not say.
Result<int32_t> vocabulary_of(const Target& target);

// A greedy completion to ask for.
struct Task {
  std::variant<std::string, std::vector<int32_t>> prompt;  // text or token ids
  int32_t output_tokens_max = 16;
  bool ignore_eos = false;
  std::vector<std::string> stop;
};

std::string path_of(Api api);
std::string body_of(const Target& target, const Task& task, bool stream);

struct Completion {
  std::string text;
  int64_t tokens = 0;  // generated, as the server counts them
};

// kInvalid: refused, or an answer of another form; kIo: no answer, or the server failed.
Result<Completion> complete(const Target& target, const Task& task);

}  // namespace hylas
