#include "comm/rendezvous.h"

#include <algorithm>
#include <thread>

#include "base/byte_io.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/signals.h"

namespace hylas {
namespace {

constexpr uint32_t kMagic = 0x616c7968;  // "hyla"
constexpr int64_t kTalkUs = 10'000'000;  // for a message that is due
constexpr size_t kHelloBytesMax = 1 << 20;
constexpr int64_t kProgressUs = 10'000'000;
constexpr int64_t kRetryUs = 200'000;

enum Type : uint8_t { kHello = 1, kWelcome, kRefusal };

struct Hello {
  uint32_t magic = 0;
  uint32_t version = 0;
  int32_t node = -1, nodes = 0;
  std::vector<std::string> settings;  // name, value, name, value, ...
  std::string note;
};

void hello_fields(auto& io, auto& v) { io(v.magic, v.version, v.node, v.nodes, v.settings, v.note); }

Error stopped_early(const std::string& while_waiting) {
  return error(ErrorCode::kUnavailable, "stopped by a signal while waiting for {}", while_waiting);
}

bool stop_asked() { return wait_for_stop_signal(0) != 0; }

Settings pairs_of(const std::vector<std::string>& flat) {
  Settings settings;
  for (size_t i = 0; i + 1 < flat.size(); i += 2) settings.emplace_back(flat[i], flat[i + 1]);
  return settings;
}

// The names of the nodes that have not come: "nodes 1, 3".
std::string missing(const Meeting& meeting) {
  std::string names;
  int count = 0;
  for (size_t node = 1; node < meeting.links.size(); ++node) {
    if (meeting.links[node]) continue;
    names += fmt::format("{}{}", count++ ? ", " : "", node);
  }
  return fmt::format("node{} {}", count == 1 ? "" : "s", names);
}

// What is wrong with a node that says `hello` to node 0.
Status check_hello(const RendezvousOptions& options, const Hello& hello, const Meeting& meeting) {
  if (hello.version != options.version) {
    return error(ErrorCode::kInvalid,
                 "node {} speaks version {} and node 0 version {}: run the same hylas on all nodes", hello.node,
                 hello.version, options.version);
  }
  if (hello.nodes != options.nodes) {
    return error(ErrorCode::kInvalid, "--nnodes is {} on node {} and {} on node 0", hello.nodes, hello.node,
                 options.nodes);
  }
  if (hello.node < 1 || hello.node >= options.nodes) {
    return error(ErrorCode::kInvalid,
                 "a node says --node-rank {}: must lie between 1 and {} on nodes other than the first", hello.node,
                 options.nodes - 1);
  }
  if (const auto& taken = meeting.links[hello.node]) {
    return error(ErrorCode::kInvalid, "two nodes say --node-rank {}; the first one is at {}", hello.node,
                 taken->peer());
  }
  return check_same(hello.node, pairs_of(hello.settings), options.settings);
}

void refuse(TcpLink& link, const Error& why) {
  ByteWriter out;
  out(static_cast<int32_t>(why.code), why.message);
  (void)link.send(kRefusal, out.bytes());
}

// One guest at node 0's door. What is no hylas node is sent away; a node that does not fit ends the meeting.
Status admit(const RendezvousOptions& options, std::unique_ptr<TcpLink> link, Meeting& meeting) {
  Result<Frame> frame = link->recv(kTalkUs, kHelloBytesMax);
  Hello hello;
  if (frame.ok()) {
    ByteReader in(frame->bytes);
    hello_fields(in, hello);
    // Of another version only the start may be readable.
    const bool readable = in.complete() || hello.version != options.version;
    if (frame->type != kHello || hello.magic != kMagic || !readable) frame = error(ErrorCode::kIo, "not a hylas node");
  }
  if (!frame.ok()) {
    log::warn("a connection from {} to {} is dropped: {}", link->peer(), to_string(options.address),
              frame.error().message);
    return {};
  }
  const Status fits = check_hello(options, hello, meeting);
  if (!fits.ok()) {
    const Error why = error(fits.error().code, "{} (at {})", fits.error().message, link->peer());
    refuse(*link, why);
    for (const auto& other : meeting.links) {
      if (other) refuse(*other, why);
    }
    return why;
  }
  log::info("node {} is here ({})", hello.node, link->peer());
  meeting.notes[hello.node] = std::move(hello.note);
  meeting.links[hello.node] = std::move(link);
  return {};
}

Result<Meeting> host(const RendezvousOptions& options) {
  HYLAS_ASSIGN(TcpListener listener, TcpListener::listen(options.address));
  Meeting meeting;
  meeting.links.resize(options.nodes);
  meeting.notes.resize(options.nodes);
  meeting.notes[0] = options.note;
  const auto here = [&] {
    return std::count_if(meeting.links.begin(), meeting.links.end(), [](auto& l) { return !!l; });
  };
  const int64_t begin_us = now_us();
  int64_t shown_us = begin_us - kProgressUs;
  while (here() < options.nodes - 1) {
    const int64_t now = now_us();
    if (now - begin_us > options.wait_us_max) {
      return error(
          ErrorCode::kIo,
          "{} did not come to {} within {} s; start all {} nodes with the same --dist-init-addr, each with its "
          "own --node-rank",
          missing(meeting), to_string(options.address), options.wait_us_max / 1'000'000, options.nodes);
    }
    if (now - shown_us >= kProgressUs) {
      log::info("waiting at {} for {}", to_string(options.address), missing(meeting));
      shown_us = now;
    }
    if (stop_asked()) return stopped_early(missing(meeting));
    if (auto link = listener.accept(kRetryUs)) HYLAS_TRY(admit(options, std::move(link), meeting));
  }
  ByteWriter welcome;
  welcome(meeting.notes);
  for (int32_t node = 1; node < options.nodes; ++node) {
    const Status sent = meeting.links[node]->send(kWelcome, welcome.bytes());
    if (!sent.ok()) {
      return error(ErrorCode::kIo, "node {} ({}) went away: {}", node, meeting.links[node]->peer(),
                   sent.error().message);
    }
  }
  return meeting;
}

Result<std::unique_ptr<TcpLink>> find_host(const RendezvousOptions& options) {
  const int64_t begin_us = now_us();
  int64_t shown_us = begin_us - kProgressUs;
  while (true) {
    auto link = TcpLink::connect(options.address, kTalkUs / 5);
    if (link.ok()) return link;
    const int64_t now = now_us();
    if (now - begin_us > options.wait_us_max) {
      return error(
          ErrorCode::kIo,
          "node {} found no node 0 at {} within {} s ({}); is node 0 started, and --dist-init-addr its address?",
          options.node, to_string(options.address), options.wait_us_max / 1'000'000, link.error().message);
    }
    if (now - shown_us >= kProgressUs) {
      log::info("node {} waits for node 0 at {} ({})", options.node, to_string(options.address), link.error().message);
      shown_us = now;
    }
    if (stop_asked()) return stopped_early("node 0");
    std::this_thread::sleep_for(std::chrono::microseconds(kRetryUs));
  }
}

// Node 0 answers once all have come.
Result<Frame> wait_for_answer(const RendezvousOptions& options, TcpLink& link) {
  const int64_t begin_us = now_us();
  while (true) {
    if (link.readable(kRetryUs)) return link.recv(kTalkUs);
    if (stop_asked()) return stopped_early("the other nodes");
    if (now_us() - begin_us > options.wait_us_max + kTalkUs) {
      return error(ErrorCode::kIo, "no answer within {} s", options.wait_us_max / 1'000'000);
    }
  }
}

Result<Meeting> visit(const RendezvousOptions& options) {
  HYLAS_ASSIGN(auto link, find_host(options));
  Hello hello{
      .magic = kMagic, .version = options.version, .node = options.node, .nodes = options.nodes, .note = options.note};
  for (const auto& [name, value] : options.settings) hello.settings.insert(hello.settings.end(), {name, value});
  ByteWriter out;
  hello_fields(out, hello);
  const Status sent = link->send(kHello, out.bytes());
  if (sent.ok()) log::info("node {} has met node 0 ({}), and waits for the others", options.node, link->peer());
  Result<Frame> frame = sent.ok() ? wait_for_answer(options, *link) : Result<Frame>(sent.error());
  if (!frame.ok() && frame.error().code == ErrorCode::kUnavailable) return frame.error();
  if (!frame.ok()) {
    return error(ErrorCode::kIo, "node 0 at {} ended the start: {}; its own log says why", to_string(options.address),
                 frame.error().message);
  }
  ByteReader in(frame->bytes);
  if (frame->type == kRefusal) {
    int32_t code = 0;
    std::string message;
    in(code, message);
    return Error{in.complete() ? static_cast<ErrorCode>(code) : ErrorCode::kIo, message};
  }
  Meeting meeting;
  in(meeting.notes);
  if (frame->type != kWelcome || !in.complete() || std::ssize(meeting.notes) != options.nodes) {
    return error(ErrorCode::kIo, "what answers at {} is no hylas node", to_string(options.address));
  }
  meeting.links.resize(options.nodes);
  meeting.links[0] = std::move(link);
  return meeting;
}

}  // namespace

Status check_same(int32_t node, const Settings& its, const Settings& of_node_0) {
  for (size_t i = 0; i < std::max(its.size(), of_node_0.size()); ++i) {
    const std::pair<std::string, std::string> none;
    const auto& [name, value] = i < its.size() ? its[i] : none;
    const auto& [wanted_name, wanted] = i < of_node_0.size() ? of_node_0[i] : none;
    if (name != wanted_name) {
      return error(ErrorCode::kInvalid, "node {} states '{}' where node 0 states '{}': run the same hylas on all nodes",
                   node, name, wanted_name);
    }
    if (value != wanted) {
      return error(ErrorCode::kInvalid, "{} is {} on node {} and {} on node 0; all nodes need the same", name,
                   value.empty() ? "not set" : value, node, wanted.empty() ? "not set" : wanted);
    }
  }
  return {};
}

Result<Meeting> meet(const RendezvousOptions& options) { return options.node == 0 ? host(options) : visit(options); }

}  // namespace hylas
