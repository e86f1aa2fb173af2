#include "transfer/shared_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace hylas {

Result<FileHandle> make_shared_file(size_t bytes) {
  FileHandle file(memfd_create("hylas state", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  const bool made = file.number() >= 0 && ftruncate(file.number(), static_cast<off_t>(bytes)) == 0 &&
                    fcntl(file.number(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0;
  if (made) return file;
  return error(ErrorCode::kIo, "no shared memory of {} bytes: {}", bytes, std::strerror(errno));
}

Status put_in_place(int file, void* data, size_t bytes) {
  if (bytes == 0) return {};
  if (mmap(data, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | MAP_NORESERVE, file, 0) == MAP_FAILED) {
    return error(ErrorCode::kIo, "{} bytes cannot be shared: {}", bytes, std::strerror(errno));
  }
  madvise(data, bytes, MADV_HUGEPAGE);
  return {};
}

Result<Mapping> Mapping::of(int file, size_t bytes) {
  struct stat about{};
  const int seals = fcntl(file, F_GET_SEALS);
  if (fstat(file, &about) != 0 || std::cmp_less(about.st_size, bytes) || seals < 0 || !(seals & F_SEAL_SHRINK)) {
    return error(ErrorCode::kInvalid, "a file that is not {} bytes of shared memory", bytes);
  }
  Mapping mapping;
  if (bytes == 0) return mapping;
  void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, file, 0);
  if (data == MAP_FAILED) {
    return error(ErrorCode::kIo, "{} bytes of shared memory cannot be mapped: {}", bytes, std::strerror(errno));
  }
  madvise(data, bytes, MADV_HUGEPAGE);
  mapping.data_ = static_cast<std::byte*>(data);
  mapping.bytes_ = bytes;
  return mapping;
}

Mapping& Mapping::operator=(Mapping&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

Mapping::~Mapping() {
  if (data_ != nullptr) munmap(data_, bytes_);
}

}  // namespace hylas
