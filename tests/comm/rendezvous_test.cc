// How nodes meet, and why some do not.
#include "comm/rendezvous.h"

#include <gtest/gtest.h>

#include <thread>

#include "support/child_process.h"

namespace hylas {
namespace {

RendezvousOptions options_for(int port, int32_t node, int32_t nodes, Settings settings = {{"--page-size", "64"}}) {
  RendezvousOptions options;
  options.address = {"127.0.0.1", static_cast<uint16_t>(port)};
  options.node = node;
  options.nodes = nodes;
  options.wait_us_max = 30'000'000;
  options.version = 1;
  options.settings = std::move(settings);
  options.note = "note of node " + std::to_string(node);
  return options;
}

// meet() of all `nodes`, each on its own thread.
std::vector<Result<Meeting>> meet_all(const std::vector<RendezvousOptions>& nodes) {
  std::vector<Result<Meeting>> meetings;
  for (size_t i = 0; i < nodes.size(); ++i) meetings.emplace_back(Error{});
  std::vector<std::jthread> threads;
  for (size_t i = 0; i < nodes.size(); ++i) {
    threads.emplace_back([&, i] { meetings[i] = meet(nodes[i]); });
  }
  threads.clear();
  return meetings;
}

TEST(Rendezvous, AllNodesHearAllNotes) {
  const int port = test::free_port();
  auto meetings = meet_all({options_for(port, 0, 3), options_for(port, 1, 3), options_for(port, 2, 3)});
  for (int node = 0; node < 3; ++node) {
    ASSERT_TRUE(meetings[node].ok()) << meetings[node].error().message;
    EXPECT_EQ(meetings[node]->notes[2], "note of node 2");
    EXPECT_EQ(meetings[node]->notes[0], "note of node 0");
  }
  ASSERT_TRUE(meetings[0]->links[2]->send(7, "hello").ok());
  const Frame frame = meetings[2]->links[0]->recv(5'000'000).value();
  EXPECT_EQ(frame.type, 7);
  EXPECT_EQ(frame.bytes, "hello");
}

TEST(Rendezvous, AStrangerIsSentAway) {
  const int port = test::free_port();
  std::jthread stranger([port] {
    const HostPort address{"127.0.0.1", static_cast<uint16_t>(port)};
    for (int i = 0; i < 100; ++i) {
      auto link = TcpLink::connect(address, 1'000'000);
      if (!link.ok()) {
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
        continue;
      }
      (void)(*link)->send(71, "ET / HTTP/1.1");
      return;
    }
  });
  auto late = options_for(port, 1, 2);
  std::vector<Result<Meeting>> meetings;
  for (int i = 0; i < 2; ++i) meetings.emplace_back(Error{});
  std::jthread host([&] { meetings[0] = meet(options_for(port, 0, 2)); });
  stranger.join();
  meetings[1] = meet(late);
  host.join();
  EXPECT_TRUE(meetings[0].ok());
  EXPECT_TRUE(meetings[1].ok());
}

TEST(Rendezvous, NodesThatDoNotFitHearWhy) {
  const auto refusal = [](RendezvousOptions first, RendezvousOptions second) {
    const auto meetings = meet_all({std::move(first), std::move(second)});
    EXPECT_EQ(meetings[0].error().message, meetings[1].error().message);
    EXPECT_EQ(meetings[0].error().code, ErrorCode::kInvalid);
    return meetings[0].error().message;
  };
  const auto port = [] { return test::free_port(); };
  int at = port();
  EXPECT_NE(refusal(options_for(at, 0, 2), options_for(at, 1, 2, {{"--page-size", "32"}}))
                .find("--page-size is 32 on node 1 and 64 on node 0"),
            std::string::npos);
  at = port();
  EXPECT_NE(refusal(options_for(at, 0, 2), options_for(at, 1, 3)).find("--nnodes is 3 on node 1 and 2 on node 0"),
            std::string::npos);
  at = port();
  EXPECT_NE(refusal(options_for(at, 0, 2), options_for(at, 2, 2)).find("--node-rank 2"), std::string::npos);
  at = port();
  RendezvousOptions other = options_for(at, 1, 2);
  other.version = 2;
  EXPECT_NE(refusal(options_for(at, 0, 2), other).find("version 2"), std::string::npos);
}

TEST(Rendezvous, AMissingNodeIsNamed) {
  RendezvousOptions options = options_for(test::free_port(), 0, 3);
  options.wait_us_max = 300'000;
  const Result<Meeting> meeting = meet(options);
  ASSERT_FALSE(meeting.ok());
  EXPECT_NE(meeting.error().message.find("nodes 1, 2 did not come"), std::string::npos) << meeting.error().message;
}

}  // namespace
}  // namespace hylas
