#include "app/unavailable.h"

#include <CLI/CLI.hpp>

namespace hylas {
namespace {

constexpr const char* kSpeculative[] = {"--speculative-algorithm,--speculative-algo", "--speculative-num-steps",
                                        "--speculative-eagle-topk", "--speculative-num-draft-tokens",
                                        "--speculative-draft-model-path"};

std::string first_name(const char* names) {
  std::string all = names;
  return all.substr(0, all.find(','));
}

}  // namespace

void add_unavailable_flags(CLI::App& command, std::optional<Error>& refused) {
  for (const char* names : kSpeculative) {
    CLI::callback_t take = [names, &refused](const CLI::results_t& values) {
      if (refused) return true;
      refused = error(ErrorCode::kUnsupported, "{} {}: {}", first_name(names), values.front(), kNoSpeculation);
      return true;
    };
    command.add_option(names, take, "Needs speculative decoding")
        ->type_name("TEXT")
        ->take_all()
        ->expected(1, CLI::detail::expected_max_vector_size)
        ->allow_extra_args()
        ->group("Not in this build (refused with exit code 3)");
  }
}

}  // namespace hylas
