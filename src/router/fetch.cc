#include "router/fetch.h"

namespace hylas::router {
namespace {

constexpr size_t kBytesMax = 256 << 20;

class WholeAnswer : public UpstreamSink {
 public:
  WholeAnswer(EventLoop& loop, std::function<void(Fetched)> done) : loop_(loop), done_(std::move(done)) {}

  void on_head(int status, std::string_view content_type) override {
    fetched_.status = status;
    fetched_.type = content_type;
  }
  bool on_bytes(std::string_view bytes) override {
    too_long_ = too_long_ || fetched_.body.size() + bytes.size() > kBytesMax;
    if (!too_long_) fetched_.body += bytes;
    return true;
  }
  void on_end(const UpstreamFailure* failure) override {
    if (failure) fetched_.failure = *failure;
    if (too_long_) fetched_.failure = UpstreamFailure{false, "the answer is too long"};
    loop_.post([done = std::move(done_), fetched = std::move(fetched_)]() mutable { done(std::move(fetched)); });
  }

 private:
  EventLoop& loop_;
  std::function<void(Fetched)> done_;
  Fetched fetched_;
  bool too_long_ = false;
};

}  // namespace

std::shared_ptr<UpstreamCall> fetch(UpstreamClient& client, EventLoop& loop, UpstreamRequest request,
                                    std::function<void(Fetched)> done) {
  return client.start(std::move(request), std::make_shared<WholeAnswer>(loop, std::move(done)));
}

}  // namespace hylas::router
