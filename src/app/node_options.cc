#include "app/node_options.h"

#include <CLI/CLI.hpp>
#include <charconv>
#include <string_view>

namespace hylas {
namespace {

constexpr int kDefaultPort = 20000;

int number_of(const char* text) {
  int value = 0;
  if (text) std::from_chars(text, text + std::string_view(text).size(), value);
  return value;
}

// "gpu[03-07,12],login1" -> "gpu03": the first host of a Slurm list.
std::string first_host(std::string_view list) {
  const size_t end = list.find_first_of(",[");
  std::string host(list.substr(0, end));
  if (end == std::string_view::npos || list[end] == ',') return host;
  const std::string_view numbers = list.substr(end + 1);
  return host + std::string(numbers.substr(0, numbers.find_first_of(",-]")));
}

}  // namespace

void add_node_options(CLI::App& command, EngineOptions& engine) {
  constexpr const char* kGroup = "Several nodes (one process on each, with the same flags; node 0 serves HTTP)";
  command.add_option("--nnodes", engine.parallel.nodes, "Nodes that the stages are spread over; divides pp")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str()
      ->group(kGroup);
  command.add_option("--node-rank", engine.node_rank, "Which of the nodes this is, from 0")
      ->check(CLI::Range(0, 4095))
      ->capture_default_str()
      ->group(kGroup);
  command.add_option("--dist-init-addr", engine.dist_init_addr, "host:port of node 0, for the nodes to meet")
      ->group(kGroup);
  command.add_option("--dist-timeout", engine.dist_timeout_s, "Seconds to wait for all nodes to come")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str()
      ->group(kGroup);
}

std::vector<NodeDefault> node_defaults(const std::function<const char*(const char*)>& get) {
  std::vector<NodeDefault> defaults;
  const auto add = [&](const char* flag, const char* source, const std::string& value) {
    if (!value.empty()) defaults.push_back({flag, value, source});
  };
  const auto copy = [&](const char* flag, const char* source) {
    const char* value = get(source);
    add(flag, source, value ? value : "");
  };
  const auto address = [](const std::string& host) {
    return host.empty() ? "" : fmt::format("{}:{}", host, kDefaultPort);
  };
  if (number_of(get("LWS_GROUP_SIZE")) > 1) {
    copy("nnodes", "LWS_GROUP_SIZE");
    copy("node-rank", "LWS_WORKER_INDEX");
    const char* leader = get("LWS_LEADER_ADDRESS");
    add("dist-init-addr", "LWS_LEADER_ADDRESS", address(leader ? leader : ""));
  } else if (const int nodes = number_of(get("SLURM_STEP_NUM_NODES"));
             nodes > 1 && number_of(get("SLURM_STEP_NUM_TASKS")) == nodes) {
    copy("nnodes", "SLURM_STEP_NUM_NODES");
    copy("node-rank", "SLURM_NODEID");
    const char* list = get("SLURM_STEP_NODELIST");
    add("dist-init-addr", "SLURM_STEP_NODELIST", address(list ? first_host(list) : ""));
  } else if (number_of(get("OMPI_COMM_WORLD_SIZE")) > 1 && number_of(get("OMPI_COMM_WORLD_LOCAL_SIZE")) == 1) {
    copy("nnodes", "OMPI_COMM_WORLD_SIZE");
    copy("node-rank", "OMPI_COMM_WORLD_RANK");
  }
  return defaults;
}

}  // namespace hylas
