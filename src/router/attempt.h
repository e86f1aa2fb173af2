#pragma once
// One try of a request: on one instance, or on a prefill and a decode instance at the same time. Passes the answer to
// the client as it comes, or says why there is none, so that the request can be tried elsewhere.
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "router/event_cutter.h"
#include "router/event_loop.h"
#include "router/upstream.h"
#include "serve/http.h"

namespace hylas::router {

// Another instance may do better: 408, 429, 500, 502, 503, 504.
bool is_retriable(int status);

// The instance whose answer is the client's (decode, or a whole one), and the one that fills the prompt.
enum class Side : uint8_t { kAnswer, kPrefill };

// How one side of a try ended.
struct SideEnd {
  enum class Verdict { kGood, kFailed, kBusy, kRefused, kBroken, kCancelled };
  Verdict verdict = Verdict::kCancelled;
  std::string reason;
};

struct AttemptEnd {
  enum class Kind {
    kAnswered,  // the client has its answer
    kFailed,    // the client has nothing yet
    kBroken,    // a stream under way ended with an error event
  };
  Kind kind = Kind::kFailed;
  int status = 0;    // answered, or the instance's; 0: there was no answer
  std::string type;  // the instance's answer if it failed
  std::string body;
  std::string reason;
  int64_t first_byte_us = 0;  // when the first byte went to the client
};

// Made with make_shared. All but what the reply and the client's threads call belongs to the loop's thread.
class Attempt : public std::enable_shared_from_this<Attempt> {
 public:
  // Called on the loop.
  struct Events {
    std::function<void(Side, const SideEnd&)> side_ended;  // once for each side
    std::function<void(AttemptEnd)> ended;                 // once; not after cancel()
  };
  Attempt(EventLoop& loop, std::shared_ptr<HttpReply> reply, Events events);

  void start(UpstreamClient& client, UpstreamRequest answer, std::optional<UpstreamRequest> prefill);
  // Closes the connections; nobody waits for an answer any more.
  void cancel();
  // Fails it, unless a stream has begun: then `ends_streams` says whether that gets an error event.
  void give_up(int status, const std::string& reason, bool ends_streams);
  // That side has not ended yet.
  bool waits_for(Side side) const;

 private:
  class Leg;
  class Sink;
  enum class State { kWaiting, kStreaming, kOver };

  bool take_bytes(std::string_view bytes);  // of the answer; on the client's threads
  bool pass_on(std::string events);         // false: the client reads slowly
  void leg_ended(Leg& leg);
  void answer_ended();
  void prefill_ended();
  void conclude(Leg& leg);
  void end_stream();
  bool enter_over();  // false: a stream has begun, or it is over already
  void fail(int status, std::string type, std::string body, std::string reason);
  void end(AttemptEnd end);

  EventLoop& loop_;
  const std::shared_ptr<HttpReply> reply_;
  Events events_;
  std::shared_ptr<Leg> answer_, prefill_;
  EventCutter cutter_;  // the client's threads until the answer has ended
  std::mutex mutex_;
  State state_ = State::kWaiting;  // guarded by mutex_, as is first_byte_us_
  int64_t first_byte_us_ = 0;
};

}  // namespace hylas::router
