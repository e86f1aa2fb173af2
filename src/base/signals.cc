#include "base/signals.h"

#include <pthread.h>
#include <signal.h>

#include <cerrno>

#include "base/clock.h"

namespace hylas {
namespace {
sigset_t stop_set() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  return set;
}
}  // namespace

void block_stop_signals() {
  sigset_t set = stop_set();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  signal(SIGPIPE, SIG_IGN);
}

int wait_for_stop_signal(int64_t wait_us) {
  sigset_t set = stop_set();
  const int64_t deadline_us = now_us() + wait_us;
  while (true) {
    int64_t left_us = wait_us < 0 ? 0 : deadline_us - now_us();
    if (left_us < 0) left_us = 0;
    timespec left{.tv_sec = left_us / 1'000'000, .tv_nsec = left_us % 1'000'000 * 1000};
    int signal_number = wait_us < 0 ? sigwaitinfo(&set, nullptr) : sigtimedwait(&set, nullptr, &left);
    if (signal_number > 0) return signal_number;
    if (errno != EINTR) return 0;  // EAGAIN: the time is over
  }
}

}  // namespace hylas
