#pragma once
// Checkpoint: the safetensors files of a model directory, mapped into memory. Opening reads the headers only.
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "tensor/tensor.h"
#include "weights/safetensors.h"

namespace hylas {

// Called from the prefetching thread with the bytes that are in memory so far, and all that will be.
using LoadProgress = std::function<void(size_t done_bytes, size_t total_bytes)>;

// Immutable: thread-safe. Views live as long as this does.
class Checkpoint {
 public:
  // model.safetensors, or the shards of model.safetensors.index.json. kNotFound: neither is there, or the index names
  // an absent file. kInvalid: a file contradicts itself, its size or the index (names the file and the tensor).
  static Result<std::unique_ptr<Checkpoint>> open(const std::string& dir);

  // A tensor by its name in the released files; nullptr if it is not there. In a checkpoint saved without its outer
  // module ("language_model.layers..", "layers..") text tensors are found by their released names too.
  const TensorInfo* find(std::string_view name) const;
  // kNotFound names the tensor and the directory; kUnsupported its type.
  Result<Tensor> view(std::string_view name) const;

  const std::string& dir() const { return dir_; }
  const TensorMap& tensors() const { return tensors_; }
  std::vector<std::string> names() const;
  size_t bytes_total() const;  // of all tensors
  const SafetensorsFile& file(int index) const { return files_[index]; }

 private:
  Checkpoint() = default;
  Status open_files(const std::vector<std::string>& files);
  void find_text_prefix();

  std::string dir_;
  std::vector<SafetensorsFile> files_;
  TensorMap tensors_;
  std::string text_prefix_;  // in front of "embed_tokens.weight", as stored
};

// Brings mapped bytes into memory, front to back, so that the first request does not wait for the disk.
void prefetch(std::span<const std::span<const std::byte>> pieces, const LoadProgress& progress);

}  // namespace hylas
