#pragma once
// What every route of a server works with.
#include <atomic>
#include <memory>

#include "engine/engine.h"
#include "serve/generation_request.h"
#include "serve/metrics.h"
#include "serve/request_registry.h"
#include "serve/serve_options.h"
#include "serve/worker_pool.h"
#include "text/chat_template.h"
#include "text/grammar.h"
#include "text/tokenizer.h"

namespace hylas {

// A checkpoint's text side.
struct TextModel {
  std::unique_ptr<Tokenizer> tokenizer;
  std::unique_ptr<ChatTemplate> chat_template;  // null: the checkpoint has none, and chats are refused
};

// One per server; members are thread-safe or immutable. `engine` and `text` must outlive it.
struct ServeContext {
  ServeContext(Engine& engine, const TextModel& text, ServeOptions options);

  Engine& engine;
  const Tokenizer& tokenizer;
  const ChatTemplate* chat_template;
  const ServeOptions options;
  const ApiLimits limits;
  GrammarCompiler grammars;
  RequestRegistry running;
  ServeMetrics metrics;
  std::atomic<uint64_t> next_seed;  // of requests without one, if options.random_seed is set
  std::atomic<bool> stopping{false};
  WorkerPool workers;  // last: its threads use the others
};

}  // namespace hylas
