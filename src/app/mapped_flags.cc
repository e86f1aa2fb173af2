#include "app/mapped_flags.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>

namespace hylas {
namespace {

struct Mapped {
  const char* names;
  const char* instead;
};

constexpr Mapped kMapped[] = {
    {"--moe-a2a-backend", "with --ep-size > 1 tokens always travel to their experts and back, all to all"},
    {"--deepep-mode", "the exchange is the same for prefill and decode"},
    {"--disaggregation-transfer-backend", "states travel through UCX, over what it finds: RDMA, shared memory, TCP"},
};

}  // namespace

void add_mapped_flags(CLI::App& command, std::vector<std::string>& lines) {
  for (const Mapped& flag : kMapped) {
    CLI::callback_t take = [&flag, &lines](const CLI::results_t& values) {
      lines.push_back(fmt::format("{} {}: {}", flag.names, fmt::join(values, " "), flag.instead));
      return true;
    };
    command.add_option(flag.names, take, std::string("Has one answer here: ") + flag.instead)
        ->type_name("TEXT")
        ->take_all()
        ->expected(1, CLI::detail::expected_max_vector_size)
        ->allow_extra_args()
        ->group("Taken for SGLang's command lines");
  }
}

}  // namespace hylas
