#pragma once
// One HTTP answer made of one or more output sequences: submits them, collects what the engine says, and stops what
// nobody needs any more. Each API has a subclass that shapes the answer.
#include <boost/json.hpp>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "serve/context.h"
#include "serve/http.h"
#include "serve/output_text.h"

namespace hylas {

// A sequence to generate.
struct Job {
  Request request;
  OutputText text;
  std::string name;  // the client's id of it, for /abort_request
};

// Lives until its last sequence has finished: the engine's callbacks hold it. The engine's outputs wait in a mailbox,
// and at most one text worker at a time handles them, in order; subclasses therefore need no locks.
class Reply : public std::enable_shared_from_this<Reply> {
 public:
  Reply(ServeContext& context, std::shared_ptr<HttpReply> http, bool stream);
  virtual ~Reply() = default;

  // Call once, on a text worker. A sequence that the engine refuses makes the whole answer an error.
  void start(std::vector<Job> jobs);

 protected:
  struct Sequence {
    OutputText text;
    std::string name;
    RequestId id = 0;
    int32_t prompt_tokens = 0, generated_tokens = 0, cached_tokens = 0;
    int64_t last_token_us = 0;
    bool finished = false;  // its text has ended; the engine may still be told to stop
  };

  // Something came for a sequence; sequence(index) counts it already.
  virtual void on_piece(size_t index, Piece piece) = 0;
  // All sequences have finished: the answer must end.
  virtual void on_end() = 0;

  const Sequence& sequence(size_t index) const { return sequences_[index]; }
  size_t sequences() const { return sequences_.size(); }
  int64_t elapsed_us() const;
  void send_json(const boost::json::value& body);   // the whole answer
  void send_event(const boost::json::value& data);  // one event of a stream
  void end_stream();

  ServeContext& context_;
  const bool stream_;  // a prefilling instance never streams

 private:
  struct Mail {
    size_t index;
    Output output;
  };
  Status submit(std::vector<Job> jobs);
  void deliver(Mail mail);
  void handle_mail();
  void handle(Mail mail);
  void count(Sequence& sequence, const Piece& piece);
  void fail(const Error& error);
  void abort_all();
  void begin_stream();

  const std::shared_ptr<HttpReply> http_;
  const int64_t started_us_;
  std::vector<Sequence> sequences_;  // fixed once submitted
  size_t unfinished_ = 0;
  bool failed_ = false;
  bool is_streaming_ = false;

  std::mutex mutex_;
  std::deque<Mail> mailbox_;  // guarded by mutex_
  bool scheduled_ = true;     // guarded by mutex_: a worker handles the mail or will; at first start() does
};

}  // namespace hylas
