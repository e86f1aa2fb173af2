#pragma once
// ChildProcess: a forked process of a test, with its stderr. Fork before the test's own process starts threads.
#include <sys/types.h>

#include <chrono>
#include <functional>
#include <optional>
#include <string>

namespace hylas::test {

class ChildProcess {
 public:
  // `body` returns the exit code; `ready` is for it to call when the test may go on.
  using Body = std::function<int(const std::function<void()>& ready)>;
  explicit ChildProcess(const Body& body);
  // Kills it if it still runs.
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  pid_t pid() const { return pid_; }
  // False if it ended, or 60 s passed, without calling ready().
  bool wait_until_ready();
  // The exit code, 128 + the signal that ended it, or nothing if it still runs after `most`.
  std::optional<int> wait(std::chrono::milliseconds most = std::chrono::minutes(2));
  void signal(int number);
  // What it has written to stderr so far.
  std::string log() const;
  // The lines of log() that the program ends with: "hylas: ...".
  std::string last_words() const;

 private:
  pid_t pid_ = -1;
  int ready_fd_ = -1;
  int log_fd_ = -1;
  std::optional<int> code_;
};

// A TCP port of this machine that nobody listens at.
int free_port();

}  // namespace hylas::test
