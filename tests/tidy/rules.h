#pragma once
// The project's rules for its own sources. Each rule returns what it found; an empty list is a pass.
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "tidy/source.h"

namespace hylas::tidy {

struct Finding {
  std::string path;
  int line = 0;  // from 1; 0 is the file as a whole
  std::string message;
};
using Findings = std::vector<Finding>;

constexpr int kFileLinesMax = 400;
constexpr int kFunctionLinesMax = 70;
constexpr size_t kColumnsMax = 120;
constexpr size_t kFileBytesMax = 15'000'000;

// Floor -> the floors whose headers it may include. From text as in src/floors.txt: "ops: base tensor", '#' comments.
using Floors = std::map<std::string, std::set<std::string>>;
Floors parse_floors(std::string_view text);

// On one file of C++ or CUDA.
Findings check_floors(const Source& source,
                      const Floors& floors);       // src/<floor>/ includes its own floor and those it may know
Findings check_lengths(const Source& source);      // file, functions, lines
Findings check_pragma_once(const Source& source);  // every header has it, and no .cc
Findings check_code(const Source& source);         // tabs, `using namespace`, getenv outside src/app and base/log
Findings check_place(const Source& source);        // the build compiles what lies there

// On any text file: words that say that something is unfinished.
Findings check_words(std::string_view path, std::string_view text);

// On all C++ and CUDA files together: quoted includes name files that exist, and every header is included by a file
// other than its own .cc.
Findings check_includes(const std::vector<Source>& sources);

// One finding a line, for messages: "path:line: message".
std::string to_string(const Findings& findings);

}  // namespace hylas::tidy
