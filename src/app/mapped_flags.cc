#include "app/mapped_flags.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>

namespace hylas {
namespace {

struct Mapped {
  const char* names;
  const char* instead;
  bool takes_values = true;
};

constexpr Mapped kMapped[] = {
    {"--moe-a2a-backend", "with --ep-size > 1 tokens always travel to their experts and back, all to all"},
    {"--deepep-mode", "the exchange is the same for prefill and decode"},
    {"--disaggregation-transfer-backend", "states travel through UCX, over what it finds: RDMA, shared memory, TCP"},
    {"--attention-backend", "decode has kernels of its own; --prefill-attention-backend chooses those of prompts"},
    {"--sampling-backend", "tokens are drawn where the logits are"},
    {"--grammar-backend", "grammars are xgrammar's"},
    {"--trust-remote-code", "no code of a checkpoint is run: the architecture is known", false},
    {"--skip-server-warmup", "a server is ready when it says so, and makes no request of its own", false},
};

}  // namespace

void add_mapped_flags(CLI::App& command, std::vector<std::string>& lines) {
  for (const Mapped& flag : kMapped) {
    constexpr const char* kGroup = "Taken for SGLang's command lines";
    const std::string help = std::string("Has one answer here: ") + flag.instead;
    if (!flag.takes_values) {
      const auto take = [&flag, &lines](int64_t) { lines.push_back(fmt::format("{}: {}", flag.names, flag.instead)); };
      command.add_flag_function(flag.names, take, help)->group(kGroup);
      continue;
    }
    CLI::callback_t take = [&flag, &lines](const CLI::results_t& values) {
      lines.push_back(fmt::format("{} {}: {}", flag.names, fmt::join(values, " "), flag.instead));
      return true;
    };
    command.add_option(flag.names, take, help)
        ->type_name("TEXT")
        ->take_all()
        ->expected(1, CLI::detail::expected_max_vector_size)
        ->allow_extra_args()
        ->group(kGroup);
  }
}

}  // namespace hylas
