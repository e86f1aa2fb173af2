#include "support/child_process.h"

#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <sstream>
#include <thread>

#include "base/check.h"

namespace hylas::test {

ChildProcess::ChildProcess(const Body& body) {
  int ends[2];
  HYLAS_CHECK(pipe(ends) == 0);
  log_fd_ = memfd_create("log", 0);
  HYLAS_CHECK(log_fd_ >= 0);
  pid_ = fork();
  HYLAS_CHECK(pid_ >= 0);
  if (pid_ == 0) {
    close(ends[0]);
    dup2(log_fd_, STDERR_FILENO);
    const int code = body([&] { HYLAS_CHECK(write(ends[1], "r", 1) == 1); });
    fflush(nullptr);
    _exit(code);
  }
  close(ends[1]);
  ready_fd_ = ends[0];
}

ChildProcess::~ChildProcess() {
  if (!wait(std::chrono::milliseconds(0))) {
    signal(SIGKILL);
    wait();
  }
  close(ready_fd_);
  close(log_fd_);
}

bool ChildProcess::wait_until_ready() {
  pollfd waiting{ready_fd_, POLLIN, 0};
  char byte;
  return poll(&waiting, 1, 60'000) == 1 && read(ready_fd_, &byte, 1) == 1;
}

std::optional<int> ChildProcess::wait(std::chrono::milliseconds most) {
  const auto end = std::chrono::steady_clock::now() + most;
  while (!code_) {
    int status = 0;
    if (waitpid(pid_, &status, WNOHANG) == pid_) {
      code_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    } else if (std::chrono::steady_clock::now() >= end) {
      break;
    } else {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  }
  return code_;
}

void ChildProcess::signal(int number) {
  if (!code_) kill(pid_, number);
}

std::string ChildProcess::log() const {
  std::string text(static_cast<size_t>(lseek(log_fd_, 0, SEEK_END)), '\0');
  const ssize_t got = pread(log_fd_, text.data(), text.size(), 0);
  text.resize(got > 0 ? static_cast<size_t>(got) : 0);
  return text;
}

std::string ChildProcess::last_words() const {
  std::istringstream all(log());
  std::string words;
  for (std::string line; std::getline(all, line);) {
    if (line.starts_with("hylas: ")) words += line + '\n';
  }
  return words;
}

int free_port() {
  const int probe = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  HYLAS_CHECK(bind(probe, reinterpret_cast<sockaddr*>(&address), length) == 0);
  HYLAS_CHECK(getsockname(probe, reinterpret_cast<sockaddr*>(&address), &length) == 0);
  close(probe);
  return ntohs(address.sin_port);
}

}  // namespace hylas::test
