#include "serve/serve_fixture.h"

#include "base/text_file.h"
#include "serve/routes.h"

namespace hylas::test {
namespace {

std::string source_path(const std::string& relative) { return std::string(HYLAS_SOURCE_DIR) + "/" + relative; }

std::vector<boost::json::value> parse_events(const std::string& body, bool& done) {
  std::vector<boost::json::value> events;
  for (size_t at = 0; at < body.size();) {
    size_t end = body.find("\n\n", at);
    std::string data = body.substr(at + 6, end - at - 6);  // after "data: "
    done = data == "[DONE]";
    if (!done) events.push_back(boost::json::parse(data));
    at = end + 2;
  }
  return events;
}

}  // namespace

std::string Answer::error() const { return std::string(json().at("error").at("message").as_string()); }

std::string Answer::error_param() const {
  boost::json::value param = json().at("error").at("param");
  return param.is_null() ? "" : std::string(param.as_string());
}

void CapturedReply::reply(int status, std::string_view content_type, std::string body, Headers) {
  std::lock_guard lock(mutex_);
  answer_ = {.status = status, .content_type = std::string(content_type), .body = std::move(body)};
  ended_ = true;
  changed_.notify_all();
}

void CapturedReply::begin_stream(std::string_view content_type) {
  std::lock_guard lock(mutex_);
  answer_ = {.status = 200, .content_type = std::string(content_type)};
}

bool CapturedReply::write(std::string_view bytes) {
  std::lock_guard lock(mutex_);
  answer_.body += bytes;
  changed_.notify_all();
  return !gone_;
}

void CapturedReply::end() {
  std::lock_guard lock(mutex_);
  ended_ = true;
  changed_.notify_all();
}

void CapturedReply::on_gone(std::function<void()> gone) {
  std::lock_guard lock(mutex_);
  on_gone_ = std::move(gone);
}

bool CapturedReply::gone() const {
  std::lock_guard lock(mutex_);
  return gone_;
}

void CapturedReply::disconnect() {
  std::function<void()> tell;
  {
    std::lock_guard lock(mutex_);
    gone_ = true;
    tell = on_gone_;
  }
  if (tell) tell();
}

bool CapturedReply::wait_for_bytes(size_t bytes) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, std::chrono::seconds(10), [&] { return answer_.body.size() >= bytes; });
}

Answer CapturedReply::wait() {
  std::unique_lock lock(mutex_);
  EXPECT_TRUE(changed_.wait_for(lock, std::chrono::seconds(10), [this] { return ended_; })) << "no answer";
  if (answer_.content_type == "text/event-stream") answer_.events = parse_events(answer_.body, answer_.done);
  return answer_;
}

TextModel tiny_text_model() {
  TextModel text;
  auto tokenizer = Tokenizer::load(source_path("tests/data/text/tiny"));
  HYLAS_CHECK(tokenizer.ok(), "{}", tokenizer.error().message);
  text.tokenizer = std::move(*tokenizer);
  auto source = read_text_file(source_path("models/templates/qwen3.5.jinja"));
  HYLAS_CHECK(source.ok(), "{}", source.error().message);
  auto chat_template = ChatTemplate::parse(*source);
  HYLAS_CHECK(chat_template.ok(), "{}", chat_template.error().message);
  text.chat_template = std::move(*chat_template);
  return text;
}

int32_t end_token(const Tokenizer& tokenizer) { return tokenizer.token_id("<|im_end|>").value(); }

ServeTest::ServeTest() : text_(tiny_text_model()) {
  engine_ = std::make_unique<FakeEngine>(text_.tokenizer->vocab_size(), end_token(*text_.tokenizer));
  options_.model_name = "fake";
  options_.reasoning_parser = true;
  options_.tool_call_parser = true;
}

ServeTest::~ServeTest() {
  engine_->drain(0);
  context_.reset();
}

ServeContext& ServeTest::context() {
  if (!context_) context_ = std::make_unique<ServeContext>(*engine_, text_, options_);
  return *context_;
}

void ServeTest::script(const std::string& text) {
  engine_->set_script([ids = encode(text)](const Request&) { return ids; });
}

Answer ServeTest::request(const std::string& method, const std::string& path, const std::string& body) {
  auto reply = std::make_shared<CapturedReply>();
  handle_request(context(), {.method = method, .path = path, .body = body}, reply);
  return reply->wait();
}

Answer ServeTest::post(const std::string& path, const boost::json::value& body) {
  return request("POST", path, boost::json::serialize(body));
}

std::shared_ptr<CapturedReply> ServeTest::begin(const std::string& path, const boost::json::value& body) {
  auto reply = std::make_shared<CapturedReply>();
  handle_request(context(), {.method = "POST", .path = path, .body = boost::json::serialize(body)}, reply);
  return reply;
}

}  // namespace hylas::test
