// The rules on the repository itself: what git tracks, and what it would track.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdio.h>

#include <filesystem>
#include <fstream>
#include <regex>
#include <set>
#include <sstream>

#include "tidy/pages.h"
#include "tidy/rules.h"

namespace hylas::tidy {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> tracked_files() {
  std::string command = "git -C '" HYLAS_SOURCE_DIR "' ls-files --cached --others --exclude-standard";
  FILE* pipe = popen(command.c_str(), "r");
  std::string text;
  char block[4096];
  for (size_t got; (got = fread(block, 1, sizeof block, pipe)) > 0;) text.append(block, got);
  EXPECT_EQ(pclose(pipe), 0) << command;
  std::vector<std::string> files;
  for (auto& path : split_lines(text)) {
    if (fs::is_regular_file(fs::path(HYLAS_SOURCE_DIR) / path)) files.push_back(path);
  }
  return files;
}

std::string read(const std::string& path) {
  std::ifstream file(fs::path(HYLAS_SOURCE_DIR) / path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

const std::vector<Source>& sources() {
  static const std::vector<Source> kSources = [] {
    static const std::regex kCode(".*\\.(h|cc|cu|cuh)");
    std::vector<Source> found;
    for (const auto& path : tracked_files()) {
      if (std::regex_match(path, kCode)) found.emplace_back(path, read(path));
    }
    return found;
  }();
  return kSources;
}

void expect_none(const std::string& findings) { EXPECT_TRUE(findings.empty()) << findings; }

void expect_kept(Findings (*rule)(const Source&)) {
  std::string all;
  for (const Source& source : sources()) all += to_string(rule(source));
  expect_none(all);
}

TEST(Repository, HasSources) { EXPECT_GT(sources().size(), 20u); }

Floors floors() { return parse_floors(read("src/floors.txt")); }

TEST(Repository, KeepsItsFloors) {
  std::string all;
  for (const Source& source : sources()) all += to_string(check_floors(source, floors()));
  expect_none(all);
}

TEST(Repository, OrdersItsFloorsAsTheArchitectureSays) {
  Floors allowed = floors();
  std::set<std::string> seen;
  for (const std::string& line : split_lines(read("src/floors.txt"))) {
    if (line[0] == '#') continue;
    std::string floor = line.substr(0, line.find(':'));
    for (const auto& lower : allowed[floor])
      EXPECT_EQ(seen.count(lower), 1u) << floor << " includes upwards: " << lower;
    seen.insert(floor);
  }
  EXPECT_EQ(allowed["text"], (std::set<std::string>{"base"}));
  EXPECT_EQ(allowed["serve"], (std::set<std::string>{"base", "engine", "text"})) << "serve never sees a tensor";
  EXPECT_EQ(allowed["model"].count("text"), 0u);
  EXPECT_EQ(allowed["transfer"].count("model") + allowed["transfer"].count("engine"), 0u);
}

TEST(Repository, KeepsItsLengths) { expect_kept(check_lengths); }
TEST(Repository, GuardsItsHeaders) { expect_kept(check_pragma_once); }
TEST(Repository, KeepsItsCodeRules) { expect_kept(check_code); }
TEST(Repository, CompilesEveryFile) { expect_kept(check_place); }
TEST(Repository, HasNoDeadHeaders) { expect_none(to_string(check_includes(sources()))); }

TEST(Repository, HasNoUnfinishedText) {
  static const std::regex kText(".*\\.(h|cc|cu|cuh|py|sh|md|cmake|txt|yml|in)|Makefile|\\.ci/run");
  std::string all;
  for (const auto& path : tracked_files()) {
    if (std::regex_match(path, kText)) all += to_string(check_words(path, read(path)));
  }
  expect_none(all);
}

Named named_by_pages() {
  Named named;
  named.makefile = read("Makefile");
  for (const auto& path : tracked_files()) {
    named.files.insert(path);
    if (path.ends_with(".md")) named.pages.push_back({path, read(path)});
  }
  for (const Source& source : sources()) {
    if (source.path.starts_with("tests/")) named.tests += source.code;
  }
  return named;
}

TEST(Repository, HasWhatItsPagesName) {
  const Named named = named_by_pages();
  EXPECT_GT(named.pages.size(), 10u);
  std::string all;
  for (const Page& page : named.pages) {
    for (auto* rule : {check_links, check_paths, check_commands}) all += to_string(rule(page, named));
  }
  for (const std::string& path : named.files) {
    if (path.ends_with(".sh") || path == ".ci/run") all += to_string(check_commands({path, read(path)}, named));
  }
  expect_none(all);
}

TEST(Repository, HoldsNoLargeFile) {
  for (const auto& path : tracked_files()) {
    EXPECT_LE(fs::file_size(fs::path(HYLAS_SOURCE_DIR) / path), kFileBytesMax) << path;
  }
}

}  // namespace
}  // namespace hylas::tidy
