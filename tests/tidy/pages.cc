#include "tidy/pages.h"

#include <fmt/format.h>

#include <filesystem>
#include <functional>
#include <regex>

namespace hylas::tidy {
namespace {

// Calls `found` with the match and its line for every match of `pattern`.
void each_match(const std::string& text, const std::regex& pattern,
                const std::function<void(const std::smatch&, int)>& found) {
  for (std::sregex_iterator at(text.begin(), text.end(), pattern), end; at != end; ++at) {
    found(*at, line_of(text, static_cast<size_t>(at->position(0))));
  }
}

bool begins_a_file(const std::set<std::string>& files, const std::string& start) {
  const auto next = files.lower_bound(start);
  return next != files.end() && next->starts_with(start);
}

// As a path, from src/, or the last part of one.
bool is_source(const std::set<std::string>& files, const std::string& name) {
  for (const std::string& file : files) {
    if (file == name || file.ends_with("/" + name)) return true;
  }
  return false;
}

std::set<std::string> anchors_of(const std::string& text) {
  std::set<std::string> anchors;
  for (const std::string& line : split_lines(text)) {
    const size_t begin = line.find_first_not_of('#');
    if (begin == 0 || begin == std::string::npos || line[begin] != ' ') continue;
    anchors.insert(anchor_of(std::string_view(line).substr(begin + 1)));
  }
  return anchors;
}

const Page* find_page(const Named& named, const std::string& path) {
  for (const Page& page : named.pages) {
    if (page.path == path) return &page;
  }
  return nullptr;
}

}  // namespace

std::string anchor_of(std::string_view heading) {
  std::string anchor;
  for (const char c : heading) {
    if (c == ' ') anchor += '-';
    if (is_word_character(c) || c == '-') anchor += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  return anchor;
}

Findings check_links(const Page& page, const Named& named) {
  static const std::regex kLink(R"(\]\(([^)\s#]*)(#([^)\s]*))?\))");
  Findings findings;
  each_match(page.text, kLink, [&](const std::smatch& match, int line) {
    const std::string link = match[1];
    if (link.find("://") != std::string::npos) return;
    const auto beside = std::filesystem::path(page.path).parent_path() / link;
    const std::string target = link.empty() ? page.path : beside.lexically_normal().string();
    const bool is_folder = begins_a_file(named.files, target + "/");
    if (named.files.count(target) == 0 && !is_folder) {
      findings.push_back({page.path, line, fmt::format("the link leads to {}, which is not there", target)});
    } else if (const Page* other = find_page(named, target);
               match[2].matched && (!other || anchors_of(other->text).count(match[3]) == 0)) {
      findings.push_back({page.path, line, fmt::format("{} has no heading #{}", target, match[3].str())});
    }
  });
  return findings;
}

Findings check_paths(const Page& page, const Named& named) {
  // A path ends before a part that stands for others: <name>, {a,b}, NAME, *.
  static const std::regex kPath(
      R"((^|[^\w/.-])((src|tests|docs|bench|scripts|tools|fuzz|cmake|models|\.ci)/([a-z0-9_.-]+/)*[a-z0-9_.-]*))");
  static const std::regex kSource(R"((^|[^\w/.>}*-])([\w/-]+\.(h|cc|cu|cuh|py|sh|cmake))\b)");
  Findings findings;
  each_match(page.text, kPath, [&](const std::smatch& match, int line) {
    std::string path = match[2];
    while (path.ends_with('.')) path.pop_back();
    if (begins_a_file(named.files, path)) return;
    findings.push_back({page.path, line, fmt::format("there is no {}", path)});
  });
  each_match(page.text, kSource, [&](const std::smatch& match, int line) {
    if (is_source(named.files, match[2])) return;
    findings.push_back({page.path, line, fmt::format("there is no {}", match[2].str())});
  });
  return findings;
}

Findings check_commands(const Page& page, const Named& named) {
  static const std::regex kMake(R"((^|\n|`)make ([a-z][a-z-]*))");
  static const std::regex kProgram(R"(build/[a-z]+/test_([a-z]+))");
  static const std::regex kFilter(R"(--gtest_filter='([^']*)')");
  static const std::regex kWord(R"([A-Z]\w*)");  // of suites and tests; parameters' names are made when tests run
  Findings findings;
  each_match(page.text, kMake, [&](const std::smatch& match, int line) {
    if (("\n" + named.makefile).find("\n" + match[2].str() + ":") != std::string::npos) return;
    const bool at_mark = match[1] == "\n";
    findings.push_back({page.path, line + at_mark, fmt::format("make has no target {}", match[2].str())});
  });
  each_match(page.text, kProgram, [&](const std::smatch& match, int line) {
    if (begins_a_file(named.files, fmt::format("tests/{}/", match[1].str()))) return;
    findings.push_back({page.path, line, fmt::format("there is no test_{}", match[1].str())});
  });
  each_match(page.text, kFilter, [&](const std::smatch& match, int line) {
    each_match(match[1], kWord, [&](const std::smatch& word, int) {
      if (named.tests.find(word.str()) != std::string::npos) return;
      findings.push_back({page.path, line, fmt::format("no test is called {}", word.str())});
    });
  });
  return findings;
}

}  // namespace hylas::tidy
