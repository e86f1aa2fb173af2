#pragma once
// ReplyBuffer: one answer on its way from the threads that make it to the connection that sends it.
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "serve/http.h"

namespace hylas {

struct ReplyHead {
  int status = 200;
  std::string content_type;
  HttpReply::Headers headers;
  bool stream = false;
};

// Thread-safe. Shared by the connection and by the HttpReply that the handler holds.
class ReplyBuffer {
 public:
  // `wake` is called, with the lock held, when there is something to take(); it must only post.
  ReplyBuffer(size_t stream_bytes_max, std::function<void()> wake);

  // --- the maker's side, see HttpReply ---
  void begin(ReplyHead head);
  bool append(std::string_view bytes);
  void end();
  void abandon();  // nobody will answer any more
  void on_gone(std::function<void()> gone);
  bool gone() const;
  size_t unsent_bytes() const;
  void on_writable(std::function<void()> writable);

  // --- the connection's side ---
  struct Work {
    std::optional<ReplyHead> head;  // with the first work only; none there: abandoned before it began
    std::string bytes;
    bool ended = false;   // nothing follows
    bool broken = false;  // abandoned, or the client reads too slowly: close the connection
  };
  // What can be sent now: of a stream what there is, of a whole answer everything at once.
  std::optional<Work> take();
  // The connection is done with this answer; `wake` is not called any more. Not `sent` to its end: the client is gone.
  void detach(bool sent);

 private:
  std::function<void()> take_gone();

  const size_t stream_bytes_max_;
  mutable std::mutex mutex_;
  std::function<void()> wake_;
  std::function<void()> on_gone_, on_writable_;
  std::optional<ReplyHead> head_;
  std::string pending_;
  bool begun_ = false, ended_ = false, broken_ = false, gone_ = false;
};

// The handler's HttpReply of a buffer.
std::shared_ptr<HttpReply> make_reply(std::shared_ptr<ReplyBuffer> buffer);

}  // namespace hylas
