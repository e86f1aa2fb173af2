#pragma once
// One safetensors file: eight bytes of header length, a JSON header, tensor data. The header is not believed: every
// offset, size and shape in it is checked against the others and the file.
#include <cstddef>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "tensor/dtype.h"
#include "tensor/tensor.h"

namespace hylas {

struct TensorInfo {
  std::optional<DType> dtype;  // none: a type that hylas does not know; an error only for who needs the tensor
  std::string dtype_name;      // as in the header
  std::vector<int64_t> shape;
  int file = 0;       // index in the checkpoint's list of files
  size_t offset = 0;  // from the start of the file
  size_t bytes = 0;
};

using TensorMap = std::map<std::string, TensorInfo, std::less<>>;

// The tensors of a header. `head`: the file's first bytes, as many as there are or at least the whole header;
// `file_bytes`: the file's size; `where` names the file in errors. kInvalid says which rule the file breaks, and where.
Result<TensorMap> parse_safetensors_header(std::string_view head, size_t file_bytes, std::string_view where);

// A mapped file. Immutable: thread-safe. Views live as long as this does.
class SafetensorsFile {
 public:
  static Result<SafetensorsFile> open(const std::string& path);
  SafetensorsFile(SafetensorsFile&& other) noexcept;
  SafetensorsFile& operator=(SafetensorsFile&& other) noexcept;
  ~SafetensorsFile();

  const std::string& path() const { return path_; }
  const TensorMap& tensors() const { return tensors_; }
  std::byte* data() const { return data_; }  // of the whole file, read-only
  size_t bytes() const { return bytes_; }

 private:
  SafetensorsFile() = default;

  std::string path_;
  TensorMap tensors_;
  std::byte* data_ = nullptr;
  size_t bytes_ = 0;
};

// A view of `info`'s bytes in its mapped file. A scalar has shape [1]; of five or more dimensions those behind the
// third are merged into the fourth. kUnsupported: an unknown type.
Result<Tensor> tensor_view(const SafetensorsFile& file, const std::string& name, const TensorInfo& info);

}  // namespace hylas
