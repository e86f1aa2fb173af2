// hylas generate: one prompt, streamed to the terminal.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <optional>

#include "app/commands.h"
#include "app/default_sampling.h"
#include "app/load_text.h"
#include "app/options.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/queue.h"
#include "engine/node_worker.h"
#include "serve/output_text.h"
#include "text/chat.h"

namespace hylas {
namespace {

constexpr const char* kExamples = R"(Examples:
  hylas generate --model-path ~/models/Qwen3.5-0.8B --prompt "The capital of France is" --temperature 0
  hylas generate --model-path ~/models/Qwen3.5-0.8B --chat --prompt "Write a haiku" --max-new-tokens 200
The text goes to stdout, and the number of tokens and their rate to stderr.)";

struct GenerateOptions {
  Options common;
  std::string prompt;
  std::string system;
  bool chat = false;
  std::string template_kwargs = "{}";
  std::optional<float> temperature, top_p, min_p, repetition_penalty, frequency_penalty, presence_penalty;
  std::optional<int32_t> top_k;
  int32_t max_new_tokens = 0;  // 0: the rest of the context
  std::vector<std::string> stop;
  bool ignore_eos = false;
  std::optional<uint64_t> seed;
};

void add_sampling_options(CLI::App& command, GenerateOptions& options) {
  constexpr const char* kGroup = "Sampling (else generation_config.json's)";
  command.add_option("--temperature", options.temperature, "0: always the likeliest token")
      ->check(CLI::NonNegativeNumber)
      ->group(kGroup);
  command.add_option("--top-p", options.top_p)->check(CLI::Range(1e-6, 1.0))->group(kGroup);
  command.add_option("--top-k", options.top_k, "-1: all")->check(CLI::Range(-1, 1 << 30))->group(kGroup);
  command.add_option("--min-p", options.min_p)->check(CLI::Range(0.0, 1.0))->group(kGroup);
  command.add_option("--repetition-penalty", options.repetition_penalty)->check(CLI::Range(1e-6, 2.0))->group(kGroup);
  command.add_option("--frequency-penalty", options.frequency_penalty)->check(CLI::Range(-2.0, 2.0))->group(kGroup);
  command.add_option("--presence-penalty", options.presence_penalty)->check(CLI::Range(-2.0, 2.0))->group(kGroup);
  command.add_option("--seed", options.seed, "The same seed gives the same text")->group(kGroup);
  command.add_option("--max-new-tokens", options.max_new_tokens, "0: the rest of the context")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str()
      ->group(kGroup);
  command.add_option("--stop", options.stop, "Text that ends the output; may be given several times")
      ->take_all()
      ->expected(1)
      ->group(kGroup);
  command.add_flag("--ignore-eos", options.ignore_eos, "Go on after the end-of-text token")->group(kGroup);
}

Result<GenerationRequest> sampling_of(const GenerateOptions& options) {
  GenerationRequest request;
  HYLAS_ASSIGN(request.sampling, default_sampling(options.common.engine.model_path));
  SamplingParams& sampling = request.sampling;
  sampling.temperature = options.temperature.value_or(sampling.temperature);
  sampling.top_p = options.top_p.value_or(sampling.top_p);
  sampling.min_p = options.min_p.value_or(sampling.min_p);
  sampling.top_k = options.top_k.value_or(sampling.top_k);
  if (sampling.top_k == 0) return error(ErrorCode::kInvalid, "--top-k must be -1 (all) or at least 1, not 0");
  sampling.repetition_penalty = options.repetition_penalty.value_or(sampling.repetition_penalty);
  sampling.frequency_penalty = options.frequency_penalty.value_or(sampling.frequency_penalty);
  sampling.presence_penalty = options.presence_penalty.value_or(sampling.presence_penalty);
  sampling.seed = options.seed;
  sampling.ignore_eos = options.ignore_eos;
  request.stop = options.stop;
  return request;
}

Result<std::vector<int32_t>> prompt_of(const GenerateOptions& options, const TextModel& text) {
  if (!options.chat) return text.tokenizer->encode(options.prompt);
  if (!text.chat_template) {
    return error(ErrorCode::kUnsupported, "--chat: the checkpoint has no chat template; give one with --chat-template");
  }
  ChatPrompt chat;
  if (!options.system.empty()) {
    chat.messages.emplace_back(boost::json::object{{"role", "system"}, {"content", options.system}});
  }
  chat.messages.emplace_back(boost::json::object{{"role", "user"}, {"content", options.prompt}});
  HYLAS_ASSIGN(chat.template_kwargs, json::parse_object(options.template_kwargs, "--chat-template-kwargs"));
  HYLAS_ASSIGN(std::string rendered, render_chat(*text.chat_template, chat));
  return text.tokenizer->encode(rendered);
}

struct Speed {
  int32_t tokens = 0;
  int64_t first_us = 0, last_us = 0;
};

void report(const Speed& speed, size_t prompt_tokens, int64_t started_us) {
  double rest_s = double(speed.last_us - speed.first_us) * 1e-6;
  fmt::print(stderr, "{} prompt tokens, first token after {:.3f} s; {} tokens generated", prompt_tokens,
             double(speed.first_us - started_us) * 1e-6, speed.tokens);
  if (speed.tokens > 1 && rest_s > 0) fmt::print(stderr, ", {:.1f} tokens/s", double(speed.tokens - 1) / rest_s);
  fmt::print(stderr, "\n");
}

Status stream(Engine& engine, const TextModel& text, const GenerationRequest& generation, Request request) {
  size_t prompt_tokens = request.prompt.size();
  auto outputs = std::make_shared<Queue<Output>>(SIZE_MAX);
  int64_t started_us = now_us();
  HYLAS_ASSIGN(RequestId id,
               engine.submit(std::move(request), [outputs](Output output) { outputs->push(std::move(output)); }));
  OutputText visible(*text.tokenizer, generation);
  Speed speed;
  while (true) {
    Piece piece = visible.push(*outputs->pop());
    if (visible.stopped_early()) engine.abort(id);
    if (!piece.tokens.empty()) {
      speed.last_us = now_us();
      if (speed.tokens == 0) speed.first_us = speed.last_us;
      speed.tokens += int32_t(piece.tokens.size());
    }
    fmt::print("{}", piece.text);
    std::fflush(stdout);
    if (!piece.finish) continue;
    fmt::print("\n");
    if (piece.finish->reason == FinishReason::kError) return Error{ErrorCode::kIo, piece.finish->error};
    report(speed, prompt_tokens, started_us);
    return {};
  }
}

Status generate(const GenerateOptions& options) {
  HYLAS_TRY(check_engine_options(options.common));
  HYLAS_ASSIGN(TextModel text, load_text(options.common));
  HYLAS_ASSIGN(GenerationRequest generation, sampling_of(options));
  HYLAS_ASSIGN(std::vector<int32_t> prompt, prompt_of(options, text));
  EngineOptions engine_options = options.common.engine;
  engine_options.vocab_tokens = text.tokenizer->vocab_size();
  if (engine_options.node_rank > 0) return run_node(engine_options);
  HYLAS_ASSIGN(auto engine, Engine::start(engine_options));
  int32_t room = engine->info().context_length - int32_t(prompt.size());
  if (prompt.empty() || room < 1) {
    return error(ErrorCode::kInvalid,
                 "--prompt has {} tokens; the context holds {}, and at least one of each is needed", prompt.size(),
                 engine->info().context_length);
  }
  Request request{.prompt = std::move(prompt), .sampling = generation.sampling};
  request.sampling.max_new_tokens = options.max_new_tokens > 0 ? std::min(options.max_new_tokens, room) : room;
  Status streamed = stream(*engine, text, generation, std::move(request));
  engine->drain(0);
  return streamed;
}

}  // namespace

void add_generate(CLI::App& app, Action& action) {
  auto options = std::make_shared<GenerateOptions>();
  CLI::App* command = app.add_subcommand("generate", "Generates from one prompt, streamed to the terminal");
  add_engine_options(*command, options->common);
  command->add_option("--prompt", options->prompt, "The text to go on from")->required()->group("Prompt");
  command->add_flag("--chat", options->chat, "Take the prompt as a user's message")->group("Prompt");
  command->add_option("--system", options->system, "A system message before it")->needs("--chat")->group("Prompt");
  command->add_option("--chat-template", options->common.chat_template, "A Jinja file instead of the checkpoint's own")
      ->check(CLI::ExistingFile)
      ->group("Prompt");
  command->add_option("--chat-template-kwargs", options->template_kwargs, "JSON, such as {\"enable_thinking\": false}")
      ->needs("--chat")
      ->capture_default_str()
      ->group("Prompt");
  add_sampling_options(*command, *options);
  command->footer(kExamples);
  command->callback([options, &action] {
    action = [options] {
      Status status = generate(*options);
      return status.ok() ? 0 : fail(status.error());
    };
  });
}

}  // namespace hylas
