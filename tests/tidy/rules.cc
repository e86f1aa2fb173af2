#include "tidy/rules.h"

#include <fmt/format.h>

#include <algorithm>
#include <regex>
#include <sstream>

#include "tidy/functions.h"

namespace hylas::tidy {
namespace {

// Words that no text of the project holds, whole and in this case. Written in two halves, so that this list passes.
constexpr const char* kForbiddenWords[] = {
    "TO"
    "DO",
    "FIX"
    "ME",
    "X"
    "XX",
    "HA"
    "CK",
    "for"
    " now",
    "work in"
    " progress",
    "not yet"
    " implemented"};

bool starts_with(std::string_view text, std::string_view prefix) { return text.substr(0, prefix.size()) == prefix; }
bool ends_with(std::string_view text, std::string_view end) {
  return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

bool is_header(std::string_view path) { return ends_with(path, ".h") || ends_with(path, ".cuh"); }

// "ops" of "src/ops/cpu/norm.cc" for prefix "src/"; empty elsewhere.
std::string folder_after(std::string_view path, std::string_view prefix) {
  if (!starts_with(path, prefix)) return {};
  path.remove_prefix(prefix.size());
  size_t slash = path.find('/');
  return slash == std::string_view::npos ? std::string() : std::string(path.substr(0, slash));
}

std::string stem(std::string_view path) { return std::string(path.substr(0, path.rfind('.'))); }

}  // namespace

Floors parse_floors(std::string_view text) {
  Floors floors;
  for (const std::string& line : split_lines(text)) {
    size_t colon = line.find(':');
    if (line.empty() || line[0] == '#' || colon == std::string::npos) continue;
    auto& allowed = floors[line.substr(0, colon)];
    std::istringstream names(line.substr(colon + 1));
    for (std::string name; names >> name;) allowed.insert(name);
  }
  return floors;
}

Findings check_floors(const Source& source, const Floors& floors) {
  Findings findings;
  std::string floor = folder_after(source.path, "src/");
  if (floor.empty()) return findings;
  auto allowed = floors.find(floor);
  if (allowed == floors.end()) return {{source.path, 0, fmt::format("src/{} is no floor", floor)}};
  for (const Include& include : source.includes) {
    std::string target = folder_after(include.path, "");
    if (target == floor || allowed->second.count(target) > 0) continue;
    findings.push_back({source.path, include.line, fmt::format("{} may not include \"{}\"", floor, include.path)});
  }
  return findings;
}

Findings check_lengths(const Source& source) {
  Findings findings;
  if (int(source.lines.size()) > kFileLinesMax) {
    auto message = fmt::format("the file has {} lines; at most {}", source.lines.size(), kFileLinesMax);
    findings.push_back({source.path, 0, message});
  }
  for (const Function& function : find_functions(source.code)) {
    if (function.lines() <= kFunctionLinesMax) continue;
    auto message = fmt::format("the function has {} lines; at most {}", function.lines(), kFunctionLinesMax);
    findings.push_back({source.path, function.first_line, message});
  }
  for (size_t i = 0; i < source.lines.size(); ++i) {
    size_t columns = width(source.lines[i]);
    if (columns <= kColumnsMax) continue;
    findings.push_back({source.path, int(i) + 1, fmt::format("{} columns; at most {}", columns, kColumnsMax)});
  }
  return findings;
}

Findings check_pragma_once(const Source& source) {
  bool found = std::find(source.lines.begin(), source.lines.end(), "#pragma once") != source.lines.end();
  if (found == is_header(source.path)) return {};
  return {{source.path, 0, found ? "#pragma once in a file that is no header" : "the header lacks #pragma once"}};
}

Findings check_code(const Source& source) {
  static const std::regex kUsingNamespace("\\busing\\s+namespace\\b");
  Findings findings;
  size_t tab = source.text.find('\t');
  if (tab != std::string::npos) findings.push_back({source.path, line_of(source.text, tab), "a tab"});
  std::smatch match;
  if (std::regex_search(source.code, match, kUsingNamespace)) {
    findings.push_back({source.path, line_of(source.code, size_t(match.position(0))), "`using namespace`"});
  }
  bool may_read_environment =
      !starts_with(source.path, "src/") || starts_with(source.path, "src/app/") || stem(source.path) == "src/base/log";
  for (const char* name : {"getenv", "secure_getenv"}) {
    size_t at = find_word(source.code, name);
    if (at == std::string::npos || may_read_environment) continue;
    findings.push_back({source.path, line_of(source.code, at), "the environment is read outside src/app and base/log"});
  }
  return findings;
}

Findings check_place(const Source& source) {
  static const std::regex kPlaces(
      "src/[a-z_]+/.+\\.(h|cc|cu|cuh)|src/app/[^/]+\\.(h|cc)|tests/[a-z_]+/[^/]+\\.(h|cc)|"
      "fuzz/[^/]+(_fuzz\\.cc|\\.h)|bench/[^/]+(_bench\\.cc|\\.h)");
  bool deep_app = starts_with(source.path, "src/app/") && source.path.find('/', 8) != std::string::npos;
  if (std::regex_match(source.path, kPlaces) && !deep_app) return {};
  return {{source.path, 0, "no target of CMakeLists.txt compiles a file in this place"}};
}

Findings check_words(std::string_view path, std::string_view text) {
  Findings findings;
  for (const char* word : kForbiddenWords) {
    size_t at = find_word(text, word);
    if (at == std::string_view::npos) continue;
    findings.push_back({std::string(path), line_of(text, at), fmt::format("the word '{}'", word)});
  }
  return findings;
}

Findings check_includes(const std::vector<Source>& sources) {
  std::set<std::string> existing, included;
  for (const Source& source : sources) existing.insert(source.path);
  Findings findings;
  for (const Source& source : sources) {
    for (const Include& include : source.includes) {
      bool found = false;
      for (const char* root : {"src/", "tests/", "bench/", "fuzz/"}) {
        std::string target = root + include.path;
        if (existing.count(target) == 0) continue;
        found = true;
        if (stem(target) != stem(source.path)) included.insert(target);
      }
      if (!found) findings.push_back({source.path, include.line, fmt::format("no file \"{}\"", include.path)});
    }
  }
  for (const Source& source : sources) {
    if (!is_header(source.path) || included.count(source.path) > 0) continue;
    findings.push_back({source.path, 0, "a dead header: only its own .cc includes it, if anything"});
  }
  return findings;
}

std::string to_string(const Findings& findings) {
  std::string text;
  for (const Finding& finding : findings)
    text += fmt::format("{}:{}: {}\n", finding.path, finding.line, finding.message);
  return text;
}

}  // namespace hylas::tidy
