#pragma once
// Flags of SGLang's whose part this build does not have. They are known, so that a command line fails with the reason
// and not with "unknown flag".
#include <optional>

#include "base/result.h"

namespace CLI {
class App;
}

namespace hylas {

inline constexpr const char* kNoSpeculation =
    "this build has no speculative decoding yet; leave out all --speculative flags";

// The first refused flag goes to `refused`, as kUnsupported.
void add_unavailable_flags(CLI::App& command, std::optional<Error>& refused);

}  // namespace hylas
