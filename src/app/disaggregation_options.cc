#include "app/disaggregation_options.h"

#include <CLI/CLI.hpp>
#include <map>
#include <string>

namespace hylas {

void add_disaggregation_options(CLI::App& command, EngineOptions& engine) {
  constexpr const char* kGroup = "Prefill and decode on different instances (with hylas router in front)";
  static const std::map<std::string, InstanceRole> kRoles = {
      {"null", InstanceRole::kWhole}, {"prefill", InstanceRole::kPrefill}, {"decode", InstanceRole::kDecode}};
  CLI::IsMember names(std::vector<std::string>{"null", "prefill", "decode"});
  const auto take = [&engine](const std::string& name) { engine.role = kRoles.at(name); };
  command
      .add_option_function<std::string>(
          "--disaggregation-mode", take,
          "null: whole requests; prefill: prompts, whose state goes to a decoding instance; decode: the rest")
      ->check(names)
      ->default_str("null")
      ->group(kGroup);
  command
      .add_option("--disaggregation-bootstrap-port", engine.bootstrap.port,
                  "prefill: where decoding instances connect, on --host; 0: any free port")
      ->check(CLI::Range(0, 65535))
      ->capture_default_str()
      ->group(kGroup);
  command
      .add_option("--disaggregation-ib-device", engine.transfer_devices,
                  "Network devices that states travel over: mlx5_1,mlx5_2; empty: UCX chooses")
      ->group(kGroup);
  command
      .add_option("--disaggregation-secret", engine.disaggregation_secret,
                  "Both kinds of instances must be started with the same; better by HYLAS_DISAGGREGATION_SECRET")
      ->group(kGroup);
}

}  // namespace hylas
