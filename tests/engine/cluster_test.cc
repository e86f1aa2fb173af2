// Several real processes as one instance: they say what one process says, bit for bit, and end together.
#include "engine/cluster.h"

#include <gtest/gtest.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <map>

#include "engine/answers.h"
#include "engine/client.h"
#include "engine/layout_workload.h"
#include "engine/node_worker.h"
#include "support/child_process.h"
#include "support/layout_models.h"

namespace hylas {
namespace {

using test::Answers;
using test::ChildProcess;
using test::LayoutKind;
using test::LayoutModel;
using Children = std::vector<std::unique_ptr<ChildProcess>>;

int fail(const Error& why) {
  fmt::print(stderr, "hylas: {}\n", why.message);
  return 1;
}

// Node 0 with the workload; without `answers` it serves requests until it is ended.
int lead(const EngineOptions& options, const Answers* answers, const std::function<void()>& ready) {
  auto engine = Engine::start(options);
  if (!engine.ok()) return fail(engine.error());
  if (answers) {
    answers->write(test::run_layout_workload(**engine));
    return 0;
  }
  Client client(**engine);
  for (int round = 0; round < 1'000'000; ++round) {
    Request request{.prompt = std::vector<int32_t>(100, 5)};
    request.sampling.ignore_eos = true;
    request.sampling.max_new_tokens = 8;
    client.wait(client.send(request));
    if (round == 0) ready();
  }
  return 0;
}

int follow(const EngineOptions& options) {
  const Status ended = run_node(options);
  return ended.ok() ? 0 : fail(ended.error());
}

EngineOptions options_of(const LayoutModel& model, const ParallelSizes& sizes) {
  const char* dtype = model.kind == LayoutKind::kDense ? "float32" : "bfloat16";
  EngineOptions options = test::layout_options(layout_model_path(model), dtype, sizes);
  options.dist_init_addr = fmt::format("127.0.0.1:{}", test::free_port());
  options.threads =
      sizes.world() / sizes.nodes;  // one for each rank: more of them than cores would wait for each other
  return options;
}

using Change = std::function<void(int node, EngineOptions& options)>;

Children start_nodes(const EngineOptions& options, const std::string& transports, const Answers* answers,
                     const Change& change = {}) {
  Children nodes;
  for (int32_t node = 0; node < options.parallel.nodes; ++node) {
    nodes.push_back(std::make_unique<ChildProcess>([&, node](const std::function<void()>& ready) {
      setenv("UCX_TLS", transports.c_str(), 1);
      EngineOptions mine = options;
      mine.node_rank = node;
      mine.base_gpu_id = node * options.parallel.world() / options.parallel.nodes;  // of as many as there are
      if (change) change(node, mine);
      return node == 0 ? lead(mine, answers, ready) : follow(mine);
    }));
  }
  return nodes;
}

const test::LayoutOutcome& one_process(const LayoutModel& model) {
  static std::map<std::string, test::LayoutOutcome> known;
  if (const auto found = known.find(model.name()); found != known.end()) return found->second;
  const Answers answers;
  ChildProcess alone([&](const auto& ready) { return lead(options_of(model, {}), &answers, ready); });
  HYLAS_CHECK(alone.wait() == 0, "{}", alone.log());
  return known[model.name()] = answers.read();
}

void expect_same(const test::LayoutOutcome& got, const test::LayoutOutcome& expected) {
  ASSERT_EQ(got.said.size(), expected.said.size());
  ASSERT_GT(expected.retractions, 0u);
  for (const auto& [index, said] : expected.said) {
    EXPECT_EQ(got.said.at(index).tokens, said.tokens) << "request " << index;
    EXPECT_EQ(got.said.at(index).logprob_bits, said.logprob_bits) << "request " << index;
  }
}

struct Case {
  LayoutModel model;
  ParallelSizes sizes;
  const char* transports;
  std::string name() const {
    return fmt::format("{}_tp{}_pp{}_ep{}_dp{}_nodes{}_{}", model.name(), sizes.tp, sizes.pp, sizes.ep, sizes.dp,
                       sizes.nodes, transports == std::string("tcp") ? "tcp" : "shm");
  }
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.name(); }

class Nodes : public testing::TestWithParam<Case> {};

TEST_P(Nodes, SayWhatOneProcessSays) {
  const Case& c = GetParam();
  const Answers answers;
  Children nodes = start_nodes(options_of(c.model, c.sizes), c.transports, &answers);
  for (auto& node : nodes) EXPECT_EQ(node->wait(), 0) << node->log();
  ASSERT_FALSE(HasFailure());
  for (auto& node : nodes) EXPECT_EQ(node->last_words(), "");
  expect_same(answers.read(), one_process(c.model));
}

const LayoutModel kDense{LayoutKind::kDense, 8}, kMoe{LayoutKind::kMoe, 8};
constexpr const char* kTcp = "tcp";
constexpr const char* kShm = "shm,tcp";

INSTANTIATE_TEST_SUITE_P(Layouts, Nodes,
                         testing::Values(Case{kDense, {.tp = 1, .pp = 2, .nodes = 2}, kTcp},
                                         Case{kDense, {.tp = 1, .pp = 2, .nodes = 2}, kShm},
                                         Case{kMoe, {.tp = 1, .pp = 2, .nodes = 2}, kTcp},
                                         Case{kMoe, {.tp = 1, .pp = 2, .nodes = 2}, kShm},
                                         Case{kDense, {.tp = 2, .pp = 4, .nodes = 2}, kTcp},
                                         Case{kMoe, {.tp = 2, .pp = 4, .nodes = 2}, kShm},
                                         Case{kMoe, {.tp = 2, .pp = 2, .ep = 2, .dp = 2, .nodes = 2}, kTcp},
                                         Case{kDense, {.tp = 1, .pp = 4, .nodes = 4}, kTcp}),
                         [](const auto& info) { return info.param.name(); });

constexpr int kNoNamespaces = 77;

// `ip` stands in a folder that not every PATH has.
bool ip(const std::string& arguments) {
  return std::system(fmt::format("PATH=$PATH:/usr/sbin:/sbin ip {} >&2", arguments).c_str()) == 0;
}

// A network namespace of this process' own, with its devices in /sys, where UCX looks for them.
bool enter_own_network() {
  constexpr int kParts = CLONE_NEWNET | CLONE_NEWNS;
  if (unshare(kParts) != 0 && unshare(CLONE_NEWUSER | kParts) != 0) return false;
  if (mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return false;
  return mount("sysfs", "/sys", "sysfs", 0, nullptr) == 0;
}

// Up, and so is the other end of its cable: before, UCX would not take it.
bool wait_until_running(const char* device) {
  const int any = socket(AF_INET, SOCK_DGRAM, 0);
  ifreq request{};
  std::string(device).copy(request.ifr_name, IFNAMSIZ - 1);
  bool running = false;
  for (int i = 0; i < 10'000 && !running; ++i) {
    running = ioctl(any, SIOCGIFFLAGS, &request) == 0 && (request.ifr_flags & IFF_RUNNING) != 0;
    if (!running) usleep(1000);
  }
  close(any);
  return running;
}

// Two nodes, each in a network namespace of its own, with a virtual cable between them and no loopback device.
int run_in_namespaces(EngineOptions options, const Answers& answers) {
  if (!enter_own_network()) return kNoNamespaces;
  if (!ip("link add left type veth peer name right")) return kNoNamespaces;
  setenv("UCX_TLS", "tcp", 1);
  options.dist_init_addr = "10.99.0.1:20000";
  ChildProcess other([&](const std::function<void()>& ready) {
    if (!enter_own_network()) return kNoNamespaces;
    ready();
    while (if_nametoindex("right") == 0) usleep(1000);
    if (!ip("addr add 10.99.0.2/24 dev right") || !ip("link set right up") || !wait_until_running("right")) return 1;
    options.node_rank = 1;
    return follow(options);
  });
  if (!other.wait_until_ready()) return kNoNamespaces;
  if (!ip(fmt::format("link set right netns {}", other.pid()))) return kNoNamespaces;
  if (!ip("addr add 10.99.0.1/24 dev left") || !ip("link set left up") || !wait_until_running("left")) return 1;
  const int code = lead(options, &answers, [] {});
  const int its_code = other.wait().value_or(1);
  fmt::print(stderr, "the other node ended with {}:\n{}", its_code, other.log());
  return code == 0 ? its_code : code;
}

TEST(NodesInNetworkNamespaces, SayWhatOneProcessSays) {
  const Answers answers;
  ChildProcess both([&](const auto&) { return run_in_namespaces(options_of(kDense, {.pp = 2, .nodes = 2}), answers); });
  const std::optional<int> code = both.wait();
  if (code == kNoNamespaces) GTEST_SKIP() << "no network namespaces here: " << both.log();
  ASSERT_EQ(code, 0) << both.log();
  expect_same(answers.read(), one_process(kDense));
}

constexpr ParallelSizes kTwo{.pp = 2, .nodes = 2};
constexpr ParallelSizes kThree{.pp = 3, .nodes = 3};

// One line, exit code 1, within 5 s of `event`.
void expect_end(ChildProcess& node, std::chrono::steady_clock::time_point event, const std::string& about) {
  EXPECT_EQ(node.wait(std::chrono::seconds(10)), 1) << node.log();
  EXPECT_LT(std::chrono::steady_clock::now() - event, std::chrono::seconds(5));
  const std::string words = node.last_words();
  EXPECT_EQ(std::count(words.begin(), words.end(), '\n'), 1) << words;
  EXPECT_NE(words.find(about), std::string::npos) << words;
}

struct Loss {
  const char* name;
  int node;
  int signal;
};
class LostNode : public testing::TestWithParam<Loss> {};

TEST_P(LostNode, EndsAllOthersWithOneLine) {
  const auto [name, lost, signal] = GetParam();
  Children nodes = start_nodes(options_of(kDense, kThree), "tcp", nullptr);
  ASSERT_TRUE(nodes[0]->wait_until_ready()) << nodes[0]->log();
  const auto event = std::chrono::steady_clock::now();
  nodes[lost]->signal(signal);
  for (int node = 0; node < 3; ++node) {
    if (node != lost) expect_end(*nodes[node], event, fmt::format("node {} ", lost));
  }
}

INSTANTIATE_TEST_SUITE_P(Killed, LostNode,
                         testing::Values(Loss{"KilledFirst", 0, SIGKILL}, Loss{"KilledMiddle", 1, SIGKILL},
                                         Loss{"KilledLast", 2, SIGKILL}, Loss{"SilentFirst", 0, SIGSTOP},
                                         Loss{"SilentLast", 2, SIGSTOP}),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(NodeStart, FlagsThatDifferAreRefusedOnEveryNode) {
  Children nodes = start_nodes(options_of(kDense, kTwo), "tcp", nullptr, [](int node, EngineOptions& options) {
    if (node == 1) options.page_size = 8;
  });
  for (auto& node : nodes) {
    EXPECT_EQ(node->wait(std::chrono::seconds(30)), 1);
    EXPECT_NE(node->last_words().find("--page-size is 8 on node 1 and 4 on node 0"), std::string::npos) << node->log();
  }
}

TEST(NodeStart, AnotherModelIsRefusedOnEveryNode) {
  Children nodes = start_nodes(options_of(kDense, kTwo), "tcp", nullptr, [](int node, EngineOptions& options) {
    if (node == 1) options.model_path = test::layout_model_path({LayoutKind::kDense, 5});
  });
  for (auto& node : nodes) {
    EXPECT_EQ(node->wait(std::chrono::seconds(30)), 1);
    EXPECT_NE(node->last_words().find("the model is config.json with checksum "), std::string::npos) << node->log();
  }
}

TEST(NodeStart, ANodeThatCannotLoadEndsTheOthersWithItsReason) {
  Children nodes = start_nodes(options_of(kDense, kTwo), "tcp", nullptr, [](int node, EngineOptions& options) {
    if (node == 1) options.mem_fraction_static = 1e-12;
  });
  EXPECT_EQ(nodes[0]->wait(std::chrono::seconds(30)), 1);
  EXPECT_EQ(nodes[1]->wait(std::chrono::seconds(30)), 1);
  EXPECT_NE(nodes[0]->last_words().find("node 1 gave up: "), std::string::npos) << nodes[0]->log();
  EXPECT_NE(nodes[1]->last_words(), "");
}

TEST(NodeStart, AnAddressWithoutANodeIsNamedWithTheRemedy) {
  EngineOptions options = options_of(kDense, kTwo);
  options.node_rank = 1;
  options.dist_timeout_s = 1;
  ChildProcess node([&](const auto&) { return follow(options); });
  EXPECT_EQ(node.wait(std::chrono::seconds(20)), 1);
  EXPECT_NE(node.last_words().find("found no node 0 at " + options.dist_init_addr), std::string::npos) << node.log();
  EXPECT_NE(node.last_words().find("--dist-init-addr"), std::string::npos);
}

TEST(NodeStart, MissingAndContradictoryFlagsAreRefused) {
  const auto refusal = [](const Change& change) {
    EngineOptions options = options_of(kDense, kTwo);
    change(0, options);
    return Engine::start(options).error().message;
  };
  EXPECT_NE(refusal([](int, EngineOptions& o) { o.dist_init_addr = ""; }).find("needs --dist-init-addr"),
            std::string::npos);
  EXPECT_NE(refusal([](int, EngineOptions& o) { o.dist_init_addr = "nowhere"; }).find("--dist-init-addr: 'nowhere'"),
            std::string::npos);
  EXPECT_NE(refusal([](int, EngineOptions& o) { o.node_rank = 2; }).find("--node-rank 2: must lie between 0 and 1"),
            std::string::npos);
  EXPECT_NE(refusal([](int, EngineOptions& o) { o.parallel.nodes = 3; }).find("--nnodes 3 must divide --pp-size 2"),
            std::string::npos);
}

}  // namespace
}  // namespace hylas
