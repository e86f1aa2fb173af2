#include "app/unavailable.h"

#include <CLI/CLI.hpp>

namespace hylas {
namespace {

constexpr const char* kAnyValue = nullptr;  // there is no value that asks for nothing
constexpr const char* kGroup = "Not in this build (refused with exit code 3)";

struct Unavailable {
  const char* names;
  const char* neutral;
  const char* part;
};

constexpr Unavailable kWithValue[] = {
    {"--speculative-algorithm,--speculative-algo", kAnyValue, "speculative decoding"},
    {"--speculative-num-steps", kAnyValue, "speculative decoding"},
    {"--speculative-eagle-topk", kAnyValue, "speculative decoding"},
    {"--speculative-num-draft-tokens", kAnyValue, "speculative decoding"},
    {"--speculative-draft-model-path", kAnyValue, "speculative decoding"},
};

std::string first_name(const char* names) {
  std::string all = names;
  return all.substr(0, all.find(','));
}

void refuse(std::optional<Error>& refused, const Unavailable& flag, const std::string& value) {
  if (refused) return;
  std::string hint = flag.neutral ? fmt::format("; leave it out or set it to {}", flag.neutral) : "; leave it out";
  refused = error(ErrorCode::kUnsupported, "{}{}{}: this build has no {} yet{}", first_name(flag.names),
                  value.empty() ? "" : " ", value, flag.part, hint);
}

}  // namespace

void add_unavailable_flags(CLI::App& command, std::optional<Error>& refused) {
  for (const Unavailable& flag : kWithValue) {
    CLI::callback_t take = [&flag, &refused](const CLI::results_t& values) {
      for (const std::string& value : values) {
        if (!flag.neutral || value != flag.neutral) refuse(refused, flag, value);
      }
      return true;
    };
    command.add_option(flag.names, take, std::string("Needs ") + flag.part)
        ->take_all()
        ->expected(1, CLI::detail::expected_max_vector_size)
        ->allow_extra_args()
        ->group(kGroup);
  }
}

}  // namespace hylas
