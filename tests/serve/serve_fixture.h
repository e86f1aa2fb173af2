#pragma once
// Routes without sockets: a fake engine, the tiny tokenizer, the Qwen3.5 chat template, and answers as values.
#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "serve/context.h"
#include "serve/fake_engine.h"
#include "serve/http.h"

namespace hylas::test {

struct Answer {
  int status = 0;
  std::string content_type, body;
  std::vector<boost::json::value> events;  // of a stream, without [DONE]
  bool done = false;                       // [DONE] came last
  boost::json::object json() const { return boost::json::parse(body).as_object(); }
  // error.message; and error.param, or "" if null.
  std::string error() const;
  std::string error_param() const;
};

// An HttpReply that keeps what it gets.
class CapturedReply : public HttpReply {
 public:
  void reply(int status, std::string_view content_type, std::string body, Headers headers) override;
  void begin_stream(std::string_view content_type) override;
  bool write(std::string_view bytes) override;
  void end() override;
  void on_gone(std::function<void()> gone) override;
  bool gone() const override;

  void disconnect();
  bool wait_for_bytes(size_t bytes);
  Answer wait();  // until the end, at most 10 s

 private:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  Answer answer_;
  bool ended_ = false, gone_ = false;
  std::function<void()> on_gone_;
};

class ServeTest : public testing::Test {
 protected:
  ServeTest();
  ~ServeTest() override;

  // Options may be changed before the first request.
  ServeOptions options_;
  Answer request(const std::string& method, const std::string& path, const std::string& body = "");
  Answer post(const std::string& path, const boost::json::value& body);
  std::shared_ptr<CapturedReply> begin(const std::string& path, const boost::json::value& body);
  // Every request is answered with the tokens of this text.
  void script(const std::string& text);
  std::vector<int32_t> encode(const std::string& text) const { return text_.tokenizer->encode(text); }
  ServeContext& context();

  TextModel text_;
  std::unique_ptr<FakeEngine> engine_;

 private:
  std::unique_ptr<ServeContext> context_;
};

// The tiny checkpoint text files of tests/data/text and models/templates.
TextModel tiny_text_model();
int32_t end_token(const Tokenizer& tokenizer);

}  // namespace hylas::test
