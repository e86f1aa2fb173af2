#include "app/model_path.h"

#include <algorithm>
#include <filesystem>
#include <vector>

namespace hylas {
namespace {

namespace fs = std::filesystem;

// share/hylas/configs beside the program's bin folder, and models/configs above a build folder in the source tree.
std::vector<fs::path> config_folders() {
  std::error_code ignored;
  fs::path program = fs::read_symlink("/proc/self/exe", ignored).parent_path();
  std::vector<fs::path> folders{program / "../share/hylas/configs", program / "../../models/configs", "models/configs"};
  return folders;
}

std::string lower(std::string text) {
  for (char& c : text) c = char(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

}  // namespace

Result<std::string> find_model(const std::string& name) {
  std::string known;
  std::error_code ignored;
  for (const fs::path& folder : config_folders()) {
    fs::path found = folder / lower(name);
    if (!name.empty() && fs::exists(found / "config.json", ignored))
      return fs::weakly_canonical(found, ignored).string();
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder, ignored)) {
      if (fs::exists(entry.path() / "config.json", ignored)) names.push_back(entry.path().filename());
    }
    std::ranges::sort(names);
    for (const std::string& one : names) known += " " + one;
    if (!names.empty()) break;
  }
  return error(ErrorCode::kNotFound, "--model {}: no such model; there are:{}", name, known.empty() ? " none" : known);
}

}  // namespace hylas
