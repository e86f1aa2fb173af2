#pragma once
// Flags of SGLang's that choose among implementations of something which hylas has one of: taken, so that a command
// line keeps working, and answered with a line on what hylas does instead.
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace hylas {

// What was given, as lines for the log, goes to `lines`.
void add_mapped_flags(CLI::App& command, std::vector<std::string>& lines);

}  // namespace hylas
