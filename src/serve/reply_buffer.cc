#include "serve/reply_buffer.h"

namespace hylas {

ReplyBuffer::ReplyBuffer(size_t stream_bytes_max, std::function<void()> wake)
    : stream_bytes_max_(stream_bytes_max), wake_(std::move(wake)) {}

void ReplyBuffer::begin(ReplyHead head) {
  std::lock_guard lock(mutex_);
  if (begun_ || gone_) return;
  begun_ = true;
  bool stream = head.stream;
  head_ = std::move(head);
  if (stream && wake_) wake_();
}

bool ReplyBuffer::append(std::string_view bytes) {
  std::function<void()> tell;
  {
    std::lock_guard lock(mutex_);
    if (gone_) return false;
    if (ended_) return true;
    if (pending_.empty() || pending_.size() + bytes.size() <= stream_bytes_max_) {
      bool was_empty = pending_.empty();
      pending_ += bytes;
      if (was_empty && wake_) wake_();
      return true;
    }
    broken_ = true;
    tell = take_gone();
    if (wake_) wake_();
  }
  if (tell) tell();
  return false;
}

void ReplyBuffer::end() {
  std::lock_guard lock(mutex_);
  ended_ = true;
  if (wake_) wake_();
}

void ReplyBuffer::abandon() {
  std::lock_guard lock(mutex_);
  if (ended_) return;
  ended_ = broken_ = true;
  if (wake_) wake_();
}

void ReplyBuffer::on_gone(std::function<void()> gone) {
  {
    std::lock_guard lock(mutex_);
    if (!gone_) {
      on_gone_ = std::move(gone);
      return;
    }
  }
  gone();
}

bool ReplyBuffer::gone() const {
  std::lock_guard lock(mutex_);
  return gone_;
}

size_t ReplyBuffer::unsent_bytes() const {
  std::lock_guard lock(mutex_);
  return gone_ ? 0 : pending_.size();
}

void ReplyBuffer::on_writable(std::function<void()> writable) {
  {
    std::lock_guard lock(mutex_);
    if (!gone_ && !pending_.empty()) {
      on_writable_ = std::move(writable);
      return;
    }
  }
  writable();
}

std::optional<ReplyBuffer::Work> ReplyBuffer::take() {
  std::function<void()> writable;
  Work work;
  {
    std::lock_guard lock(mutex_);
    bool streaming = begun_ && (head_ ? head_->stream : !pending_.empty());
    if (!streaming && !ended_ && !broken_) return std::nullopt;
    work = {.head = std::move(head_), .bytes = std::move(pending_), .ended = ended_, .broken = broken_};
    head_.reset();
    pending_.clear();
    writable = std::exchange(on_writable_, nullptr);
  }
  if (writable) writable();
  return work;
}

void ReplyBuffer::detach(bool sent) {
  std::function<void()> tell, writable;
  {
    std::lock_guard lock(mutex_);
    wake_ = nullptr;
    if (!sent) tell = take_gone();
    on_gone_ = nullptr;
    gone_ = true;
    writable = std::exchange(on_writable_, nullptr);
  }
  if (tell) tell();
  if (writable) writable();
}

std::function<void()> ReplyBuffer::take_gone() {
  if (gone_) return nullptr;
  gone_ = true;
  return std::exchange(on_gone_, nullptr);
}

namespace {

class BufferedReply : public HttpReply {
 public:
  explicit BufferedReply(std::shared_ptr<ReplyBuffer> buffer) : buffer_(std::move(buffer)) {}
  ~BufferedReply() override { buffer_->abandon(); }

  void reply(int status, std::string_view content_type, std::string body, Headers headers) override {
    buffer_->begin({.status = status, .content_type = std::string(content_type), .headers = std::move(headers)});
    buffer_->append(body);
    buffer_->end();
  }
  void begin_stream(std::string_view content_type) override {
    buffer_->begin({.content_type = std::string(content_type), .stream = true});
  }
  bool write(std::string_view bytes) override { return buffer_->append(bytes); }
  void end() override { buffer_->end(); }
  void on_gone(std::function<void()> gone) override { buffer_->on_gone(std::move(gone)); }
  bool gone() const override { return buffer_->gone(); }
  size_t unsent_bytes() const override { return buffer_->unsent_bytes(); }
  void on_writable(std::function<void()> writable) override { buffer_->on_writable(std::move(writable)); }

 private:
  const std::shared_ptr<ReplyBuffer> buffer_;
};

}  // namespace

std::shared_ptr<HttpReply> make_reply(std::shared_ptr<ReplyBuffer> buffer) {
  return std::make_shared<BufferedReply>(std::move(buffer));
}

}  // namespace hylas
