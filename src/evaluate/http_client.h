#pragma once
// A blocking HTTP/1.1 client: a connection for each request, as load generators do. Thread-safe: calls share nothing.
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "base/base_url.h"
#include "base/result.h"

namespace hylas {

struct HttpAnswer {
  int status = 0;
  std::string body;
};

// The data of one event and when its last byte came (base/clock.h); false ends the reading.
using EventSink = std::function<bool(std::string_view data, int64_t at_us)>;

class HttpClient {
 public:
  // `silence_us_max`: the longest wait for the next bytes of an answer. Connecting may take 10 s, or that if shorter.
  HttpClient(BaseUrl url, int64_t silence_us_max) : url_(std::move(url)), silence_us_max_(silence_us_max) {}

  const BaseUrl& url() const { return url_; }

  // Any status is an answer. kIo: no connection, or it broke, or the server was silent; names the URL and the remedy.
  Result<HttpAnswer> get(std::string_view path) const;
  Result<HttpAnswer> post(std::string_view path, std::string_view json) const;

  // Each event of the answer goes to `sink` on this thread. An answer other than 200 is an error with what it says:
  // kInvalid for 4xx, else kIo. A stream that breaks is kIo; its events until then went to `sink`.
  Status post_stream(std::string_view path, std::string_view json, const EventSink& sink) const;

 private:
  BaseUrl url_;
  int64_t silence_us_max_;
};

// "http://host:1/path answered 400: <its message>", from OpenAI's error form or else the start of the body.
Error answer_error(const BaseUrl& url, std::string_view path, const HttpAnswer& answer);

}  // namespace hylas
