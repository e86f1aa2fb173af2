#include "weights/safetensors.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace hylas {

Result<SafetensorsFile> SafetensorsFile::open(const std::string& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) {
    const ErrorCode code = errno == ENOENT ? ErrorCode::kNotFound : ErrorCode::kIo;
    return error(code, "{}: {}", path, std::strerror(errno));
  }
  SafetensorsFile file;
  file.path_ = path;
  struct stat status = {};
  void* memory = MAP_FAILED;
  const bool regular = fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode);
  if (regular && status.st_size > 0) {
    memory = mmap(nullptr, static_cast<size_t>(status.st_size), PROT_READ, MAP_SHARED, descriptor, 0);
  }
  const int failure = errno;
  close(descriptor);
  if (!regular) return error(ErrorCode::kIo, "{}: not a file", path);
  if (status.st_size > 0) {
    if (memory == MAP_FAILED) return error(ErrorCode::kIo, "{}: cannot be mapped: {}", path, std::strerror(failure));
    file.data_ = static_cast<std::byte*>(memory);
    file.bytes_ = static_cast<size_t>(status.st_size);
  }
  const std::string_view head(reinterpret_cast<const char*>(file.data_), file.bytes_);
  HYLAS_ASSIGN(file.tensors_, parse_safetensors_header(head, file.bytes_, path));
  return file;
}

SafetensorsFile::SafetensorsFile(SafetensorsFile&& other) noexcept { *this = std::move(other); }

SafetensorsFile& SafetensorsFile::operator=(SafetensorsFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(tensors_, other.tensors_);
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

SafetensorsFile::~SafetensorsFile() {
  if (data_) munmap(data_, bytes_);
}

Result<Tensor> tensor_view(const SafetensorsFile& file, const std::string& name, const TensorInfo& info) {
  if (!info.dtype) {
    return error(ErrorCode::kUnsupported, "{}: tensor `{}` has type {}, which is not supported", file.path(), name,
                 info.dtype_name);
  }
  int64_t dims[4] = {1, 1, 1, 1};
  for (size_t axis = 0; axis < info.shape.size(); ++axis) {
    int64_t& dim = dims[axis < 3 ? axis : 3];
    dim = axis <= 3 ? info.shape[axis] : dim * info.shape[axis];
  }
  std::byte* data = file.data() + info.offset;
  switch (info.shape.size()) {
    case 0:
    case 1:
      return Tensor(data, *info.dtype, {dims[0]});
    case 2:
      return Tensor(data, *info.dtype, {dims[0], dims[1]});
    case 3:
      return Tensor(data, *info.dtype, {dims[0], dims[1], dims[2]});
    default:
      return Tensor(data, *info.dtype, {dims[0], dims[1], dims[2], dims[3]});
  }
}

}  // namespace hylas
