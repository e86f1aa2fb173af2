#include "base/signals.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "base/clock.h"

namespace hylas {
namespace {

// Runs `body` in a process of its own, since the signal mask is the process's; its exit code.
template <class Body>
int exit_code_of(Body body) {
  pid_t child = fork();
  if (child == 0) _exit(body());
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(StopSignals, AreWaitedForAndDoNotKill) {
  for (int number : {SIGINT, SIGTERM}) {
    EXPECT_EQ(exit_code_of([number] {
                block_stop_signals();
                kill(getpid(), number);
                return wait_for_stop_signal();
              }),
              number);
  }
}

TEST(StopSignals, WaitingEndsAfterItsTime) {
  EXPECT_EQ(exit_code_of([] {
              block_stop_signals();
              int64_t started_us = now_us();
              int number = wait_for_stop_signal(20'000);
              return number != 0 ? 1 : now_us() - started_us < 20'000 ? 2 : 0;
            }),
            0);
}

TEST(StopSignals, AClosedPipeIsAnErrorOfWriteNotADeath) {
  EXPECT_EQ(exit_code_of([] {
              block_stop_signals();
              int ends[2];
              if (pipe(ends) != 0) return 1;
              close(ends[0]);
              return write(ends[1], "x", 1) == -1 && errno == EPIPE ? 0 : 2;
            }),
            0);
}

}  // namespace
}  // namespace hylas
