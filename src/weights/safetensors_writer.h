#pragma once
// Writes safetensors files: `hylas logits --out`, `hylas quantize`, tests.
#include <cstddef>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "tensor/tensor.h"

namespace hylas {

struct OutputTensor {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  size_t bytes() const {
    size_t product = dtype_bytes(dtype);
    for (const int64_t dim : shape) product *= static_cast<size_t>(dim);
    return product;
  }
};

// Tensors may be written in any order, in memory only one at a time. The file appears under its name when finish() has
// succeeded; otherwise nothing is left behind. Layout as Hugging Face's writer: header padded to 8 bytes, tensors in
// order of element size (largest first), then name, so that all are aligned. Not thread-safe.
class SafetensorsWriter {
 public:
  // kIo names the path. Names must differ (HYLAS_CHECK).
  static Result<SafetensorsWriter> create(const std::string& path, const std::vector<OutputTensor>& tensors);
  SafetensorsWriter(SafetensorsWriter&& other) noexcept { *this = std::move(other); }
  SafetensorsWriter& operator=(SafetensorsWriter&& other) noexcept;
  ~SafetensorsWriter();

  // All bytes of one of the tensors, once.
  Status write(const std::string& name, std::span<const std::byte> data);
  // After the last write().
  Status finish();

 private:
  struct Place {
    size_t offset = 0;
    size_t bytes = 0;
  };
  SafetensorsWriter() = default;
  Status write_at(size_t offset, const void* data, size_t bytes);

  std::string path_, temporary_;
  std::map<std::string, Place> open_;  // not written yet
  int descriptor_ = -1;
};

// A whole file of contiguous tensors.
Status write_safetensors(const std::string& path, const std::vector<std::pair<std::string, Tensor>>& tensors);

}  // namespace hylas
