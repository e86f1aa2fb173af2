#pragma once
// The server: an engine and a checkpoint's text side behind an HTTP address.
#include <memory>

#include "engine/engine.h"
#include "serve/context.h"
#include "serve/http.h"
#include "serve/serve_options.h"

namespace hylas {

// `engine` and `text` must outlive it.
class ApiServer {
 public:
  ApiServer(std::unique_ptr<HttpServer> http, Engine& engine, const TextModel& text, ServeOptions options);
  ~ApiServer();  // stops at once, if stop() was not called

  Status start();
  uint16_t port() const { return http_->port(); }
  // Takes no more connections and requests, lets those that run finish for at most `timeout_us`, aborts the rest.
  void stop(int64_t timeout_us);

 private:
  void accept(HttpRequest request, std::shared_ptr<HttpReply> reply);

  std::unique_ptr<HttpServer> http_;
  Engine& engine_;
  std::unique_ptr<ServeContext> context_;
};

}  // namespace hylas
