#pragma once
// What the pages (Markdown files) say of the repository: links, paths, targets of make and tests that are there.
#include <set>
#include <string>
#include <vector>

#include "tidy/rules.h"

namespace hylas::tidy {

struct Page {
  std::string path;  // from the repository's root
  std::string text;
};

// What pages may name.
struct Named {
  std::vector<Page> pages;
  std::set<std::string> files;  // paths from the repository's root
  std::string makefile;
  std::string tests;  // all of their sources
};

// The anchor that a heading gets: "What a step takes" -> "what-a-step-takes".
std::string anchor_of(std::string_view heading);

// Links within the repository lead to a file or folder, and their anchors to a heading.
Findings check_links(const Page& page, const Named& named);
// Paths below a folder of ours, and names of sources, are those of files.
Findings check_paths(const Page& page, const Named& named);
// `make TARGET`, build/.../test_FOLDER and --gtest_filter name what there is. Of scripts, too.
Findings check_commands(const Page& page, const Named& named);

}  // namespace hylas::tidy
