// Real UCX between real processes on loopback.
#include "comm/ucx_fabric.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <thread>
#include <vector>

namespace hylas {
namespace {

void write_all(int fd, const std::string& text) {
  const uint64_t bytes = text.size();
  ASSERT_EQ(write(fd, &bytes, sizeof bytes), static_cast<ssize_t>(sizeof bytes));
  ASSERT_EQ(write(fd, text.data(), bytes), static_cast<ssize_t>(bytes));
}

std::string read_all(int fd) {
  uint64_t bytes = 0;
  if (read(fd, &bytes, sizeof bytes) != static_cast<ssize_t>(sizeof bytes)) return {};
  std::string text(bytes, '\0');
  size_t at = 0;
  while (at < bytes) at += static_cast<size_t>(read(fd, text.data() + at, bytes - at));
  return text;
}

constexpr uint64_t kByeTag = 999;

// A child process with a connected fabric that runs `body` (peer 0 is the parent), and the parent's fabric.
class Pair {
 public:
  Pair(const std::string& transports, const std::function<int(UcxFabric&)>& body) {
    int sockets[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets), 0);
    child_ = fork();
    if (child_ == 0) {
      auto fabric = UcxFabric::make({.transports = transports}, 1, nullptr).value();
      write_all(sockets[1], fabric->address());
      HYLAS_CHECK(fabric->connect(0, read_all(sockets[1])).ok());
      const int code = body(*fabric);
      // A peer that closes is lost for its reader, with what it had not read yet: so stay until told.
      char bye;
      (void)fabric->recv(0, kByeTag, &bye, 1);
      fabric.reset();  // flushes
      _exit(code);
    }
    fabric_ = UcxFabric::make({.transports = transports}, 0, [this](int32_t, const std::string&) { ++lost_; }).value();
    const std::string address = read_all(sockets[0]);
    write_all(sockets[0], fabric_->address());
    EXPECT_TRUE(fabric_->connect(1, address).ok());
  }
  ~Pair() { kill(child_, SIGKILL); }

  UcxFabric& fabric() { return *fabric_; }
  int wait() {
    const char bye = 0;
    (void)fabric_->send(1, kByeTag, &bye, 1);
    return wait_for_exit();
  }
  int wait_for_exit() {
    int status = -1;
    waitpid(child_, &status, 0);
    return status;
  }
  void kill_child() {
    kill(child_, SIGKILL);
    wait_for_exit();
  }
  int lost() const { return lost_; }

 private:
  pid_t child_ = -1;
  std::atomic<int> lost_{0};
  std::unique_ptr<UcxFabric> fabric_;
};

class Ucx : public testing::TestWithParam<std::string> {};

TEST_P(Ucx, MessagesOfEverySizeArriveUnchangedAndInOrder) {
  const std::vector<size_t> sizes = {0, 1, 8, 1000, 9000, 100000, 20 << 20};
  Pair pair(GetParam(), [&](UcxFabric& fabric) {
    for (size_t bytes : sizes) {
      std::string data(bytes, '\0');
      if (!fabric.recv(0, 7, data.data(), bytes).ok()) return 1;
      for (char& c : data) c = static_cast<char>(c + 1);
      if (!fabric.send(0, 7, data.data(), bytes).ok()) return 2;
    }
    return 0;
  });
  for (size_t bytes : sizes) {
    std::string data(bytes, '\0');
    for (size_t i = 0; i < bytes; ++i) data[i] = static_cast<char>(i * 31);
    std::string back(bytes, '\0');
    ASSERT_TRUE(pair.fabric().send(1, 7, data.data(), bytes).ok());
    ASSERT_TRUE(pair.fabric().recv(1, 7, back.data(), bytes).ok());
    for (size_t i = 0; i < bytes; ++i) ASSERT_EQ(back[i], static_cast<char>(data[i] + 1)) << i << " of " << bytes;
  }
  EXPECT_EQ(pair.wait(), 0);
}

TEST_P(Ucx, TagsKeepConversationsApart) {
  Pair pair(GetParam(), [](UcxFabric& fabric) {
    for (uint64_t tag = 0; tag < 50; ++tag) {
      if (!fabric.send_message(0, tag, "message " + std::to_string(tag)).ok()) return 1;
    }
    return 0;
  });
  for (uint64_t tag = 50; tag-- > 0;) {
    EXPECT_EQ(pair.fabric().recv_message(1, tag, 100).value(), "message " + std::to_string(tag));
  }
  EXPECT_EQ(pair.wait(), 0);
}

TEST_P(Ucx, KillMinusNineEndsAPendingReceive) {
  Pair pair(GetParam(), [](UcxFabric& fabric) {
    (void)fabric.send_message(0, 1, "ready");
    std::this_thread::sleep_for(std::chrono::seconds(60));
    return 0;
  });
  ASSERT_EQ(pair.fabric().recv_message(1, 1, 100).value(), "ready");
  const auto begin = std::chrono::steady_clock::now();
  std::thread killer([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    pair.kill_child();
    pair.fabric().lose(1, "control connection closed");
  });
  char byte;
  const Status status = pair.fabric().recv(1, 2, &byte, 1);
  killer.join();
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, ErrorCode::kIo);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(5));
  EXPECT_EQ(pair.lost(), 1);
}

TEST_P(Ucx, AMessageOfTheWrongSizeIsAnError) {
  Pair pair(GetParam(), [](UcxFabric& fabric) {
    const char data[4] = {};
    (void)fabric.send(0, 1, data, 4);
    (void)fabric.send_message(0, 2, std::string(1000, 'x'));
    return 0;
  });
  char data[8];
  const Status status = pair.fabric().recv(1, 1, data, 8);
  ASSERT_FALSE(status.ok());
  EXPECT_NE(status.error().message.find("4 bytes where 8"), std::string::npos) << status.error().message;
  EXPECT_NE(pair.fabric().recv_message(1, 2, 10).error().message.find("1000 bytes"), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(Transports, Ucx, testing::Values("tcp", "shm,tcp"), [](const auto& info) {
  return info.param == "tcp" ? std::string("tcp") : std::string("shared_memory");
});

}  // namespace
}  // namespace hylas
