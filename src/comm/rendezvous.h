#pragma once
// Rendezvous: how the processes of an instance find each other. Node 0 listens, the others connect to it; all tell what
// they were started with, and go on only if that agrees.
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/net.h"
#include "base/result.h"
#include "comm/tcp_link.h"

namespace hylas {

// Name and value of everything that must be the same on all nodes: "--page-size", "64".
using Settings = std::vector<std::pair<std::string, std::string>>;

struct RendezvousOptions {
  HostPort address;  // of node 0
  int32_t node = 0;
  int32_t nodes = 2;
  int64_t wait_us_max = 0;  // for all nodes to come
  uint32_t version = 0;     // of everything that nodes say to each other
  Settings settings;
  std::string note;  // for the other nodes, opaque
};

struct Meeting {
  // By node: node 0 has one to every other node, the others have one to node 0; the rest is null.
  std::vector<std::unique_ptr<TcpLink>> links;
  std::vector<std::string> notes;  // by node
};

// kInvalid: a node was started otherwise than node 0; every node that has come hears the same. kIo: nobody answers at
// `address`, or not all nodes came in time; says which. kUnavailable: a signal asked to stop.
Result<Meeting> meet(const RendezvousOptions& options);

// kInvalid with the first setting that differs, and both values.
Status check_same(int32_t node, const Settings& its, const Settings& of_node_0);

}  // namespace hylas
