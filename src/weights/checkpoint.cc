#include "weights/checkpoint.h"

#include <filesystem>
#include <set>

#include "base/text_file.h"
#include "weights/checkpoint_index.h"

namespace hylas {
namespace {

constexpr char kSingleFile[] = "model.safetensors";
constexpr char kIndexFile[] = "model.safetensors.index.json";
constexpr std::string_view kEmbedding = "embed_tokens.weight";
constexpr std::string_view kReleasedPrefixes[] = {"model.language_model.", "model."};

std::string join(const std::string& dir, const std::string& file) {
  return (std::filesystem::path(dir) / file).string();
}

}  // namespace

Status Checkpoint::open_files(const std::vector<std::string>& files) {
  for (const std::string& name : files) {
    Result<SafetensorsFile> file = SafetensorsFile::open(join(dir_, name));
    if (!file.ok()) return file.error();
    for (const auto& [tensor, info] : file->tensors()) {
      const auto [entry, inserted] = tensors_.emplace(tensor, info);
      if (!inserted) {
        return error(ErrorCode::kInvalid, "{}: tensor `{}` is in {} and in {}", dir_, tensor, files[entry->second.file],
                     name);
      }
      entry->second.file = static_cast<int>(files_.size());
    }
    files_.push_back(std::move(*file));
  }
  return {};
}

// Every tensor of the index is in the file that it names.
static Status check_index(const std::map<std::string, std::string>& index, const std::string& where,
                          const Checkpoint& checkpoint) {
  for (const auto& [tensor, file] : index) {
    const TensorInfo* info = checkpoint.find(tensor);
    const std::string path = join(checkpoint.dir(), file);
    if (!info || checkpoint.file(info->file).path() != path) {
      return error(ErrorCode::kInvalid, "{}: tensor `{}` is not in {}, where the index says it is", where, tensor,
                   file);
    }
  }
  return {};
}

Result<std::unique_ptr<Checkpoint>> Checkpoint::open(const std::string& dir) {
  std::unique_ptr<Checkpoint> checkpoint(new Checkpoint());
  checkpoint->dir_ = dir;
  std::error_code code;
  const std::string index_path = join(dir, kIndexFile);
  if (std::filesystem::exists(join(dir, kSingleFile), code)) {
    HYLAS_TRY(checkpoint->open_files({kSingleFile}));
  } else if (std::filesystem::exists(index_path, code)) {
    HYLAS_ASSIGN(const std::string text, read_text_file(index_path));
    HYLAS_ASSIGN(const auto index, parse_checkpoint_index(text, index_path));
    std::set<std::string> files;
    for (const auto& [tensor, file] : index) {
      if (files.insert(file).second && !std::filesystem::exists(join(dir, file), code)) {
        return error(ErrorCode::kNotFound, "{}: tensor `{}` is in {}, but there is no such file", index_path, tensor,
                     file);
      }
    }
    HYLAS_TRY(checkpoint->open_files({files.begin(), files.end()}));
    HYLAS_TRY(check_index(index, index_path, *checkpoint));
  } else {
    return error(ErrorCode::kNotFound, "{}: there is neither {} nor {}", dir, kSingleFile, kIndexFile);
  }
  checkpoint->find_text_prefix();
  return checkpoint;
}

void Checkpoint::find_text_prefix() {
  text_prefix_ = kReleasedPrefixes[0];
  for (const auto& [name, info] : tensors_) {
    if (name.ends_with(kEmbedding) && !name.starts_with("mtp.")) {
      text_prefix_ = name.substr(0, name.size() - kEmbedding.size());
    }
  }
}

const TensorInfo* Checkpoint::find(std::string_view name) const {
  auto found = tensors_.find(name);
  if (found != tensors_.end()) return &found->second;
  for (const std::string_view prefix : kReleasedPrefixes) {
    if (!name.starts_with(prefix)) continue;
    found = tensors_.find(text_prefix_ + std::string(name.substr(prefix.size())));
    if (found != tensors_.end()) return &found->second;
  }
  return nullptr;
}

Result<Tensor> Checkpoint::view(std::string_view name) const {
  const TensorInfo* info = find(name);
  if (!info) return error(ErrorCode::kNotFound, "{}: tensor `{}` is missing", dir_, name);
  return tensor_view(files_[info->file], std::string(name), *info);
}

std::vector<std::string> Checkpoint::names() const {
  std::vector<std::string> names;
  for (const auto& [name, info] : tensors_) names.push_back(name);
  return names;
}

size_t Checkpoint::bytes_total() const {
  size_t total = 0;
  for (const auto& [name, info] : tensors_) total += info.bytes;
  return total;
}

}  // namespace hylas
